"""Reading bags encoded before, as the work behind a run."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

from gigassl.bags.bag import Bag, open_bag
from gigassl.bags.bag_header import open_header
from gigassl.bags.info import BagInfo
from gigassl.bags.prepare import inputs_digest
from gigassl.errors import SlideError
from gigassl.evaluate.contamination import PRETRAINED_ON
from gigassl.pipeline.jobs import BAGS, RunOptions
from gigassl.pipeline.progress import Progress
from gigassl.pipeline.sources import Outcomes, read_bags
from gigassl.pipeline.staging import Staging
from gigassl.slides.cohort import CohortSlide
from gigassl.vectors.fitting import facts_of_bag


class BagJob:
    """Reads bags; all must come from one encoder at one resolution, as the first one does."""

    def __init__(
        self, sources: Sequence[CohortSlide], *, options: RunOptions, default_mpp: float | None
    ) -> None:
        self.options, self.default_mpp = options, default_mpp
        self.staging = Staging(options.stores)
        first = self._first_readable(sources)
        self._expected = {} if first is None else _kind(first.info, dim=first.features.shape[1])
        self.settings: Mapping[str, Any] = {BAGS: self._expected}
        self.gives = None if first is None else facts_of_bag(first)
        said = {} if first is None else first.info.provenance.get(PRETRAINED_ON, {})
        self.pretrained_on: Mapping[str, Any] = said
        made_with = {} if first is None else first.info.provenance.get("settings", {})
        self.origin: Mapping[str, Any] = {
            BAGS: {"settings": made_with, "coords_unit": options.coords_unit}
        }

    def _first_readable(self, sources: Sequence[CohortSlide]) -> Bag | None:
        for source in sources:
            try:
                return self._read(source)[0]
            except (SlideError, OSError):
                continue  # it will be listed among the failures when its turn comes
        return None

    def _read(self, source: CohortSlide) -> tuple[Bag, str]:
        """The bag and its inputs digest."""
        local = self.staging.local(source)
        try:
            bag = open_bag(
                local.path, encoder=self.options.bag_encoder, mpp_l0=source.mpp or self.default_mpp,
                coords_unit=self.options.coords_unit, variants=self.options.variants,
            )  # fmt: skip
            return bag, inputs_digest(local)
        finally:
            self.staging.done(source)

    def count_tiles(self, source: CohortSlide) -> int:
        """Tiles of a local bag, of which no features are read.

        Raises:
            SlideError: whatever reading it would raise, save for features that are not finite.
        """
        header = open_header(
            source.path, encoder=self.options.bag_encoder, mpp_l0=source.mpp or self.default_mpp,
            coords_unit=self.options.coords_unit,
        )  # fmt: skip
        self._refuse_other_kind(_kind(header.info, dim=header.dim))
        return header.n_tiles

    def _open_one(self, source: CohortSlide) -> Bag:
        bag, inputs = self._read(source)
        self._refuse_other_kind(_kind(bag.info, dim=bag.features.shape[1]))
        return replace(bag, info=replace(bag.info, slide_id=source.slide_id, inputs_digest=inputs))

    def _refuse_other_kind(self, given: Mapping[str, Any]) -> None:
        expected = self._expected
        differs = [key for key, value in given.items() if value != expected.get(key)]
        if differs:
            sentence = ", ".join(f"{k} {given[k]} instead of {expected.get(k)}" for k in differs)
            raise SlideError(
                f"the bag is of another kind than the first one: {sentence}; embed it on its own",
                stage="bag",
            )

    def outcomes(self, sources: Sequence[CohortSlide], *, progress: Progress) -> Outcomes:
        """Reads bag after bag."""
        workers = self.options.workers or 2
        bags = read_bags(sources, open_one=self._open_one, workers=workers, progress=progress)
        with closing(bags), self.staging.ahead(sources):
            yield from bags


def _kind(info: BagInfo, *, dim: int) -> dict[str, Any]:
    """What must be equal for all bags of one table."""
    return {
        "encoder": info.encoder, "encoder_digest": info.encoder_digest,
        "settings_digest": info.settings_digest, "dim": int(dim),
        "target_mpp": info.target_mpp, "layout": info.layout,
    }  # fmt: skip
