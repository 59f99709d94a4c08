"""The demo: synthetic slides, embedded by pooling and by a trained encoder, and both judged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gigassl.bags.bank_draws import DrawSettings
from gigassl.evaluate.splits import SplitSettings
from gigassl.pipeline.bank import BankSettings, encode_bank
from gigassl.pipeline.embed import EmbedSettings, embed
from gigassl.pipeline.embed_result import EmbedResult
from gigassl.pipeline.evaluation import TaskOptions
from gigassl.pipeline.failures import Failure
from gigassl.pipeline.fewshot import PREDICTIONS, FewshotOptions, fewshot
from gigassl.pipeline.fewshot_result import FewshotResult
from gigassl.pipeline.jobs import RunOptions
from gigassl.pipeline.pretrain import PretrainOptions, pretrain
from gigassl.pipeline.pretrain_result import PretrainResult
from gigassl.pipeline.progress import Progress
from gigassl.pipeline.report import ReportOptions, report_page
from gigassl.report.page.figure import lacking
from gigassl.slides.cohort import Cohort, read_cohort
from gigassl.slides.synthetic import make_cohort
from gigassl.training.monitors import Monitor
from gigassl.vectors.pretrain.settings import PretrainSettings
from gigassl.vectors.search import Neighbour, all_nearest
from gigassl.vectors.views import ViewSettings

_DRAWS = DrawSettings(augmentations=8, tiles=16)
# a dozen slides are no cohort: larger views and a tenth of the published learning rate
_TRAINING = PretrainSettings(epochs=100, lr=0.003, views=ViewSettings(tiles=16))
_SPLITS = SplitSettings(folds=2, train_sizes=("k=2", "full"), draws=3)
FEWEST = 12
"""Slides below which halves of the patients are too few to learn a label from."""


@dataclass(frozen=True, kw_only=True)
class DemoSlide:
    """One slide of the demo: what was painted, and which slide is most alike by either vector.

    Attributes:
        by_mean: nearest slide by the mean of tile features.
        by_learned: nearest slide by the slide encoder trained in the demo.
    """

    slide_id: str
    composition: str
    arrangement: str
    n_tiles: int
    by_mean: Neighbour
    by_learned: Neighbour


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """What the demo made and found.

    Attributes:
        folder: where it all is.
        mean, training, learned: vectors by the mean, the slide encoder, vectors by it.
        slides: one a slide that has both vectors.
        hits: neighbours of the same composition, by either vector.
        worth: probes of both, controls and a MIL model; None of fewer than ``FEWEST`` slides.
        report: the page that shows it all; None without the extra ``report``.
    """

    folder: Path
    mean: EmbedResult
    training: PretrainResult
    learned: EmbedResult
    slides: Sequence[DemoSlide]
    hits: Mapping[str, int]
    worth: FewshotResult | None
    report: Path | None

    @property
    def scores(self) -> Mapping[str, float]:
        """AUC of the composition by every method that learned from all training slides."""
        if self.worth is None or self.worth.compared is None:
            return {}
        full = self.worth.compared.comparison.tables[-1]
        return {row.method: row.scores["auc"].mean for row in full.rows}

    @property
    def failures(self) -> Sequence[Failure]:
        """Slides that came to nothing anywhere."""
        return (*self.mean.failures, *self.training.failures, *self.learned.failures)


def demo(
    folder: Path, *, n_slides: int = 12, seed: int = 0, progress: Progress, monitor: Monitor
) -> DemoResult:
    """Paints slides into ``folder/slides``, embeds them twice, and asks what the vectors are worth.

    First by the mean of their tiles; then by a slide encoder trained on a small augmented bank
    of the same slides, without their labels. Both are probed, beside controls and a MIL model.

    Raises:
        SettingsError: fewer than one slide, or a folder that holds something else.
        BusyError: another run writes there.
        MachineError: disk full, read-only folder.
    """
    labels = make_cohort(folder / "slides", n_slides=n_slides, seed=seed)
    cohort = read_cohort(labels)
    seen = RunOptions(overviews=folder / "overviews", keep_bags=folder / "bags")
    mean = embed(cohort, folder / "vectors-mean.parquet", options=seen, progress=progress)
    encode_bank(
        cohort, folder / "bank", settings=BankSettings(draws=replace(_DRAWS, seed=seed)),
        progress=progress,
    )  # fmt: skip
    training = pretrain(
        folder / "bank", folder / "slide-encoder.safetensors", monitor=monitor,
        settings=replace(_TRAINING, seed=seed),
        options=PretrainOptions(label_column="composition"),
    )  # fmt: skip
    learned = embed(
        folder / "bags", folder / "vectors.parquet",
        settings=EmbedSettings(slide_encoder=str(training.out)), progress=progress,
    )  # fmt: skip
    slides = _compared(cohort, mean, learned)
    worth = None
    if n_slides >= FEWEST:
        worth = _worth(folder, labels, training=training, learned=learned, mean=mean)
    return DemoResult(
        folder=folder,
        mean=mean,
        training=training,
        learned=learned,
        slides=slides,
        hits={
            "mean": _hits(slides, {s.slide_id: s.by_mean for s in slides}),
            "learned": _hits(slides, {s.slide_id: s.by_learned for s in slides}),
        },
        worth=worth,
        report=_report(folder, labels, vectors=Path(learned.out), judged=worth is not None),
    )


def _worth(
    folder: Path, labels: Path, *, training: PretrainResult, learned: EmbedResult,
    mean: EmbedResult,
) -> FewshotResult:  # fmt: skip
    return fewshot(
        [Path(learned.out), Path(mean.out)], folder / "worth",
        task=TaskOptions(labels=labels, target="composition", split=_SPLITS),
        options=FewshotOptions(
            probes=("giga-ssl",), bags=folder / "bags", mil=("abmil",), slide_encoder=training.out
        ),
    )  # fmt: skip


def _report(folder: Path, labels: Path, *, vectors: Path, judged: bool) -> Path | None:
    if lacking("plotly", "jinja2"):
        return None
    options = ReportOptions(
        labels=(labels,), slides=labels, target="composition", title="gigassl demo",
        predictions=(str(folder / "worth" / PREDICTIONS),) if judged else (),
        umap=False,  # of a dozen slides the two main components show as much
    )  # fmt: skip
    return report_page(vectors, folder / "report.html", options=options).out


def _compared(cohort: Cohort, mean: EmbedResult, learned: EmbedResult) -> list[DemoSlide]:
    """Slides that have both vectors, with their neighbours."""
    if mean.table is None or learned.table is None:
        return []
    by_mean, by_learned = all_nearest(mean.table, k=1), all_nearest(learned.table, k=1)
    n_tiles = {row.slide_id: row.n_tiles or 0 for row in mean.table.rows()}
    return [
        DemoSlide(
            slide_id=slide.slide_id,
            composition=slide.labels["composition"],
            arrangement=slide.labels["arrangement"],
            n_tiles=n_tiles[slide.slide_id],
            by_mean=by_mean[slide.slide_id][0],
            by_learned=by_learned[slide.slide_id][0],
        )
        for slide in cohort.slides
        if slide.slide_id in by_mean and slide.slide_id in by_learned
    ]


def _hits(slides: Sequence[DemoSlide], nearest: Mapping[str, Neighbour]) -> int:
    composition = {slide.slide_id: slide.composition for slide in slides}
    return sum(
        composition.get(nearest[slide.slide_id].slide_id) == slide.composition for slide in slides
    )
