"""What public names say of themselves: a sentence, their fields, shapes, what they refuse."""

import inspect
import re
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import pytest
import torch

import gigassl

NEVER_RAISES = {
    "draw_needles",  # their settings were refused before
    "draw_slides",
    "examine",  # says what is missing instead
}
"""Public functions that refuse nothing."""

NAMES = sorted(gigassl.__all__)


def functions_of(thing: Any) -> dict[str, Any]:
    """A function under its name, or the public methods and properties of a class."""
    if not inspect.isclass(thing):
        return {thing.__name__: thing}
    held = {
        name: getattr(value, "fget", None) or getattr(value, "func", None) or value
        for name, value in vars(thing).items()
        if not name.startswith("_")
    }
    return {name: value for name, value in held.items() if inspect.isfunction(value)}


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_begins_with_one_sentence(name: str) -> None:
    thing = getattr(gigassl, name)
    for known, each in {name: thing, **functions_of(thing)}.items():
        said = inspect.getdoc(each) or ""
        first = said.split("\n\n")[0].replace("\n", " ")
        assert len(first) > 15, f"{name}: {known} says nothing of itself"
        assert first.rstrip().endswith((".", ":", "::")), f"{name}: {known}: {first}"


@pytest.mark.parametrize("name", NAMES)
def test_a_record_names_every_field(name: str) -> None:
    thing = getattr(gigassl, name)
    if is_dataclass(thing):
        said = inspect.getdoc(thing) or ""
        lacking = [f.name for f in fields(thing) if not re.search(rf"\b{f.name}\b", said)]
        assert not lacking, f"{name} does not say what {', '.join(lacking)} is"


@pytest.mark.parametrize("name", NAMES)
def test_a_function_says_what_it_refuses(name: str) -> None:
    thing = getattr(gigassl, name)
    if inspect.isfunction(thing) and name not in NEVER_RAISES:
        assert "Raises:" in (inspect.getdoc(thing) or ""), f"{name} does not say what it raises"


@pytest.mark.parametrize("name", NAMES)
def test_arrays_have_shapes_in_signatures(name: str) -> None:
    for known, function in functions_of(getattr(gigassl, name)).items():
        for place, kind in getattr(function, "__annotations__", {}).items():
            bare = kind in {np.ndarray, torch.Tensor} if isinstance(kind, type) else False
            assert not bare, f"{name}: {known}: {place} is an array without a shape"
            assert kind not in {"np.ndarray", "Tensor", "torch.Tensor"}, f"{known}: {place}"
