"""The demo: a small cohort of synthetic slides, embedded, with their nearest neighbours."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gigassl.pipeline.embed import EmbedResult, embed
from gigassl.pipeline.jobs import RunOptions
from gigassl.pipeline.progress import Progress
from gigassl.slides.cohort import read_cohort
from gigassl.slides.synthetic import make_cohort
from gigassl.vectors.search import Neighbour, all_nearest


@dataclass(frozen=True, kw_only=True)
class DemoSlide:
    """One slide of the demo: what was painted, and which other slide is most alike."""

    slide_id: str
    composition: str
    arrangement: str
    n_tiles: int
    nearest: Neighbour
    nearest_composition: str


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """What the demo made and found."""

    folder: Path
    result: EmbedResult
    slides: Sequence[DemoSlide]


def demo(folder: Path, *, n_slides: int = 12, seed: int = 0, progress: Progress) -> DemoResult:
    """Paints slides into ``folder/slides``, embeds them, and looks up each one's neighbour."""
    cohort_csv = make_cohort(folder / "slides", n_slides=n_slides, seed=seed)
    cohort = read_cohort(cohort_csv)
    options = RunOptions(overviews=folder / "overviews")
    result = embed(cohort, folder / "vectors.parquet", options=options, progress=progress)
    labels = {slide.slide_id: slide.labels for slide in cohort.slides}
    if result.table is None:
        return DemoResult(folder=folder, result=result, slides=())
    found = all_nearest(result.table, k=1)
    slides = []
    for row in result.table.rows():
        (neighbour,) = found[row.slide_id]
        slides.append(
            DemoSlide(
                slide_id=row.slide_id,
                composition=labels[row.slide_id]["composition"],
                arrangement=labels[row.slide_id]["arrangement"],
                n_tiles=row.n_tiles,
                nearest=neighbour,
                nearest_composition=labels[neighbour.slide_id]["composition"],
            )
        )
    return DemoResult(folder=folder, result=result, slides=slides)
