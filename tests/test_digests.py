"""Digests change with every field of a settings record that can change a result."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields, is_dataclass, replace
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
import torch

from gigassl.bags.bank_draws import DrawSettings
from gigassl.bags.prepare import TileSettings
from gigassl.digests import digest_of_settings, digest_of_tensors
from gigassl.evaluate.mil.settings import MilSettings
from gigassl.pipeline.bank import BankSettings
from gigassl.pipeline.embed import EmbedSettings
from gigassl.pipeline.pretrain import NetworkSettings
from gigassl.pipeline.pretrain_tiles_data import TileDataSettings
from gigassl.slides.grid import GridSettings
from gigassl.slides.tissue import TissueSettings
from gigassl.tiles.augmentation import AugmentationSettings
from gigassl.tiles.pretrain.settings import (
    SamplingSettings,
    TilePretrainSettings,
    TileViewSettings,
)
from gigassl.vectors.ensemble import EnsembleSettings
from gigassl.vectors.pretrain.settings import PretrainSettings
from gigassl.vectors.views import ViewSettings


def _other(value: Any, hint: Any) -> Any:
    """A different, valid value of the same kind; of a record, one whose first field differs."""
    if get_origin(hint) is Literal:
        return next(choice for choice in get_args(hint) if choice != value)
    if is_dataclass(value):
        first = fields(value)[0].name
        return replace(value, **{first: _other(getattr(value, first), None)})  # type: ignore[type-var]
    return _OTHER[type(value)](value)


_OTHER: dict[type, Callable[[Any], Any]] = {
    NoneType: lambda _: 1,
    bool: lambda value: not value,
    str: lambda value: value + "x",
    int: lambda value: value + 2,  # what must be odd stays odd
    float: lambda value: value * 0.99 if value else 0.01,
    tuple: lambda value: (value[0] * 0.99, *value[1:]),
    dict: lambda value: {**value, "other": 1},
}
SETTINGS = [
    GridSettings(),
    TissueSettings(),
    TileSettings(default_mpp=0.5),
    EmbedSettings(views=EnsembleSettings()),
    EnsembleSettings(),
    AugmentationSettings(),
    DrawSettings(),
    BankSettings(reduce="pca:8"),
    ViewSettings(),
    PretrainSettings(),
    NetworkSettings(init_from="timm:resnet18"),
    MilSettings(),
    SamplingSettings(second_mpp=1.0),
    TileViewSettings(),
    TilePretrainSettings(),
    TileDataSettings(),
]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda record: type(record).__name__)
def test_changing_any_one_field_changes_the_digest(settings: Any) -> None:
    hints = get_type_hints(type(settings))
    digests = {digest_of_settings(settings)}
    digested = [f for f in fields(settings) if f.metadata.get("digest", True)]
    for f in digested:
        changed = {f.name: _other(getattr(settings, f.name), hints[f.name])}
        digests.add(digest_of_settings(replace(settings, **changed)))
    assert len(digests) == len(digested) + 1


def test_a_field_without_digest_is_the_only_way_out() -> None:
    @dataclass(frozen=True)
    class Wish:
        size: int = 1
        workers: int = field(default=1, metadata={"digest": False})

    assert digest_of_settings(Wish(workers=8)) == digest_of_settings(Wish())
    assert digest_of_settings(Wish(size=8)) != digest_of_settings(Wish())


def test_weights_digest_sees_names_dtypes_shapes_and_bytes_but_not_order() -> None:
    a, b = torch.arange(6.0), torch.ones(2, dtype=torch.bfloat16)
    digest = digest_of_tensors({"a": a, "b": b})
    assert digest == digest_of_tensors({"b": b, "a": a})
    variants = [
        {"a": a, "c": b},
        {"a": a.reshape(2, 3), "b": b},
        {"a": a.double(), "b": b},
        {"a": a + 1e-6, "b": b},
        {"a": a, "b": b.half()},
    ]
    assert len({digest, *map(digest_of_tensors, variants)}) == len(variants) + 1


def test_a_non_contiguous_tensor_has_the_digest_of_its_values() -> None:
    matrix = torch.arange(6.0).reshape(2, 3)
    assert digest_of_tensors({"w": matrix.t()}) == digest_of_tensors({"w": matrix.t().contiguous()})
