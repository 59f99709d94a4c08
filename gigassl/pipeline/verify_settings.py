"""The settings of a table, built again from its own provenance, to make its rows once more."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gigassl.bags.layouts import CoordsUnit
from gigassl.bags.prepare import TileSettings
from gigassl.digests import digest_of_settings, plain
from gigassl.errors import SettingsError
from gigassl.pipeline.bag_job import BagJob
from gigassl.pipeline.jobs import BAGS, Job, RunOptions, SlideJob
from gigassl.pipeline.slide_encoding import SlideEncoding, slide_encoding
from gigassl.slides.cohort import CohortSlide, is_bag
from gigassl.slides.grid import GridSettings
from gigassl.slides.tissue import TissueSettings
from gigassl.stores import StoreSettings
from gigassl.tiles.encoder_files import is_encoder_name, whole_and_cut
from gigassl.tiles.encoders import LoadingOptions, load_encoder
from gigassl.tiles.engine import TileEncoder
from gigassl.tiles.weights import SUFFIXES
from gigassl.vectors.ensemble import EnsembleSettings
from gigassl.vectors.merge import differing_settings
from gigassl.vectors.slide_model import SlideModel
from gigassl.vectors.table import SlideTable
from gigassl.versions import shaping_versions

Differences = Mapping[str, tuple[Any, Any]]
"""Name → (in the table, here)."""


@dataclass(frozen=True, kw_only=True)
class VerifyOptions:
    """How a table is verified.

    Attributes:
        sample: rows to make again; all where the table has no more.
        seed: decides which.
        device: where encoders run: "auto", "cpu", "cuda".
        workers: reader threads.
        slide_dir: where the slides of a table without paths lie.
        masks: folder of tissue masks, where the table was made with such.
        coords_unit: unit of the coordinates of other tools' bags; None takes the table's word.
        stores: how slides and bags at URLs are reached.
    """

    sample: int = 20
    seed: int = 0
    device: str = "auto"
    workers: int | None = None
    slide_dir: Path | None = None
    masks: Path | None = None
    coords_unit: CoordsUnit | None = None
    stores: StoreSettings = field(default_factory=StoreSettings)

    def __post_init__(self) -> None:
        if self.sample < 1:
            raise SettingsError(f"--sample must be at least 1; got {self.sample}")


@dataclass(frozen=True, kw_only=True)
class Given:
    """What a provenance can only name, and the user has.

    Attributes:
        encoder: tile encoder, or a name that ``load_encoder`` knows; None takes the table's word.
        slide_encoder: slide encoder, or its file; None where the table was made by pooling.
        options: everything else.
    """

    encoder: TileEncoder | str | None
    slide_encoder: SlideModel | str | None
    options: VerifyOptions


@dataclass(frozen=True, kw_only=True)
class Rebuilt:
    """The settings of a table as they are here.

    Attributes:
        job, encoding: what makes bags, and vectors of them.
        changed: settings and digests that are not those of the table.
        from_bags: bags are read, so that no tile is encoded again.
        same_inputs: slides are read as they were for the table, so that their inputs compare.
    """

    job: Job
    encoding: SlideEncoding
    changed: Differences
    from_bags: bool
    same_inputs: bool


def rebuilt(table: SlideTable, sources: Sequence[CohortSlide], *, given: Given) -> Rebuilt:
    """Builds the settings of a table again, for slides, or for bags of them.

    Raises:
        SettingsError: the provenance does not hold them, or names what was not given.
    """
    settings = _settings_of(table)
    encoding = _encoding(settings["slide_encoder"], given)
    from_bags = is_bag(sources[0].path)
    made = _made_with(table.provenance)
    if from_bags:
        bag_job = _bag_job(table.provenance, sources, given=given)
        changed = dict(_bag_differences(settings, bag_job))
        job: Job = bag_job
    else:
        job = _slide_job(made, given=given)
        changed = _differences(made, job.settings)
    if job.gives is not None:
        encoding.check(job.gives)
    wanted, here = ({"slide_encoder": s} for s in (settings["slide_encoder"], encoding.settings))
    changed |= _differences(wanted, here) | _digest_differs(table)
    return Rebuilt(
        job=job, encoding=encoding, changed=changed, from_bags=from_bags,
        same_inputs=not from_bags and BAGS not in settings,
    )  # fmt: skip


def other_versions(provenance: Mapping[str, Any]) -> Differences:
    """Packages whose version here is not that (or one of those) which the table was made with."""
    here = shaping_versions()
    found: dict[str, set[str]] = {}
    for variant in provenance.get("variants", [provenance]):
        for package, version in variant.get("versions", {}).items():
            found.setdefault(package, set()).add(str(version))
    return {
        package: (" or ".join(sorted(versions)), str(here.get(package)))
        for package, versions in found.items()
        if versions != {str(here.get(package))}
    }


def _settings_of(table: SlideTable) -> Mapping[str, Any]:
    settings: Mapping[str, Any] = table.provenance.get("settings", {})
    if "imported" in settings:
        raise SettingsError(
            "the table holds vectors of another tool (`gigassl import-vectors`); only that tool "
            "can make them again"
        )
    if "slide_encoder" not in settings or not {"tile_encoder", BAGS} & settings.keys():
        raise SettingsError(
            "the table does not say with which settings its rows were made, so that they cannot "
            "be made again; `gigassl inspect` shows what it says"
        )
    return settings


def _made_with(provenance: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings of tiles and tile encoder; {} where a table of bags does not hold them."""
    settings = provenance["settings"]
    found = settings if "tile_encoder" in settings else provenance.get(BAGS, {}).get("settings", {})
    return {name: found[name] for name in ("tiles", "tile_encoder") if name in found}


