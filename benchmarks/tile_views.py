"""Random views of tiles, against torchvision's transforms one tile after the other.

    python -m benchmarks.tile_views [--tiles 64] [--reps 5] [--threads 1] [--device cpu]

Contenders take turns on the same smooth tiles in memory; a view is cropped, resized, mirrored,
turned, moved in colour, made grey, blurred and normalised. torchvision has no stain jitter, so
the ratio is taken without it on both sides; "with stain jitter" is what trainings use. "uint8" and
"PIL" are the two ways in which torchvision's users hold a tile. "memory copy" is the limit: the
bytes of the tile read and those of the view written, nothing computed.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from benchmarks.report import line
from gigassl.tiles.augmentation import AugmentationSettings
from gigassl.tiles.pretrain.settings import HISTOLOGY, TileViewSettings
from gigassl.tiles.pretrain.views import draw_views
from gigassl.tiles.records import IMAGENET

SIDES = ((256, 224), (64, 64))
NO_STAIN = replace(HISTOLOGY, stain=0.0)
MEAN, STD = IMAGENET


def tiles_of(n: int, side_px: int) -> Tensor:
    """Smooth coloured tiles."""
    coarse = torch.rand(
        n, 3, side_px // 8, side_px // 8, generator=torch.Generator().manual_seed(0)
    )
    smooth = torch.nn.functional.interpolate(coarse, size=side_px, mode="bilinear")
    return (smooth * 255).byte().permute(0, 2, 3, 1).contiguous()


def ours(tiles: Tensor, what: AugmentationSettings, *, side_px: int) -> Callable[[int], object]:
    """Both large views of each tile."""
    settings = TileViewSettings(first=what, second=what, side_px=side_px)

    def run(rep: int) -> object:
        generator = torch.Generator().manual_seed(rep)
        views = draw_views(tiles, settings=settings, mean=MEAN, std=STD, generator=generator)
        if tiles.is_cuda:
            torch.cuda.synchronize()
        return views

    return run


def quarter_turned(image: Tensor) -> Tensor:
    """A random quarter turn, which torchvision has only with resampling."""
    return torch.rot90(image, int(torch.randint(0, 4, ())), (-2, -1))


def torchvisions(what: AugmentationSettings, *, side_px: int) -> tuple[v2.Transform, v2.Transform]:
    """The same recipe in torchvision's words: of an image, and then of a tensor."""
    jitter = v2.ColorJitter(what.brightness, what.contrast, what.saturation, what.hue)
    of_image = v2.Compose(
        [
            v2.RandomResizedCrop(side_px, scale=what.crop_area, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.RandomVerticalFlip(),
            v2.RandomApply([jitter], p=what.jitter_p),
            v2.RandomGrayscale(what.grey_p),
            v2.RandomApply([v2.GaussianBlur(what.blur_px, what.blur_sigma)], p=what.blur_p),
        ]
    )
    of_tensor = v2.Compose(
        [v2.Lambda(quarter_turned), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    )
    return of_image, of_tensor


def per_tile(tiles: Tensor, *, side_px: int, pil: bool) -> Callable[[int], object]:
    """Two views of each tile, one after the other, stacked as a loader does."""
    of_image, of_tensor = torchvisions(NO_STAIN, side_px=side_px)
    images = [Image.fromarray(tile.numpy()) for tile in tiles] if pil else tiles.permute(0, 3, 1, 2)

    def run(rep: int) -> object:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(rep)
            made = [of_image(image) for _ in range(2) for image in images]
            views = [of_tensor(v2.functional.pil_to_tensor(m) if pil else m) for m in made]
        return [torch.stack(views[: len(tiles)]), torch.stack(views[len(tiles) :])]

    return run


def copies(tiles: Tensor, *, side_px: int) -> Callable[[int], object]:
    """The memory that two views of each tile need to move."""
    view = torch.zeros(3, side_px, side_px, device=tiles.device)

    def run(rep: int) -> object:
        read = [tiles.clone() for _ in range(2)]
        return read, [view.expand(len(tiles), -1, -1, -1).contiguous() for _ in range(2)]

    return run


def rates(
    contenders: dict[str, Callable[[int], object]], *, n_views: int, reps: int
) -> dict[str, float]:
    """Views a second of each contender: the median of repeats in turn, after one for warming up."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for rep in range(reps + 1):
        for name, run in contenders.items():
            start = time.perf_counter()
            run(rep)
            seconds[name].append(time.perf_counter() - start)
    return {name: n_views / median(values[1:]) for name, values in seconds.items()}


def compare(*, n_tiles: int, reps: int, device: str) -> None:
    for source_px, side_px in SIDES:
        tiles = tiles_of(n_tiles, source_px)
        there = tiles.to(device)
        contenders = {
            "ours": ours(there, NO_STAIN, side_px=side_px),
            "ours with stain jitter": ours(there, HISTOLOGY, side_px=side_px),
            "torchvision uint8": per_tile(tiles, side_px=side_px, pil=False),
            "torchvision PIL": per_tile(tiles, side_px=side_px, pil=True),
            "memory copy": copies(there, side_px=side_px),
        }
        found = rates(contenders, n_views=2 * n_tiles, reps=reps)
        where = f"{source_px} to {side_px} px"
        for name, rate in found.items():
            line(f"views/{where}/{name}", rate, unit="views/s")
        peer = max(found["torchvision uint8"], found["torchvision PIL"])
        line(f"views/{where}/ours over the faster torchvision", found["ours"] / peer, unit="×")
        line(f"views/{where}/share of memory copy", found["ours"] / found["memory copy"], unit="")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiles", type=int, default=64)
    parser.add_argument("--reps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    compare(n_tiles=asked.tiles, reps=asked.reps, device=asked.device)


if __name__ == "__main__":
    main()
