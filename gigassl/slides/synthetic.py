"""Synthetic slides and cohorts with two known labels: composition, and arrangement of the same."""

import csv
from dataclasses import replace
from pathlib import Path

from gigassl.errors import SettingsError
from gigassl.files import written_whole
from gigassl.slides.compose import SyntheticSlide, paint_slide
from gigassl.slides.disturb import PenColour
from gigassl.slides.slide_files import SlideFileSettings, save_image, save_tiled_slide
from gigassl.slides.synthetic_settings import Arrangement, SyntheticSettings

__all__ = [
    "COMPOSITIONS",
    "SlideFileSettings",
    "SyntheticSettings",
    "SyntheticSlide",
    "make_cohort",
    "paint_slide",
    "save_slide",
    "save_tiled_slide",
]

COMPOSITIONS: dict[str, tuple[float, ...]] = {
    "tumour-rich": (0.34, 0.36, 0.12, 0.08, 0.10, 0.0),
    "inflamed": (0.34, 0.10, 0.12, 0.34, 0.10, 0.0),
}
_COLUMNS = ("slide_id", "path", "patient_id", "mpp", "composition", "arrangement")
_PENS: tuple[PenColour | None, ...] = (None, None, "green", None, None, "blue")


def save_slide(
    slide: SyntheticSlide, path: Path, *, settings: SlideFileSettings | None = None
) -> None:
    """Writes a painted slide as a pyramidal, JPEG-tiled file that OpenSlide opens."""
    save_image(slide.image, path, mpp=slide.settings.mpp, settings=settings)


def make_cohort(folder: Path, *, n_slides: int = 12, seed: int = 0, side_px: int = 3136) -> Path:
    """Paints a cohort and writes its slides and ``cohort.csv``; same arguments, same bytes.

    The two labels cross: each composition holds as many mixed as clustered slides. Some patients
    have two slides (of the same labels). Of every six slides one carries a green pen mark, one a
    blue one, one a black border, and one hides its resolution, which only the table then says.

    Args:
        folder: made if missing.
        n_slides: slides to paint.
        seed: decides everything.
        side_px: side of the slides at 0.5 µm/px.

    Returns:
        Path of ``cohort.csv``, with the columns ``slide_id, path, patient_id, mpp, composition,
        arrangement``.

    Raises:
        SettingsError: ``n_slides`` below 1.
    """
    if n_slides < 1:
        raise SettingsError(f"a cohort needs at least one slide; got {n_slides}")
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / "cohort.csv"
    rows = [_save_member(folder, i, seed=seed, side_px=side_px) for i in range(n_slides)]
    with written_whole(table) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return table


def _save_member(folder: Path, i: int, *, seed: int, side_px: int) -> dict[str, str]:
    """Paints and saves slide ``i``; its row of the table."""
    combination, turn = i % 4, i // 4
    composition = list(COMPOSITIONS)[combination % 2]
    arrangement: Arrangement = "clustered" if combination >= 2 else "mixed"
    # of every three slides with the same labels the first two are one patient's
    patient = combination + 4 * ((2 * turn) // 3)
    slide_id = f"synthetic-{i + 1:03d}"
    settings = SyntheticSettings(
        width_px=side_px,
        height_px=side_px,
        seed=1000 * seed + i,
        composition=COMPOSITIONS[composition],
        arrangement=arrangement,
    )
    # in steps that do not follow the labels
    settings = replace(settings, pen=_PENS[i % len(_PENS)], border=i % 6 == 4, dust=i % 5 == 1)
    hides_mpp = i % 6 == 3
    path = folder / f"{slide_id}.{'tiff' if hides_mpp else 'svs'}"
    file_settings = SlideFileSettings(
        vendor="generic" if hides_mpp else "aperio", with_mpp=not hides_mpp
    )
    save_slide(paint_slide(settings), path, settings=file_settings)
    return {
        "slide_id": slide_id,
        "path": path.name,
        "patient_id": f"patient-{patient + 1:02d}",
        "mpp": "0.5" if hides_mpp else "",
        "composition": composition,
        "arrangement": arrangement,
    }
