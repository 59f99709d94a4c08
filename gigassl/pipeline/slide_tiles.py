"""Tiles of slides that have a vector, one slide at a time: from bag files, or from a bank."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gigassl.bags.bag import Bag
from gigassl.bags.bank import open_bank
from gigassl.bags.bank_info import CARD
from gigassl.bags.layouts import CoordsUnit
from gigassl.digests import digest_of_settings
from gigassl.errors import SettingsError
from gigassl.pipeline.bag_job import BagJob
from gigassl.pipeline.jobs import RunOptions
from gigassl.pipeline.progress import Progress
from gigassl.slides.cohort import CohortSlide, is_bag, read_cohort
from gigassl.vectors.row import SlideRow
from gigassl.vectors.store_parts import bags_of_slide
from gigassl.vectors.table import SlideTable
from gigassl.vectors.tile_store import store_of_bank

Tiles = Sequence[Bag]
"""All tiles of a slide: one bag, or one an augmentation of a bank."""


@dataclass(frozen=True, kw_only=True)
class SlideTiles:
    """The tiles of the slides of a table.

    Attributes:
        slide_ids: in the order in which ``read`` gives them: that of the table.
        reduced: whether a bank's reduction made the features narrower.
        read: tells the progress, and gives the tiles of each slide in turn.
    """

    slide_ids: Sequence[str]
    reduced: bool
    read: Callable[[Progress], Iterator[Tiles]]


def tiles_of(
    table: SlideTable, source: Path, *, coords_unit: CoordsUnit | None = None
) -> SlideTiles:
    """The tiles that the vectors of a table were made from; read one slide at a time.

    Args:
        table: the vectors.
        source: folder or CSV of bags, ours or other tools'; or the folder of a bank, whose tiles
            are of the same slides and the same tile encoder, but drawn and augmented.
        coords_unit: unit of the coordinates of other tools' bags that do not say it.

    Raises:
        SettingsError: slides without a bag, or bags that are not those of the vectors.
    """
    if (source / CARD).is_file():
        return _of_bank(table, source)
    return _of_bags(table, source, coords_unit=coords_unit)


def _of_bank(table: SlideTable, folder: Path) -> SlideTiles:
    bank = open_bank(folder)
    _refuse_lack(table, [slide.slide_id for slide in bank.slides], source=folder)
    expected = _expected(table.provenance)
    given = {"encoder": bank.info.encoder, "encoder_digest": bank.info.encoder_digest}
    _refuse_other(expected, given, source=folder)
    store = store_of_bank(bank)
    place = {name: number for number, name in enumerate(store.slide_ids)}

    def read(progress: Progress) -> Iterator[Tiles]:
        progress.started(len(table))
        for name in table.slide_ids:
            found = bags_of_slide(store, place[name])
            progress.tiles_done(sum(len(bag) for bag in found))
            progress.slide_done(name, failed=False)
            yield found

    return SlideTiles(slide_ids=table.slide_ids, reduced=bank.reduction is not None, read=read)


def _of_bags(table: SlideTable, source: Path, *, coords_unit: CoordsUnit | None) -> SlideTiles:
    cohort = read_cohort(source)
    if not all(is_bag(slide.path) for slide in cohort.slides):
        raise SettingsError(
            f"{source} holds slides; controls are made from the bags of the vectors: give the "
            "folder of `gigassl embed --keep-bags`, or of `gigassl encode`"
        )
    _refuse_lack(table, [slide.slide_id for slide in cohort.slides], source=source)
    expected, rows = _expected(table.provenance), table.rows()
    by_name = {slide.slide_id: slide for slide in cohort.slides}
    sources = [_as_embedded(by_name[row.slide_id], row) for row in rows]
    foreign = expected.get("layout", "gigassl") != "gigassl"
    options = RunOptions(
        bag_encoder=expected.get("encoder") if foreign else None, coords_unit=coords_unit
    )
    job = BagJob(sources, options=options, default_mpp=None)
    _refuse_other(expected, job.settings["bags"], source=source)

    def read(progress: Progress) -> Iterator[Tiles]:
        progress.started(len(sources))
        with closing(job.outcomes(sources, progress=progress)) as outcomes:
            for outcome, row in zip(outcomes, rows, strict=True):
                if outcome.bag is None:
                    reason = "it cannot be read" if outcome.failure is None else outcome.failure
                    raise SettingsError(f"{source}: the bag of slide '{row.slide_id}': {reason}")
                _refuse_other_slide(outcome.bag, row, source=source)
                yield [outcome.bag]

    return SlideTiles(slide_ids=table.slide_ids, reduced=False, read=read)


def _as_embedded(slide: CohortSlide, row: SlideRow) -> CohortSlide:
    """The bag with the µm/px that it was embedded at; a file's own word still counts first."""
    return replace(slide, mpp=slide.mpp or row.mpp)


def _expected(provenance: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the bags of these vectors say of themselves; {} where the vectors do not say it."""
    settings = provenance.get("settings", {})
    if "bags" in settings:
        found: Mapping[str, Any] = settings["bags"]
        return found
    if "tile_encoder" not in settings:
        return {}
    made = {name: value for name, value in settings.items() if name != "slide_encoder"}
    return {
        "encoder": made["tile_encoder"]["name"],
        "encoder_digest": made["tile_encoder"]["weights"],
        "settings_digest": digest_of_settings(made),
    }


def _refuse_other(expected: Mapping[str, Any], given: Mapping[str, Any], *, source: Path) -> None:
    if not given:
        raise SettingsError(f"{source}: not one bag of these slides can be read")
    differs = [
        f"{name} {given[name]}, not {value}"
        for name, value in expected.items()
        if name in given and given[name] != value
    ]
    if differs:
        raise SettingsError(
            f"the tiles in {source} are not those that the vectors were made from: "
            f"{'; '.join(differs)}. Give the bags that were embedded"
        )


def _refuse_lack(table: SlideTable, held: Sequence[str], *, source: Path) -> None:
    lacking = sorted(set(table.slide_ids) - set(held))
    if lacking:
        some = ", ".join(lacking[:5]) + (" …" if len(lacking) > 5 else "")
        raise SettingsError(
            f"{source} lacks the tiles of {len(lacking)} of the {len(table)} slides that have a "
            f"vector: {some}"
        )


def _refuse_other_slide(bag: Bag, row: SlideRow, *, source: Path) -> None:
    facts = {"tiles": (len(bag), row.n_tiles), "digest": (bag.info.slide_digest, row.slide_digest)}
    for what, (given, expected) in facts.items():
        if given and expected and given != expected:
            raise SettingsError(
                f"{source}: the bag of slide '{row.slide_id}' has another {what} ({given}) than "
                f"the slide's vector was made from ({expected}); embed the bags again"
            )
