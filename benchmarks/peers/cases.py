"""What is raced: slides, resolution, network, and who takes part at which precision."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.torch import save_file

from benchmarks.peers.job import THUMBNAIL, bare_network
from gigassl.slides.slide_files import save_image
from gigassl.slides.synthetic import SyntheticSettings, paint_slide
from gigassl.tiles.networks import fill_randomly

PAINTED_PX, FIRST_PX = 5120, 1792


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One contender: the module that drives it, at one precision."""

    module: str
    precision: str = "fp32"

    @property
    def name(self) -> str:
        return self.module if self.precision == "fp32" else f"{self.module}, {self.precision}"


OURS = "gigassl"
PEERS = ("lazyslide", "slide2vec", "plain")
FP32 = tuple(Entry(module=module) for module in (OURS, *PEERS))
# slide2vec leaves fp32 on CUDA only
BF16 = tuple(Entry(module=module, precision="bf16") for module in (OURS, "lazyslide", "plain"))


@dataclass(frozen=True, kw_only=True)
class Case:
    """One race.

    Attributes:
        painted: slides painted, each of another seed; 0: a real slide, where present.
        copies: of each of them, as files of their own.
        repeat: a painted picture is laid so many times in each direction, turned anew.
    """

    name: str
    mpp: float
    network: str
    painted: int = 1
    copies: int = 1
    repeat: int = 1
    tile_px: int = 224
    entries: Sequence[Entry] = FP32


CASES: Mapping[str, Case] = {
    case.name: case
    for case in (
        Case(name="reading", mpp=0.5, network=THUMBNAIL, copies=2, repeat=3),
        # no stored level has this resolution: four times the pixels are read and averaged
        Case(name="reading-x2", mpp=1.0, network=THUMBNAIL, copies=4, repeat=3),
        Case(
            name="encoding", mpp=0.5, network="resnet18", painted=3, entries=(*FP32, *BF16),
        ),
        Case(name="real", mpp=0.5, network="resnet18", painted=0),
    )
}  # fmt: skip


def save_slides(case: Case, folder: Path, *, real: Path | None) -> None:
    """The slides of a case, each a file of its own."""
    folder.mkdir()
    if not case.painted and real is not None:
        (folder / real.name).symlink_to(real)
    for seed in range(case.painted):
        first = folder / f"s{seed}-0.svs"
        save_image(picture(seed, repeat=case.repeat), first, mpp=0.5)
        for copy in range(1, case.copies):
            shutil.copyfile(first, folder / f"s{seed}-{copy}.svs")


def save_first(path: Path) -> None:
    """A small slide for what happens only once."""
    wish = SyntheticSettings(width_px=FIRST_PX, height_px=FIRST_PX, seed=0)
    save_image(paint_slide(wish).image, path, mpp=0.5)


def picture(seed: int, *, repeat: int) -> np.ndarray:
    """Painted tissue on glass, laid ``repeat`` × ``repeat`` times, each time turned or mirrored."""
    side = PAINTED_PX
    painted = paint_slide(SyntheticSettings(width_px=side, height_px=side, seed=seed)).image
    whole = np.empty((side * repeat, side * repeat, 3), np.uint8)
    for place in range(repeat**2):
        top, left = (side * index for index in divmod(place, repeat))
        turned = np.rot90(painted, place % 4)
        whole[top : top + side, left : left + side] = turned[:, ::-1] if place % 8 > 3 else turned
    return whole


def save_checkpoint(name: str, path: Path) -> None:
    """Random weights of a seed, the same for all contenders."""
    network = bare_network(name)
    if name != THUMBNAIL:
        fill_randomly(network, seed=0)
    tensors = {key: tensor.contiguous() for key, tensor in network.state_dict().items()}
    save_file(tensors, path)
