"""What a bank is to be: its slides, settings and reduction, and what a folder holds of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gigassl.bags.bank_draws import DrawSettings
from gigassl.bags.bank_info import JOURNAL, REDUCTION, BankInfo
from gigassl.bags.bank_journal import Journal, read_journal
from gigassl.bags.prepare import TileSettings
from gigassl.bags.reduction import Reduction, digest_of_reduction
from gigassl.digests import digest_of_settings, plain
from gigassl.errors import SettingsError
from gigassl.pipeline.bank_estimate import BankEstimate, free_bytes, seconds_per_slide
from gigassl.pipeline.bank_reduction import (
    ReductionWish,
    fit_reduction,
    granted,
    parse_reduction,
    sample_of,
    sample_settings,
)
from gigassl.pipeline.bank_stream import Augmenting
from gigassl.pipeline.embed import shard_path
from gigassl.pipeline.jobs import RunOptions, SlideJob, default_workers, known_inputs, provenance_of
from gigassl.slides.cohort import Cohort, CohortSlide, is_bag, read_cohort
from gigassl.tiles.encoders import load_encoder
from gigassl.tiles.engine import TileEncoder
from gigassl.vectors.merge import differing_settings


@dataclass(frozen=True, kw_only=True)
class BankSettings:
    """Everything that decides a bank, beside the tile encoder.

    Attributes:
        tiles: which tiles a slide has.
        draws: how many are drawn, and how they are augmented.
        reduce: "pca:N" stores N columns, fitted on a sample of the cohort; or the
            ``reduction.safetensors`` of another bank; None stores what the encoder gives.
    """

    tiles: TileSettings = field(default_factory=TileSettings)
    draws: DrawSettings = field(default_factory=DrawSettings)
    reduce: str | None = None


class BankJob:
    """One run: what is asked for, what a folder holds of it already, and how the rest is made."""

    def __init__(
        self, source: Path | Cohort, folder: Path, *, encoder: TileEncoder | str,
        settings: BankSettings, options: RunOptions,
    ) -> None:  # fmt: skip
        if options.variants:
            raise SettingsError(
                "a bank holds drawn tiles, and no turned variants of whole slides; turn its tiles "
                "by its augmentation (--turn-tiles)"
            )
        self.whole = _cohort(source, options)
        self.cohort, self.folder = self.whole, folder
        if options.shard is not None:
            index, of = options.shard
            self.cohort = self.whole.shard(index, of=of)
            self.folder = shard_path(folder, index, of=of)
        loaded = load_encoder(encoder) if isinstance(encoder, str) else encoder
        self.slides = SlideJob(encoder=loaded, tiles=settings.tiles, options=options)
        self.how = Augmenting(encoder=loaded, settings=settings.draws)
        self.wish = None if settings.reduce is None else parse_reduction(settings.reduce)
        if self.wish is not None and (self.wish.kept or 0) > loaded.dim:
            raise SettingsError(
                f"--reduce pca:{self.wish.kept} asks for more columns than the {loaded.dim} that "
                f"{loaded.record.name} gives"
            )
        self.workers = options.workers or default_workers(loaded.device)
        self.earlier = _earlier(self.folder)
        self.inputs = known_inputs(self.cohort.slides, masks=options.masks)

    def todo(self) -> list[CohortSlide]:
        """Slides that are not finished, or whose file, mask or mpp changed since."""
        finished = {} if self.earlier is None else self.earlier.slides
        made_from = {name: slide.inputs_digest for name, slide in finished.items()}
        return [
            slide
            for slide in self.cohort.slides
            if made_from.get(slide.slide_id, "") != self.inputs.get(slide.slide_id)
        ]

    def size(self, todo: Sequence[CohortSlide], *, seconds: float | None) -> BankEstimate:
        """What these slides need on disk, and the room there is."""
        return BankEstimate(
            n_slides=len(todo),
            n_bytes=self.info(self.given_reduction()).n_bytes(len(todo)),
            free_bytes=free_bytes(self.folder),
            seconds=seconds,
        )

    def seconds(self, todo: Sequence[CohortSlide]) -> float | None:
        """Time for these slides, measured on a few; None where none could be read."""
        each = seconds_per_slide(
            todo, prepare=self.slides.prepare, how=self.how, workers=self.workers
        )
        if each is None:
            return None
        whole, sample = self.how.settings, sample_settings(self.how.settings)
        share = sample.augmentations * sample.tiles / (whole.augmentations * whole.tiles)
        fits = self.wish is not None and self.given_reduction() is None
        return each * (len(todo) + share * len(sample_of(self.whole.slides)) * fits)

    def given_reduction(self) -> Reduction | None:
        """The reduction that is asked for, unless it must be fitted first."""
        if self.wish is None:
            return None
        stored = self.folder / REDUCTION if self.earlier is not None else None
        digest = self.slides.encoder.digest
        return granted(self.wish, stored=stored, encoder_digest=digest)

    def fitted_reduction(self, wish: ReductionWish) -> Reduction:
        """The reduction, fitted on a sample of the whole cohort, also in a part of a job array."""
        return fit_reduction(
            self.whole.slides, kept=wish.kept or 0, prepare=self.slides.prepare, how=self.how,
            workers=self.workers,
        )  # fmt: skip

    def info(self, reduction: Reduction | None) -> BankInfo:
        """What all slides of the bank will share."""
        encoder, grid, drawn = self.slides.encoder, self.slides.tiles.grid, self.how.settings
        digest = "" if reduction is None else digest_of_reduction(reduction)
        wanted = encoder.dim if self.wish is None else self.wish.kept or encoder.dim
        dim = wanted if reduction is None else len(reduction.components)
        record = {
            **self.slides.settings,
            "bank": plain(drawn),
            "reduction": {"columns": dim, "digest": digest} if self.wish else None,
        }
        return BankInfo(
            encoder=encoder.record.name,
            encoder_digest=encoder.digest,
            encoder_dim=encoder.dim,
            dim=dim,
            settings_digest=digest_of_settings(record),
            mpp=grid.target_mpp,
            tile_px=grid.tile_px,
            tile_um=grid.tile_px * grid.target_mpp,
            augmentations=drawn.augmentations,
            tiles=drawn.tiles,
            draw=drawn.draw,
            seed=drawn.seed,
            augmentation=drawn.augmentation,
            reduction_digest=digest,
            provenance=provenance_of(record, pretrained_on=self.slides.pretrained_on),
        )

    def refuse_other_settings(self, info: BankInfo) -> None:
        """Names what differs from the bank that was begun in the folder.

        Raises:
            SettingsError: something does.
        """
        if self.earlier is None:
            return
        differing = differing_settings(self.earlier.info.provenance, info.provenance)
        if differing:
            said = ", ".join(f"{name}: {old} → {new}" for name, (old, new) in differing.items())
            raise SettingsError(
                f"{self.folder} holds a bank of other settings ({said}); choose another -o, or "
                "remove it"
            )


def _cohort(source: Path | str | Cohort, options: RunOptions) -> Cohort:
    if not isinstance(source, Cohort):
        source = read_cohort(source, slide_dir=options.slide_dir, stores=options.stores)
    if any(is_bag(slide.path) for slide in source.slides):
        raise SettingsError(
            "these are bags, whose tiles cannot be augmented any more; give the slides, or "
            "train on the bags as they are (`gigassl pretrain BAGS`)"
        )
    return source


def _earlier(folder: Path) -> Journal | None:
    return read_journal(folder) if (folder / JOURNAL).is_file() else None
