"""Grad-CAM of the slide CNN: where on a slide the features lie that speak for its answer."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from gigassl.evaluate.explain.explanation import Explanation
from gigassl.evaluate.explain.mil import Asked
from gigassl.evaluate.mil.crops import CROPS_AT_ONCE, Crop, CropReader
from gigassl.evaluate.mil.grid_cnn import GridCnn


def grad_cam(
    maps: Float[Tensor, "crop channel row col"], gradients: Float[Tensor, "crop channel row col"]
) -> Float[Tensor, "crop row col"]:
    """Heat of each place: features weighed by the mean of their gradients, where that is positive.

    Selvaraju et al., Grad-CAM (arXiv 1610.02391).

    Args:
        maps: features of a layer.
        gradients: of the answer, by these features.
    """
    weights = gradients.mean(dim=(2, 3), keepdim=True)
    return torch.relu((weights * maps).sum(dim=1))


def explain_crops(model: GridCnn, reader: CropReader, *, asked: Asked) -> Explanation:
    """Grad-CAM of a slide CNN on the crops that its prediction is the mean of.

    Of the first layer, for resolution, as Neural Image Compression has it (arXiv 1811.02840). Each
    tile has the heat at its place in the map, bilinear, and of the crops (and turned variants) that
    hold it the mean. The hottest tile of a slide has 1; a tile in no crop has no score.

    Args:
        model: in evaluation mode.
        reader: of a store of one slide.
        asked: which of the model's numbers is explained.
    """
    first = reader.store.first[0].tolist()
    n_tiles = int(reader.store.count[0, 0])
    total, count = np.zeros(n_tiles), np.zeros(n_tiles, dtype=np.int64)
    answers = list[float]()
    crops = list(reader.test_crops(0))
    for start in range(0, len(crops), CROPS_AT_ONCE):
        some = crops[start : start + CROPS_AT_ONCE]
        heat, said = _heat(model, reader, some, asked=asked)
        answers += said
        for crop, found in zip(some, heat, strict=True):
            # a variant lies behind the last one in the store, its tiles in the same order
            tiles = _tiles_of(crop, first=first)
            np.add.at(total, tiles, found.cpu().numpy())
            np.add.at(count, tiles, 1)
    score = np.full(n_tiles, np.nan)
    score[count > 0] = total[count > 0] / count[count > 0]
    most = np.nanmax(score)
    return Explanation(
        score=score / most if most > 0 else score,
        meaning="grad-cam",
        method=f"Grad-CAM of layer 1, mean over {len(crops)} crops of {model.crop} cells",
        output=float(np.mean(answers)),
    )


def _tiles_of(crop: Crop, *, first: Sequence[int]) -> Int64[np.ndarray, " tile"]:
    rows = crop.rows.cpu().numpy()
    start = max(each for each in first if each <= rows[0])
    found: Int64[np.ndarray, " tile"] = rows - start
    return found


def _heat(
    model: GridCnn, reader: CropReader, crops: Sequence[Crop], *, asked: Asked
) -> tuple[list[Float[Tensor, " _"]], list[float]]:
    """Heat of the tiles of some crops, and what the model says of each crop."""
    bags = reader.packed(crops)
    with torch.enable_grad():
        maps = model.layers[0](model.image(bags)).detach().requires_grad_()
        said = asked.of(model.scores(model.layers[1:](maps)))
        # crops do not meet in evaluation: each gradient is of its own crop's answer
        (gradients,) = torch.autograd.grad(said.sum(), maps)
    heat = grad_cam(maps.detach(), gradients)
    stride = int(model.layers[0].depth.stride[0])  # type: ignore[index]
    found = [
        at_cells(each, crop.cells.to(each.device), stride=stride)
        for each, crop in zip(heat, crops, strict=True)
    ]
    return found, said.detach().double().tolist()


def at_cells(
    heat: Float[Tensor, "row col"], cells: Int64[Tensor, "tile 2"], *, stride: int
) -> Float[Tensor, " tile"]:
    """The heat at cells of the crop that a 3 × 3 convolution without padding made a map of.

    Place i of the map looks at the cells around ``stride · i + 1``; between places the heat is
    bilinear, beyond the outermost it is theirs.
    """
    limit = torch.tensor(heat.shape, device=heat.device) - 1
    place = ((cells.double() - 1) / stride).clamp(min=0).minimum(limit.double())
    low = place.floor().long().minimum((limit - 1).clamp(min=0))
    high = (low + 1).minimum(limit)
    share = (place - low).to(heat.dtype)
    down, across = share[:, 0], share[:, 1]
    top = heat[low[:, 0], low[:, 1]] * (1 - across) + heat[low[:, 0], high[:, 1]] * across
    bottom = heat[high[:, 0], low[:, 1]] * (1 - across) + heat[high[:, 0], high[:, 1]] * across
    return top * (1 - down) + bottom * down
