"""What a slide encoder is trained on: a bank, or a collection of bags, as one tile store."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from gigassl.bags.bag import Bag
from gigassl.bags.bank import Bank, open_bank
from gigassl.bags.bank_info import CARD
from gigassl.bags.reduction import Reduction
from gigassl.digests import digest_of_settings, plain
from gigassl.errors import SettingsError
from gigassl.evaluate.contamination import PRETRAINED_ON
from gigassl.pipeline.bag_job import BagJob
from gigassl.pipeline.failures import Failure, missing_files
from gigassl.pipeline.jobs import RunOptions
from gigassl.pipeline.progress import Progress, Silent
from gigassl.slides.cohort import Cohort, CohortSlide, is_bag, read_cohort
from gigassl.vectors.fitting import TileFacts
from gigassl.vectors.placement import fits
from gigassl.vectors.spool import FeatureSpool
from gigassl.vectors.tile_store import TileStore, store_of_bags, store_of_bank


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """The tiles of a cohort, and what is known of them.

    Attributes:
        store: the tiles.
        facts: what bags a slide encoder trained on them wants.
        digest: of everything that the tiles came from.
        contiguous: whether neighbouring tiles of a slide lie in the store together, as dense
            windows need it.
        reduction: what made the features narrower, if anything.
        labels: columns of the cohort's table, by slide.
        failures: slides that are left out.
        pretrained_on: slides that the tile encoder learned from; {} where not known.
    """

    store: TileStore
    facts: TileFacts
    digest: str
    contiguous: bool
    reduction: Reduction | None = None
    labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    failures: Sequence[Failure] = ()
    pretrained_on: Mapping[str, Any] = field(default_factory=dict)


def training_data(
    source: Path | Cohort, *, options: RunOptions | None = None, default_mpp: float | None = None,
    progress: Progress | None = None, on_grid: bool = False,
) -> TrainingData:  # fmt: skip
    """Opens a bank (which stays on disk), or reads a collection of bags.

    Bags are read into memory where they fit, else into a file among the temporary ones.

    Args:
        source: folder of a bank; or folder or CSV of bags, ours or other tools'.
        options: for bags: workers, names and units that other tools' files do not say.
        default_mpp: level-0 µm/px of slides of which neither bag nor table says it.
        on_grid: of bags, compressed slides: with the cells of their tiles, and with their turned
            variants where they hold them. A bank, whose tiles are drawn, is none.

    Raises:
        SettingsError: neither of the two, or bags of different kinds, or that lie on no grid.
    """
    if isinstance(source, Path) and (source / CARD).is_file():
        return _of_bank(open_bank(source))
    options = replace(options or RunOptions(), variants=on_grid)
    cohort = source if isinstance(source, Cohort) else read_cohort(source)
    if not all(is_bag(slide.path) for slide in cohort.slides):
        raise SettingsError(
            "these are slides; encode them first, best with augmentations: "
            "`gigassl encode SLIDES -o bank --augmentations 50 --tiles 256`"
        )
    job = BagJob(cohort.slides, options=options, default_mpp=default_mpp)
    return _of_bags(job, cohort, progress=progress or Silent(), on_grid=on_grid)


def _of_bank(bank: Bank) -> TrainingData:
    info = bank.info
    return TrainingData(
        store=store_of_bank(bank),
        facts=TileFacts(
            encoder=info.encoder,
            encoder_digest=info.encoder_digest,
            dim=info.encoder_dim,
            mpp=info.mpp,
            tile_um=info.tile_um,
        ),
        digest=digest_of_settings({"bank": plain(info), "slides": plain(bank.slides)}),
        contiguous=info.draw == "window",
        reduction=bank.reduction,
        labels={slide.slide_id: slide.labels for slide in bank.slides},
        pretrained_on=info.provenance.get(PRETRAINED_ON, {}),
    )


def _of_bags(job: BagJob, cohort: Cohort, *, progress: Progress, on_grid: bool) -> TrainingData:
    failures, found = missing_files(cohort), list[tuple[CohortSlide, Bag]]()
    progress.started(len(cohort.slides))
    with _spool(cohort) as spool, closing(job.outcomes(cohort.slides, progress=progress)) as bags:
        for outcome in bags:
            if outcome.bag is not None:
                bag = outcome.bag if spool is None else spool.put(outcome.bag)
                found.append((outcome.source, bag))
            elif outcome.failure is not None:
                failures.append(Failure.of(outcome.source, outcome.failure))
        if not found or job.gives is None:
            raise SettingsError(f"not one of {len(cohort)} bags can be read: {failures[0].reason}")
        features = None if spool is None else spool.features(job.gives.dim)
    made_of: list[Any] = [[s.slide_id, s.patient_id, b.info.inputs_digest] for s, b in found]
    return TrainingData(
        store=store_of_bags(
            [bag for _, bag in found],
            patient_ids=[s.patient_id for s, _ in found],
            on_grid=on_grid,
            features=features,
        ),
        facts=job.gives,
        digest=digest_of_settings({"bags": plain(job.settings), "slides": made_of}),
        contiguous=True,
        labels={source.slide_id: source.labels for source, _ in found},
        failures=tuple(failures),
        pretrained_on=job.pretrained_on,
    )


def _spool(cohort: Cohort) -> AbstractContextManager[FeatureSpool | None]:
    """Where features go that do not fit the memory, where they lie twice for a moment."""
    n_bytes = sum(slide.path.stat().st_size for slide in cohort.slides if slide.path.is_file())
    if fits(2 * n_bytes, torch.device("cpu")):
        return nullcontext()
    return closing(FeatureSpool())
