"""Slide encoding: what makes one vector of a bag, whether a pooling by name or a trained model."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from gigassl.bags.bag import Bag
from gigassl.errors import SettingsError, SlideError, unknown_name
from gigassl.evaluate.contamination import PRETRAINED_ON
from gigassl.tiles.encoder_files import is_encoder_name
from gigassl.tiles.weights import SUFFIXES
from gigassl.vectors.ensemble import EnsembleSettings, embed_bag
from gigassl.vectors.fitting import TileFacts, facts_of_bag, misfit
from gigassl.vectors.pooling import POOLINGS, l2_normalised, pool
from gigassl.vectors.slide_model import SlideEncoderRecord, SlideModel, load_slide_model


@runtime_checkable
class SlideEncoding(Protocol):
    """Makes a slide's vector of its bag.

    Attributes:
        settings: all that decides the vector, JSON-ready; it goes into digest and provenance.
        pretrained_on: slides that encoders learned from; it goes into the provenance only.
        first_block: width of a first stream of the vectors, which probes weigh against the rest;
            None: one stream. It goes into the provenance only.
    """

    @property
    def settings(self) -> Any:
        """See above."""

    @property
    def pretrained_on(self) -> Mapping[str, Any]:
        """See above."""

    @property
    def first_block(self) -> int | None:
        """See above."""

    def check(self, tiles: TileFacts) -> None:
        """Refuses a run whose tiles are of the wrong kind.

        Raises:
            SettingsError: with what was given and what is wanted.
        """

    def vector(self, bag: Bag) -> Mapping[str, Any]:
        """``embedding``, ``n_views`` and ``view_spread`` of a slide's row.

        Raises:
            SlideError: the bag does not fit, or its vector cannot be normalised.
        """


@dataclass(frozen=True, kw_only=True)
class Pooled:
    """Mean, max or mean+std over all tiles: takes any bag."""

    method: str

    @property
    def settings(self) -> str:
        """The method's name."""
        return self.method

    @property
    def pretrained_on(self) -> Mapping[str, Any]:
        """Nothing: it has no weights."""
        return {}

    @property
    def first_block(self) -> None:
        """One stream."""

    def check(self, tiles: TileFacts) -> None:
        """Any tiles will do."""

    def vector(self, bag: Bag) -> Mapping[str, Any]:
        """The pooled features; one view, without a spread."""
        pooled = l2_normalised(pool(bag.features, method=self.method))
        return {"embedding": pooled, "n_views": 1, "view_spread": None}


@dataclass(frozen=True, kw_only=True)
class Ensembled:
    """The mean of many views by a slide encoder."""

    model: SlideModel
    views: EnsembleSettings

    @property
    def settings(self) -> Mapping[str, Any]:
        """The model by its digest, and how its views are laid."""
        record = self.model.record
        return {
            "digest": self.model.digest,
            "architecture": record.architecture,
            "window": record.window,
            "views": self.views.views,
            "tiles_per_view": self.views.tiles_per_view or record.tiles_per_view,
            "seed": self.views.seed,
        }

    @property
    def pretrained_on(self) -> Mapping[str, Any]:
        """What the model card says."""
        found: Mapping[str, Any] = self.model.record.training.get(PRETRAINED_ON, {})
        return found

    @property
    def first_block(self) -> int | None:
        """Composition beside arrangement."""
        width: int | None = getattr(self.model.network, "composition_width", None)
        return width

    def check(self, tiles: TileFacts) -> None:
        """Refuses tiles that the model was not made for.

        Raises:
            SettingsError: with both digests.
        """
        differs = misfit(self.model, tiles)
        if differs:
            raise SettingsError(f"{differs}; choose bags, or options, that fit it")

    def vector(self, bag: Bag) -> Mapping[str, Any]:
        """The mean of views, their number and spread.

        Raises:
            SlideError: the bag does not fit, or its vector cannot be normalised.
        """
        differs = misfit(self.model, facts_of_bag(bag))
        if differs:
            raise SlideError(differs, stage="bag")
        found = embed_bag(self.model, bag, settings=self.views)
        return {
            "embedding": found.vector, "n_views": found.n_views, "view_spread": found.view_spread,
        }  # fmt: skip


def slide_encoding(
    slide_encoder: str | SlideModel, *, views: EnsembleSettings | None = None
) -> SlideEncoding:
    """A pooling by its name, or a slide encoder, loaded or by the path of its file.

    Args:
        views: how a slide encoder looks at a slide; None is the default.

    Raises:
        SettingsError: no such name or file, or views asked of a pooling.
    """
    if isinstance(slide_encoder, str) and slide_encoder in POOLINGS:
        if views is not None:
            raise SettingsError(
                f"'{slide_encoder}' takes all tiles at once; --views, --tiles-per-view and --seed "
                "are for slide encoders from `gigassl pretrain` or `gigassl import-model`"
            )
        return Pooled(method=slide_encoder)
    model = slide_model(slide_encoder) if isinstance(slide_encoder, str) else slide_encoder
    return Ensembled(model=model, views=views or EnsembleSettings())


def slide_model(name: str) -> SlideModel:
    """The slide encoder of a file.

    Raises:
        SettingsError: the name is no file, or the file no slide encoder.
    """
    path = Path(name)
    if path.suffix not in SUFFIXES and not path.exists():
        raise unknown_name("slide encoder", name, known=[*POOLINGS, "FILE.safetensors"])
    return load_slide_model(path)


@dataclass(frozen=True, kw_only=True)
class WantedTiles:
    """How slides are tiled and encoded; None leaves it to the defaults."""

    encoder: str | None
    mpp: float | None
    tile_px: int | None


def wanted_tiles(
    slide_encoder: str | SlideModel, *, encoder: str | None, mpp: float | None,
    tile_px: int | None, preset: str | None = None,
) -> WantedTiles:  # fmt: skip
    """What the user said, else what the slide encoder was made for.

    Args:
        slide_encoder: a loaded one, or the name of a pooling, which wants nothing.
        preset: name of a tile grid, which then counts instead of the slide encoder's.

    Raises:
        SettingsError: neither says which tile encoder it was, or its resolution.
    """
    if isinstance(slide_encoder, str):
        return WantedTiles(encoder=encoder, mpp=mpp, tile_px=tile_px)
    record = slide_encoder.record
    if encoder is None and record.tile_encoder and not is_encoder_name(record.tile_encoder):
        raise SettingsError(
            f"this slide encoder ('{record.architecture}') takes features of the tile encoder "
            f"'{record.tile_encoder}', whose weights have no name here; say where they are: "
            "--tile-encoder FILE.safetensors, with @layer3 behind it if it was cut there"
        )
    encoder = encoder or record.tile_encoder
    if not encoder:
        raise _unsaid(record, "which tile encoder its features come from", "--tile-encoder NAME")
    if preset is not None:
        return WantedTiles(encoder=encoder, mpp=mpp, tile_px=tile_px)
    mpp = mpp or record.mpp
    if mpp is None:
        raise _unsaid(record, "at which µm/px tiles are read", "--target-mpp")
    if tile_px is None and record.tile_um is not None:
        tile_px = round(record.tile_um / mpp)
    return WantedTiles(encoder=encoder, mpp=mpp, tile_px=tile_px)


def _unsaid(record: SlideEncoderRecord, what: str, option: str) -> SettingsError:
    return SettingsError(
        f"this slide encoder ('{record.architecture}') does not say {what}; give {option}"
    )
