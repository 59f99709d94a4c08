"""The public names of the package as mkdocstrings directives, layer by layer of the data flow."""

from collections.abc import Sequence

import gigassl

LAYERS = ("slides", "tiles", "bags", "vectors", "evaluate", "pipeline")


def names_of(layer: str) -> Sequence[str]:
    """Public names that live in a layer; ``other`` is what lives in none."""
    return [name for name, home in gigassl._HOME.items() if _layer(home) == layer]


def directives(layer: str) -> str:
    """One mkdocstrings block for each public name of a layer, under the name that users import."""
    return "\n".join(
        f"::: {gigassl._HOME[name]}.{name}\n"
        f"    options:\n      heading: gigassl.{name}\n      toc_label: {name}\n"
        for name in names_of(layer)
    )


def _layer(home: str) -> str:
    part = home.split(".")[1]
    return part if part in LAYERS else "other"
