"""Sixty tiny slides, a few of them bad, made in seconds."""

from pathlib import Path

from gigassl.slides.slide_files import SlideFileSettings, save_image
from gigassl.slides.synthetic import SyntheticSettings, paint_slide

SIDE = 672
TILE_PX = 112
FAST = ("--tile-encoder", "nic:mean-rgb", "--tile-px", TILE_PX, "--device", "cpu", "--workers", 1)
"""The encoder that costs nothing: what is tested is what lies around it."""


def save_slides(folder: Path, n: int, *, n_bad: int = 0) -> Path:
    """n slides of one painted picture, each cut elsewhere; the last ``n_bad`` are damaged."""
    folder.mkdir(parents=True, exist_ok=True)
    painted = paint_slide(SyntheticSettings(width_px=1792, height_px=1792, seed=7)).image
    stored = SlideFileSettings(tile_px=224, downsamples=(1, 4))
    for k in range(n):
        top, left = 16 * (k % 8) + 420, 16 * (k // 8) + 420
        path = folder / f"s{k:03d}.svs"
        save_image(painted[top : top + SIDE, left : left + SIDE], path, mpp=0.5, settings=stored)
        if k >= n - n_bad:
            data = path.read_bytes()
            path.write_bytes((data[: len(data) // 2], b"", b"not a slide")[k % 3])
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too: equal runs leave equal ones."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
