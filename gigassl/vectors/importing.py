"""Published Giga-SSL slide encoders (``.pth``) as slide models of ours."""

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gigassl.bags.pca_pickle import read_pca
from gigassl.bags.reduction import Reduction
from gigassl.errors import SettingsError
from gigassl.tiles.records import ENCODERS
from gigassl.tiles.weights import Checkpoint, load_checkpoint
from gigassl.vectors.mlp import ResidualMlp
from gigassl.vectors.scm import SparseConvEncoder
from gigassl.vectors.slide_model import SlideEncoderRecord, SlideModel

_TILE_PX = 224  # side of a tile in every published model
_DOWNMAP = 224  # level-0 px a cell, where the file does not say it


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """How one published network is written down.

    Attributes:
        network: our class.
        modules: our module → the published one.
        first: the published tensor by which the layout is known; its shape gives the widths.
        options: keywords of our class, of the numbers and texts in the file.
    """

    network: Callable[..., nn.Module]
    modules: Mapping[str, str]
    first: str
    options: Callable[[Mapping[str, Any]], dict[str, Any]]


_SAME = ("conv1", "norm1", "conv2", "norm2")
_SCM = _Layout(
    network=SparseConvEncoder,
    modules={
        **{f"blocks.{i}.{name}": f"sparse_pooling.0.{i}.{name}" for i in (0, 1) for name in _SAME},
        "blocks.0.skip": "sparse_pooling.0.0.convd",
        "blocks.0.skip_norm": "sparse_pooling.0.0.normd",
    },
    first="sparse_pooling.0.0.conv1.weight",
    options=lambda _values: {"rounding": "down"},
)
_MLP_LAYERS = {
    "blocks.0.skip": "tile_encoder.0.residual_lin",
    "blocks.0.first": "tile_encoder.0.block.0",
    "blocks.0.second": "tile_encoder.0.block.1",
    "blocks.1.first": "tile_encoder.1.block.0",
    "blocks.1.second": "tile_encoder.1.block.1",
}
_MLP = _Layout(
    network=ResidualMlp,
    modules={
        **{f"{ours}.linear": f"{theirs}.block.0" for ours, theirs in _MLP_LAYERS.items()},
        **{f"{ours}.norm": f"{theirs}.norm" for ours, theirs in _MLP_LAYERS.items()},
    },
    first="tile_encoder.0.block.0.block.0.weight",
    options=lambda values: {"dropout": _number(values, "dropout", default=0.1)},
)
_LAYOUTS: Mapping[str, _Layout] = {"scm": _SCM, "mlp": _MLP}


def read_published(
    path: Path, *, tile_encoder: str = "", mpp: float | None = None, pca: Path | None = None
) -> SlideModel:
    """A published Giga-SSL checkpoint, ``scm`` or ``mlp``, in evaluation mode.

    The vector of these models is taken before projector and classifier, so neither is imported.
    They take coordinates in level-0 px and were trained on views of five tiles from anywhere
    (arXiv 2212.03273, bioRxiv 10.1101/2023.12.04.569894).

    Args:
        path: the ``.pth`` file; opened without running any code of it.
        tile_encoder: name of the tile encoder that it was trained on, which no file says.
        mpp: µm/px at which the tiles of 224 px were read.
        pca: the authors' pickled PCA, where tile features are wider than the network.

    Raises:
        SettingsError: another kind of file, or a PCA or tile encoder that does not fit it.
    """
    if mpp is not None and not 0 < mpp < math.inf:
        raise SettingsError(f"mpp must be a positive number of µm/px; got {mpp}")
    checkpoint = load_checkpoint(path)
    architecture, prefix = _layout_of(checkpoint, path)
    layout, values = _LAYOUTS[architecture], _flat(checkpoint.values)
    dim, width = _widths(checkpoint.tensors[f"{prefix}{layout.first}"], architecture, path)
    reduction = None if pca is None else read_pca(pca)
    record = SlideEncoderRecord(
        architecture=architecture,
        options={"width": width, **layout.options(values)},
        dim=_dim_of_tiles(dim, reduction, pca=pca, tile_encoder=tile_encoder),
        width=width,
        coords_unit="px_l0",
        cell=_number(values, "downmap", default=_DOWNMAP),
        tiles_per_view=5,
        window="scatter",
        tile_encoder=tile_encoder,
        mpp=mpp,
        tile_um=None if mpp is None else _TILE_PX * mpp,
        training=_origin(path, pca, values),
    )
    with torch.device("meta"):  # shapes only: the weights come from the file
        network = layout.network(dim=dim, cell=record.cell, **record.options)
    weights = {
        name: _converted(name, checkpoint, prefix=prefix, layout=layout, path=path)
        for name in network.state_dict()
    }
    try:
        network.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        raise SettingsError(f"{path} is not the published {architecture}: {error}") from error
    return SlideModel(record=record, network=network.eval(), reduction=reduction)


