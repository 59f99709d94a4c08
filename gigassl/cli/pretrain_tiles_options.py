"""How the options of ``gigassl pretrain-tiles`` become settings."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gigassl.cli import options as opt
from gigassl.errors import SettingsError, unknown_name

if TYPE_CHECKING:
    from gigassl.pipeline.pretrain_tiles_data import TileDataSettings, TiledFiles
    from gigassl.tiles.pretrain.settings import TilePretrainSettings, TileViewSettings


def method_options(texts: list[str] | None) -> dict[str, float] | None:
    """``["temperature=0.1"]`` as numbers by name.

    Raises:
        SettingsError: another form.
    """
    found: dict[str, float] = {}
    for text in texts or ():
        name, _, value = text.partition("=")
        try:
            number = float(value)
        except ValueError:
            raise SettingsError(
                f"--method-option wants NAME=NUMBER, such as temperature=0.1; got '{text}'"
            ) from None
        found[name] = int(number) if number.is_integer() and "." not in value else number
    return found or None


def tiled_files(
    sources: Sequence[Path], *, labelled: bool, columns: Mapping[str, Any]
) -> "TiledFiles":
    """What tiles are cut from: labelled images for methods that learn from these, else one source.

    Raises:
        SettingsError: several sources without labels, or labelled images that cannot be used.
    """
    from gigassl.tiles.labelled_tasks import read_tasks

    if labelled:
        return read_tasks(sources, **columns)
    if len(sources) > 1:
        raise SettingsError(
            f"one folder or CSV is expected, got {len(sources)}; several labelled ones are for "
            "--method multitask"
        )
    return sources[0]


def tile_data_settings(
    init_from: str | None, *, method: str, grid: Mapping[str, Any], tissue: str,
    slide_mpp: float | None, sampling: Mapping[str, Any],
) -> "TileDataSettings":  # fmt: skip
    """Which tiles the user wants; side and µm/px else as the encoder that it begins from.

    Where it begins from none, tiles have the side of the method's views.
    """
    from gigassl.pipeline.pretrain_tiles_data import TileDataSettings
    from gigassl.slides.grid import GridSettings
    from gigassl.tiles.encoders import encoder_record
    from gigassl.tiles.pretrain.catalogue import METHOD_PRESETS
    from gigassl.tiles.pretrain.settings import SamplingSettings

    said = _said(grid)
    if init_from is not None and not {"tile_px", "target_mpp"} <= set(said):
        record = encoder_record(init_from)
        said = {"tile_px": record.input_px, "target_mpp": record.mpp, **said}
    elif method in METHOD_PRESETS:
        said = {"tile_px": METHOD_PRESETS[method].views.side_px, **said}
    tiles = opt.tile_settings(
        GridSettings(**said), tissue=tissue, slide_mpp=slide_mpp, scaled_dct=False
    )
    return TileDataSettings(tiles=tiles, sampling=SamplingSettings(**_said(sampling)))


def training_settings(
    method: str, *, training: Mapping[str, Any], views: Mapping[str, Any],
    drawn: Mapping[str, float | None], side_px: int,
) -> "TilePretrainSettings":  # fmt: skip
    """The method's preset, changed by what the user said.

    Raises:
        SettingsError: unknown method, or a number out of its range.
    """
    from dataclasses import replace

    from gigassl.tiles.pretrain.catalogue import METHOD_PRESETS

    if method not in METHOD_PRESETS:
        raise unknown_name("method", method, known=METHOD_PRESETS)
    preset = METHOD_PRESETS[method]
    changed = replace(
        _drawn(preset.views, **drawn), side_px=side_px,
        **{"small_px": _small_px(preset.views, side_px=side_px), **_said(views)},
    )  # fmt: skip
    return replace(preset, views=changed, **_said(training))


def _drawn(
    views: "TileViewSettings", *, min_crop: float | None, stain: float | None
) -> "TileViewSettings":
    """What views are drawn from, changed by what the user said."""
    from dataclasses import replace

    strength = {} if stain is None else {"stain": stain}
    found = {
        name: replace(getattr(views, name), **strength) for name in ("first", "second", "small")
    }
    if min_crop is not None:
        for name in ("first", "second"):
            _, most = found[name].crop_area
            found[name] = replace(found[name], crop_area=(min_crop, most))
    return replace(views, **found)


def _small_px(views: "TileViewSettings", *, side_px: int) -> int:
    """The side of small views beside large ones, in steps that patches of 16 px divide."""
    return max(16, 16 * round(views.small_px * side_px / views.side_px / 16))


def _said(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