def _slide_job(made: Mapping[str, Any], *, given: Given) -> SlideJob:
    if not made:
        raise SettingsError(
            "the table was made from bags and does not say how those were made; give the folder "
            "of the bags as --slides"
        )
    tiles = tile_settings_of(made["tiles"])
    masks = given.options.masks
    if tiles.external_masks != (masks is not None):
        said = "with tissue masks; give their folder" if tiles.external_masks else "without any"
        raise SettingsError(f"--masks: the rows of the table were made {said}")
    encoder = _tile_encoder(made["tile_encoder"], given)
    options = RunOptions(workers=given.options.workers, masks=masks, stores=given.options.stores)
    return SlideJob(encoder=encoder, tiles=tiles, options=options)


def tile_settings_of(record: Mapping[str, Any]) -> TileSettings:
    """The settings of a record that ``plain`` made of them.

    Raises:
        SettingsError: it holds settings that are not known here.
    """
    tissue = record["tissue"]
    try:
        nested = {
            "grid": GridSettings(**record["grid"]),
            "tissue": None if tissue is None else TissueSettings(**tissue),
        }
        return TileSettings(**{**record, **nested})
    except TypeError as error:
        raise SettingsError(
            f"the table was made with settings that this gigassl does not know ({error}); install "
            "the version that `gigassl inspect` shows"
        ) from error


def _tile_encoder(record: Mapping[str, Any], given: Given) -> TileEncoder:
    """The encoder that is given or named, run as the table says."""
    name = given.encoder or record["name"]
    if isinstance(name, TileEncoder):
        return name
    file = whole_and_cut(name.partition("::")[0])[0]
    lost = file.endswith(SUFFIXES) and not Path(file).is_file()
    if given.encoder is None and (lost or not is_encoder_name(name)):
        raise SettingsError(
            f"the tiles were encoded by '{name}', whose weights have no name here; say where they "
            "are: --tile-encoder FILE.safetensors, with @layer3 behind it if it was cut there"
        )
    return load_encoder(
        name, backend=record["backend"], device=given.options.device, precision=record["precision"],
        batch_size=record["batch_size"], options=LoadingOptions(compiled=record["compiled"]),
    )  # fmt: skip


def _encoding(record: Any, given: Given) -> SlideEncoding:
    if isinstance(record, str):
        if given.slide_encoder is not None:
            raise SettingsError(
                f"--slide-encoder: the vectors of the table are '{record}' of the tiles, which "
                "needs no file; leave the option away"
            )
        return slide_encoding(record)
    if given.slide_encoder is None:
        raise SettingsError(
            f"the vectors were made by a slide encoder ('{record['architecture']}', digest "
            f"{record['digest']}); give its file: --slide-encoder FILE.safetensors"
        )
    views = EnsembleSettings(
        views=record["views"], tiles_per_view=record["tiles_per_view"], seed=record["seed"]
    )
    return slide_encoding(given.slide_encoder, views=views)


def _bag_job(
    provenance: Mapping[str, Any], sources: Sequence[CohortSlide], *, given: Given
) -> BagJob:
    kind = provenance["settings"].get(BAGS, {})
    foreign = kind.get("layout", "gigassl") != "gigassl"
    said = provenance.get(BAGS, {}).get("coords_unit")
    options = RunOptions(
        workers=given.options.workers, bag_encoder=kind.get("encoder") if foreign else None,
        coords_unit=given.options.coords_unit or said, stores=given.options.stores,
    )  # fmt: skip
    return BagJob(sources, options=options, default_mpp=None)


def _bag_differences(settings: Mapping[str, Any], job: BagJob) -> Differences:
    """What is not as it was of bags, whether the table was made from them or they were kept."""
    here = job.settings[BAGS]
    if not here:  # not one can be read; each row says why
        return {}
    if BAGS in settings:
        wanted = settings[BAGS]
    else:
        made = {name: value for name, value in settings.items() if name != "slide_encoder"}
        encoder = made["tile_encoder"]
        wanted = {
            "encoder": encoder["name"],
            "encoder_digest": encoder["weights"],
            "settings_digest": digest_of_settings(made),
        }
    return {
        f"{BAGS}.{name}": (value, here.get(name))
        for name, value in wanted.items()
        if here.get(name) != value
    }


def _differences(wanted: Mapping[str, Any], here: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Settings with another value; those that a table made earlier could not know are left out."""
    found = differing_settings({"settings": wanted}, {"settings": plain(here)})
    return {name: pair for name, pair in found.items() if pair[0] is not None}


def _digest_differs(table: SlideTable) -> dict[str, tuple[Any, Any]]:
    """Whether the provenance is of the settings that the rows were made with."""
    of_provenance = digest_of_settings(table.provenance["settings"])
    if of_provenance == table.settings_digest:
        return {}
    return {"settings_digest of the rows": (table.settings_digest, of_provenance)}


def as_made(slide: CohortSlide, *, mpp: float | None, mpp_source: str) -> CohortSlide:
    """A source with the µm/px that its row was made at, whatever a cohort table says today."""
    if is_bag(slide.path):  # a bag of ours says it itself
        return replace(slide, mpp=slide.mpp or mpp)
    return replace(slide, mpp=mpp if mpp_source == "cohort" else None)
