"""Gigapixel histology slides into one compact vector each; every command is one function here.

The names load on first use, so that ``import gigassl`` stays quick.
"""

from importlib import import_module
from typing import Any

_HOME = {
    "Cohort": "gigassl.slides.cohort",
    "EmbedResult": "gigassl.pipeline.embed",
    "EmbedSettings": "gigassl.pipeline.embed",
    "GigasslError": "gigassl.errors",
    "GridSettings": "gigassl.slides.grid",
    "RunOptions": "gigassl.pipeline.jobs",
    "SlideTable": "gigassl.vectors.table",
    "TileEncoder": "gigassl.tiles.engine",
    "TileSettings": "gigassl.bags.prepare",
    "TissueSettings": "gigassl.slides.tissue",
    "demo": "gigassl.pipeline.demo",
    "embed": "gigassl.pipeline.embed",
    "encode": "gigassl.pipeline.encode",
    "examine": "gigassl.pipeline.doctor",
    "inspect": "gigassl.pipeline.inspection",
    "load_encoder": "gigassl.tiles.encoders",
    "make_cohort": "gigassl.slides.synthetic",
    "merge": "gigassl.pipeline.merge",
    "nearest": "gigassl.vectors.search",
    "open_bag": "gigassl.bags.bag",
    "open_slide": "gigassl.slides.reader",
    "open_table": "gigassl.vectors.table",
    "read_cohort": "gigassl.slides.cohort",
}
"""Public name → the module it lives in."""

__all__ = list(_HOME)  # built from the one table of names


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'gigassl' has no attribute '{name}'")
    return getattr(import_module(_HOME[name]), name)
