"""Small labelled images of painted tissue on disk, of several patients."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from gigassl.slides.paint import STAIN_OD, TissueType, colour_stains, paint_stains


def tissue_square(
    tissue: TissueType, *, side_px: int, seed: int, stain: float = 1.0
) -> UInt8[np.ndarray, "row col 3"]:
    """An RGB square of one tissue type at 1 µm/px."""
    stains = paint_stains(tissue, side_px=side_px, mpp=1.0, rng=np.random.default_rng(seed))
    return colour_stains(stains * np.float32(stain), stain_od=STAIN_OD, glass_rgb=np.full(3, 243.0))


def write_class_folders(
    folder: Path, *, patients: int = 6, per_patient: int = 3, side_px: int = 64
) -> None:
    """``tumour/p0_0.png`` … and ``stroma/…``: stain differs between patients more than classes."""
    types: tuple[TissueType, TissueType] = ("tumour", "stroma")
    for number, tissue in enumerate(types):
        (folder / tissue).mkdir(parents=True)
        for patient in range(patients):
            for k in range(per_patient):
                square = tissue_square(
                    tissue, side_px=side_px, seed=1000 * number + 100 * patient + k,
                    stain=(0.5, 1.5, 1.0)[patient % 3],
                )  # fmt: skip
                Image.fromarray(square).save(folder / tissue / f"p{patient}_{k}.png")


def write_table(folder: Path, *, header: str = "path,label,patient") -> Path:
    """A table of the class folders' images."""
    rows = [header]
    for path in sorted(folder.glob("*/*.png")):
        patient = path.stem.partition("_")[0]
        rows.append(f"{path.relative_to(folder).as_posix()},{path.parent.name},{patient}")
    table = folder / "images.csv"
    table.write_text("\n".join(rows) + "\n")
    return table
