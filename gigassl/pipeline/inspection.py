"""What any of our files is, what it holds, and where it came from."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from gigassl.bags.bag import Bag, holds_variants, open_bag
from gigassl.bags.bank import open_bank
from gigassl.bags.grid import step_px, value_ratio
from gigassl.bags.lattice import tile_cells
from gigassl.digests import plain
from gigassl.errors import SettingsError, SlideError
from gigassl.evaluate.contamination import counted
from gigassl.evaluate.frozen import KIND as FROZEN_PROBE
from gigassl.evaluate.predictions import is_predictions, open_predictions
from gigassl.pipeline.bank_estimate import gigabytes
from gigassl.report.geojson import save_bag_geojson
from gigassl.report.mosaic import save_colours, save_mosaic
from gigassl.slides.cohort import SLIDE_SUFFIXES, is_bag
from gigassl.slides.description import describe_slide
from gigassl.tiles.turns import N_VARIANTS
from gigassl.tiles.weights import load_checkpoint, reading_card
from gigassl.vectors.table import open_table


def inspect(path: Path) -> dict[str, Any]:
    """Describes vectors, predictions, a bag, bank, model, probe or slide, in plain values.

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


def _parquet(path: Path) -> dict[str, Any]:
    return _predictions(path) if is_predictions(path) else _table(path)


def _predictions(path: Path) -> dict[str, Any]:
    predictions = open_predictions(path)
    data = predictions.data
    return {
        "kind": f"predictions ({predictions.kind})",
        "rows": len(predictions),
        "tasks": pc.unique(data["task"]).to_pylist(),
        "methods": pc.unique(data["method"]).to_pylist(),
        "splits": pc.unique(data["split"]).to_pylist(),
        "train sizes": pc.unique(data["train_size"]).to_pylist(),
        "slides": len(pc.unique(data["slide_id"])),
        "patients": len(pc.unique(data["patient_id"])),
        "provenance": plain(predictions.provenance),
    }


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
    bag = _open(path)
    ours = bag.info.layout == "gigassl"
    return {
        "kind": f"bag ({bag.info.layout} layout)",
        "tiles": len(bag),
        "dim": int(bag.features.shape[1]),
        "dtype": str(bag.features.dtype),
        "grid": _grid(bag),
        "variants": N_VARIANTS if ours and holds_variants(path) else 1,
        "info": plain(bag.info),
    }


def _open(path: Path) -> Bag:
    try:
        return open_bag(path)
    except SlideError:
        # what a foreign file leaves unsaid matters when it is embedded, not here
        return open_bag(path, encoder="(not said)", coords_unit="px")


def _grid(bag: Bag) -> dict[str, Any] | str:
    """The compressed slide that the bag is, or why it is none."""
    try:
        found = tile_cells(bag)
    except SlideError as error:
        return f"none: {error.reason}"
    ratio = value_ratio(step_px=step_px(bag), dim=bag.features.shape[1])
    return {
        "rows": found.shape[0],
        "columns": found.shape[1],
        "step_l0": round(found.step_l0, 3),
        "values of the pixels a value of the features": ratio,
        "bytes of the pixels a byte of the features": None if ratio is None else ratio / 2,
    }


def draw_bag(
    path: Path, *, mosaic: Path | None = None, colours: Path | None = None,
    geojson: Path | None = None,
) -> None:  # fmt: skip
    """Draws a bag: as a compressed slide, or its tiles as GeoJSON for QuPath.

    Args:
        path: the bag.
        mosaic: PNG of all channels of its features, on its grid.
        colours: PNG of its grid, three principal components as colours.
        geojson: its tiles in level-0 px, coloured alike; they need not lie on a grid.

    Raises:
        SettingsError: it is no bag, its tiles lie on no grid, or their size is not known.
        MachineError: a picture cannot be written.
    """
    if not is_bag(path) or not path.is_file():
        raise SettingsError(f"{path.name} is no bag (.h5); only bags are drawn")
    try:
        bag = _open(path)
        if geojson is not None:
            save_bag_geojson(bag, geojson)
        if mosaic is not None:
            save_mosaic(bag.to_grid(), mosaic)
        if colours is not None:
            save_colours(bag.to_grid(), colours)
    except SlideError as error:
        raise SettingsError(f"{path.name}: {error.reason}") from error


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
    card = load_checkpoint(path).card
    if card.get("kind") == FROZEN_PROBE:
        with reading_card(path):
            return {"kind": FROZEN_PROBE, "card": _short(plain(card))}
    return {"kind": "model", "card": counted(plain(card))}


def _short(card: dict[str, Any]) -> dict[str, Any]:
    """A frozen probe's card with names counted and the main scores only."""
    names = {f"n_{what}": len(each) for what, each in card["training"].items()}
    scores = [
        {k: v for k, v in row.items() if not k.startswith("minus_") and v not in (None, "")}
        for row in card["made"].get("out_of_fold", [])
    ]
    made = {**card["made"], "out_of_fold": scores[0] if len(scores) == 1 else scores}
    return {**card, "training": names, "made": made}


def _slide(path: Path) -> dict[str, Any]:
    try:
        return {"kind": "slide", **describe_slide(path)}
    except SlideError as error:
        raise SlideError(f"{path.name}: {error.reason}", stage=error.stage) from error


_BY_SUFFIX: dict[str, Callable[[Path], dict[str, Any]]] = {
    ".parquet": _parquet,
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
