"""Presets that a table of a recipe may name and change."""

from collections.abc import Mapping
from typing import Any

from gigassl.errors import SettingsError, unknown_name
from gigassl.tiles.pretrain.settings import TilePretrainSettings

_NAMED = "preset"


def preset_of(
    record: type, table: Mapping[str, Any], *, where: str
) -> tuple[Any, Mapping[str, Any]]:
    """The record that a table changes (None where it names no preset), and what it changes.

    ``{preset = "giga-ssl", folds = 3}`` changes a preset of the record's kind; the ``method`` of a
    pretraining of tiles, which is a field too, brings the settings that its paper has.

    Raises:
        SettingsError: no such preset, or a record without presets.
    """
    if record is TilePretrainSettings:
        from gigassl.tiles.pretrain.catalogue import METHOD_PRESETS  # takes two seconds

        return _named(METHOD_PRESETS, table.get("method", "moco"), where=f"{where}.method"), table
    if _NAMED not in table:
        return None, table
    presets = _presets().get(record)
    if presets is None:
        raise SettingsError(f"{where} has no presets")
    rest = {name: value for name, value in table.items() if name != _NAMED}
    return _named(presets, table[_NAMED], where=f"{where}.{_NAMED}"), rest


def _named(presets: Mapping[str, Any], name: Any, *, where: str) -> Any:
    if not isinstance(name, str) or name not in presets:
        raise unknown_name(where, str(name), known=presets)
    return presets[name]


def _presets() -> Mapping[type, Mapping[str, Any]]:
    from gigassl.evaluate.probe_settings import PROBE_PRESETS, ProbeSettings
    from gigassl.slides.digit_layout import DIGIT_SLIDE_PRESETS, DigitSlideSettings
    from gigassl.slides.grid import GRID_PRESETS, GridSettings
    from gigassl.vectors.pretrain.settings import PRESETS, PretrainSettings

    return {
        DigitSlideSettings: DIGIT_SLIDE_PRESETS,
        GridSettings: GRID_PRESETS,
        PretrainSettings: PRESETS,
        ProbeSettings: PROBE_PRESETS,
    }
