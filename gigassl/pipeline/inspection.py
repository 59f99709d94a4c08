"""What any of our files is, what it holds, and where it came from."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from gigassl.bags.bag import open_bag
from gigassl.bags.bank import open_bank
from gigassl.digests import plain
from gigassl.errors import SettingsError, SlideError
from gigassl.evaluate.contamination import counted
from gigassl.pipeline.bank_estimate import gigabytes
from gigassl.slides.cohort import SLIDE_SUFFIXES
from gigassl.slides.description import describe_slide
from gigassl.tiles.weights import load_checkpoint
from gigassl.vectors.table import open_table


def inspect(path: Path) -> dict[str, Any]:
    """Describes a vectors table, bag, bank, model or slide, in plain values.

    Raises:
        SettingsError: no such file, or none of our kinds.
        GigasslError: a damaged file, with the reason.
    """
    if not path.exists():
        raise SettingsError(f"no such file: {path}")
    if path.is_dir():
        return _bank(path)
    for suffix, describe in _BY_SUFFIX.items():
        if path.name.lower().endswith(suffix):
            return describe(path)
    known = ", ".join(_BY_SUFFIX)
    raise SettingsError(f"{path.name} is none of our kinds of file; they end in {known}")


def _table(path: Path) -> dict[str, Any]:
    table = open_table(path)
    rows = table.rows()
    known = [row.n_tiles for row in rows if row.n_tiles is not None]
    tiles = np.array(known or [0])
    counts = {"total": int(tiles.sum()), "fewest": int(tiles.min()), "most": int(tiles.max())}
    return {
        "kind": "vectors table",
        "slides": len(rows),
        "patients": len({row.patient_id for row in rows}),
        "dim": int(table.embeddings.shape[1]),
        "tiles": counts if known else "not known",
        "mpp_sources": sorted({row.mpp_source for row in rows}),
        "provenance": counted(plain(table.provenance)),
    }


def _bag(path: Path) -> dict[str, Any]:
    try:
        bag = open_bag(path)
    except SlideError:
        # what a foreign file leaves unsaid matters when it is embedded, not here
        bag = open_bag(path, encoder="(not said)", coords_unit="px")
    return {
        "kind": f"bag ({bag.info.layout} layout)",
        "tiles": len(bag),
        "dim": int(bag.features.shape[1]),
        "dtype": str(bag.features.dtype),
        "info": plain(bag.info),
    }


def _bank(folder: Path) -> dict[str, Any]:
    bank = open_bank(folder)
    tiles = [slide.n_tissue_tiles for slide in bank.slides]
    return {
        "kind": "bank of augmented bags",
        "slides": len(bank),
        "patients": len({slide.patient_id for slide in bank.slides}),
        "failed": list(bank.failed),
        "shape": list(bank.features.shape),
        "size": gigabytes(bank.features.nbytes + bank.coords.nbytes),
        "tissue tiles": {"total": sum(tiles), "fewest": min(tiles), "most": max(tiles)},
        "labels": sorted({name for slide in bank.slides for name in slide.labels}),
        "info": counted(plain(bank.info)),
    }


def _model(path: Path) -> dict[str, Any]:
    return {"kind": "model", "card": counted(plain(load_checkpoint(path).card))}


def _slide(path: Path) -> dict[str, Any]:
    try:
        return {"kind": "slide", **describe_slide(path)}
    except SlideError as error:
        raise SlideError(f"{path.name}: {error.reason}", stage=error.stage) from error


_BY_SUFFIX: dict[str, Callable[[Path], dict[str, Any]]] = {
    ".parquet": _table,
    ".h5": _bag,
    ".hdf5": _bag,
    ".safetensors": _model,
    **dict.fromkeys(SLIDE_SUFFIXES, _slide),
}


def as_text(description: dict[str, Any]) -> str:
    """The description as indented lines a person can read."""
    return "\n".join(_lines(description, indent=""))


def _lines(values: dict[str, Any], *, indent: str) -> list[str]:
    lines = []
    for key, value in values.items():
        if isinstance(value, dict) and value:
            lines += [f"{indent}{key}:", *_lines(value, indent=indent + "  ")]
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            lines.append(f"{indent}{key}: {text}")
    return lines
