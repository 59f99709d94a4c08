"""Folders of explained slides for tests: painted slides, and scores that are made up."""

from pathlib import Path

import numpy as np
from PIL import Image

from gigassl.evaluate.explain.record import ExplainedSlide, save_record, scale_of
from gigassl.report.tile_map import TileMap
from gigassl.report.tile_scores import PICTURE, SCORES, save_scores
from gigassl.report.tile_sheet import SHEET, save_tile_sheet
from gigassl.slides.reader import open_slide
from gigassl.slides.slide_files import save_image

COLS, ROWS, SIDE = 7, 5, 64
SIZE_L0 = (COLS * SIDE + 30, ROWS * SIDE)


def record_of(
    slide_id: str, *, meaning: str = "attention", explained: str = "yes", y_true: str = "yes",
    method: str = "abmil", size: tuple[int, int] = SIZE_L0,
) -> ExplainedSlide:  # fmt: skip
    """A record of two classes, of which "yes" has a probability of 0.75."""
    other = "no" if explained != "no" else "yes"
    return ExplainedSlide(
        digest="d", slide_id=slide_id, patient_id=slide_id, model="fold-1", method=method,
        learned_from=False, explained=explained, asked="predicted", y_true=y_true,
        answer={explained: 0.75, other: 0.25}, meaning=meaning, how=f"how of {meaning}", output=1.0,
        offset=0.0, completeness_error=None, n_tiles=COLS * ROWS, n_unseen=0, width_l0=size[0],
        height_l0=size[1], mpp_l0=0.5,
    )  # fmt: skip


def save_explained(folder: Path, record: ExplainedSlide, *, seed: int, sheet: bool = True) -> None:
    """Writes the files that a page reads of a slide, as ``gigassl explain`` does."""
    rng = np.random.default_rng(seed)
    row, col = np.mgrid[:ROWS, :COLS].reshape(2, -1)
    tiles = TileMap(
        slide_id=record.slide_id, coords=np.stack([col, row], axis=1).astype(np.int64) * SIDE,
        side_l0=float(SIDE), score=rng.normal(size=ROWS * COLS), mpp_l0=0.5,
        signed=record.meaning == "contribution", width_l0=SIZE_L0[0], height_l0=SIZE_L0[1],
    )  # fmt: skip
    home = folder / record.slide_id
    home.mkdir(parents=True)
    save_scores(tiles, home / SCORES)
    if sheet:
        image = np.full((tiles.height_l0, tiles.width_l0, 3), 235, np.uint8)
        colours = np.stack([200 - 4 * np.arange(35), 20 + 5 * np.arange(35), 0 * row + 160], axis=1)
        for (x, y), colour in zip(tiles.coords.tolist(), colours, strict=True):
            image[y + 4 : y + SIDE - 4, x + 4 : x + SIDE - 4] = colour
        Image.fromarray(image).save(home / PICTURE, "JPEG")
        save_image(image, folder / f"{seed}.svs", mpp=0.5)
        with open_slide(folder / f"{seed}.svs") as slide:
            save_tile_sheet(slide, tiles, home / SHEET, scale=scale_of(record))
    save_record(record, home)