def _layout_of(checkpoint: Checkpoint, path: Path) -> tuple[str, str]:
    """Name of the layout, and the prefix behind which the network lies."""
    for name, layout in _LAYOUTS.items():
        prefixes = [
            key.removesuffix(layout.first)
            for key in checkpoint.tensors
            if key == layout.first or key.endswith(f".{layout.first}")
        ]
        if prefixes:
            # files hold the network twice, as "backbone" and again inside "encoder"
            return name, min(prefixes, key=lambda prefix: ("backbone" not in prefix, prefix))
    first = next(iter(checkpoint.tensors), "")
    expected = " or ".join(f"'….{layout.first}'" for layout in _LAYOUTS.values())
    raise SettingsError(
        f"{path} is no published Giga-SSL slide encoder: among its {len(checkpoint.tensors)} "
        f"tensors (the first is '{first}') there is none like {expected}; tile encoders need no "
        "import, give the file to --tile-encoder"
    )


def _converted(
    name: str, checkpoint: Checkpoint, *, prefix: str, layout: _Layout, path: Path
) -> Tensor:
    """The published tensor that belongs under our name, in our shape."""
    module, _, kind = name.rpartition(".")
    published = f"{prefix}{layout.modules[module]}.{kind}"
    if published not in checkpoint.tensors:
        if kind == "num_batches_tracked":  # SparseConvNet does not count; without effect
            return torch.zeros((), dtype=torch.int64)
        raise SettingsError(f"{path} lacks the tensor '{published}'; it is damaged or not whole")
    tensor = checkpoint.tensors[published]
    if not bool(torch.isfinite(tensor).all()):
        raise SettingsError(f"{path}: '{published}' holds values that are not finite")
    if kind == "num_batches_tracked":
        return tensor
    if tensor.ndim == 4:  # [position, 1, in, out]
        tensor = tensor[:, 0]
    if module.endswith(".skip"):  # a filter of one position is a linear layer, [out, in]
        tensor = tensor[0].T
    return tensor.float().contiguous()


def _widths(first: Tensor, architecture: str, path: Path) -> tuple[int, int]:
    """Width of the tile features and of the vectors."""
    if first.ndim < 2:
        raise SettingsError(
            f"{path} is not the published {architecture}: its first weight has the shape "
            f"{tuple(first.shape)}"
        )
    last, other = first.shape[-1], first.shape[-2]
    return (last, other) if architecture == "mlp" else (other, last)


def _dim_of_tiles(
    dim: int, reduction: Reduction | None, *, pca: Path | None, tile_encoder: str
) -> int:
    if reduction is not None:
        n_kept, wide = reduction.components.shape
        if n_kept != dim:
            raise SettingsError(
                f"{pca} reduces to {n_kept} columns, but the slide encoder takes {dim}; give the "
                "PCA that was published with it"
            )
        dim = wide
    known = ENCODERS.get(tile_encoder)
    if known is not None and known.dim != dim:
        advice = "" if reduction is not None else "; give the PCA published with it (--pca)"
        raise SettingsError(
            f"features of {tile_encoder} have {known.dim} columns, but {dim} are expected{advice}"
        )
    return dim


def _origin(path: Path, pca: Path | None, values: Mapping[str, Any]) -> dict[str, Any]:
    """Where the model came from, for the record."""
    origin: dict[str, Any] = {"imported_from": path.name, "sha256": _sha256(path)}
    if isinstance(values.get("epoch"), int):
        origin["epoch"] = values["epoch"]
    if pca is not None:
        origin |= {"pca": pca.name, "pca_sha256": _sha256(pca)}
    return origin


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of the file and of its settings in one dictionary."""
    groups = [group for group in values.values() if isinstance(group, Mapping)]
    single = {key: value for key, value in values.items() if not isinstance(value, Mapping)}
    return {key: value for group in (*groups, single) for key, value in group.items()}


def _number(values: Mapping[str, Any], name: str, *, default: float) -> float:
    value = values.get(name, default)
    if not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise SettingsError(f"the checkpoint's setting {name} is {value!r}, not a number from 0 up")
    return float(value)
