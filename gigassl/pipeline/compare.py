"""Comparing predictions of files, ours or other tools', and writing tables and figures."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gigassl.errors import SettingsError
from gigassl.evaluate.comparison import CompareSettings, Comparison, compare
from gigassl.evaluate.foreign import read_foreign
from gigassl.evaluate.predictions import FORMAT, Predictions, open_predictions
from gigassl.files import written_whole
from gigassl.pipeline.output import make_folder
from gigassl.report.forest import save_forest
from gigassl.report.learning_curves import save_learning_curves
from gigassl.report.numbers import as_csv, as_records, folds_as_csv, pairs_as_csv
from gigassl.report.tables import as_latex, as_markdown, as_text

CURVE = "learning_curve"
"""Name of the figure, without its ending."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CompareResult:
    """What a comparison gave.

    Attributes:
        comparison: all numbers.
        files: what was written.
        failures, interrupted: as every result says them; here nothing can be left undone.
    """

    comparison: Comparison
    files: tuple[Path, ...] = ()
    failures: tuple[()] = ()
    interrupted: bool = False

    def sentence(self) -> str:
        """The tables, then what was written."""
        text = as_text(self.comparison)
        if not self.files:
            return text
        return f"{text}\n{self.files[0].parent}: {', '.join(path.name for path in self.files)}"

    def summary(self) -> dict[str, Any]:
        """The numbers, JSON-ready."""
        return {**as_records(self.comparison), "files": [str(path) for path in self.files]}


def compare_files(
    sources: Sequence[str], out: Path | None = None, *, settings: CompareSettings
) -> CompareResult:
    """Compares files of predictions; FILE, or NAME=FILE to call its method otherwise.

    Args:
        sources: tables of predictions made by gigassl, or other tools' CSV, TSV or Parquet files.
        out: folder for tables and figures; None: nothing is written.
        settings: how.

    Raises:
        SettingsError: files that cannot be compared, or none.
        GigasslError: a damaged file.
        MachineError: the folder cannot be written to.
    """
    comparison = compare(read_predictions(sources), settings=settings)
    if out is None:
        return CompareResult(comparison=comparison)
    make_folder(out)
    texts = {
        "comparison.md": as_markdown(comparison),
        "comparison.tex": as_latex(comparison),
        "comparison.csv": as_csv(comparison),
        "pairs.csv": pairs_as_csv(comparison),
        "folds.csv": folds_as_csv(comparison),
    }
    for name, text in texts.items():
        with written_whole(out / name) as part:
            part.write_text(text, encoding="utf-8")
    figures = (
        *save_forest(comparison, out / "scores"), *save_learning_curves(comparison, out / CURVE)
    )  # fmt: skip
    return CompareResult(comparison=comparison, files=(*(out / name for name in texts), *figures))


def read_predictions(sources: Sequence[str]) -> list[Predictions]:
    """The tables in the order given; other tools' take tasks, folds and labels from ours.

    Raises:
        SettingsError: no file, or one that is not there.
    """
    if not sources:
        raise SettingsError("give at least one file of predictions")
    named = [_name_and_path(source) for source in sources]
    ours = [_is_ours(path) for _, path in named]
    found = {
        k: _renamed(open_predictions(path), name) for k, (name, path) in enumerate(named) if ours[k]
    }
    for k, (name, path) in enumerate(named):
        if not ours[k]:
            found[k] = read_foreign(path, like=list(found.values()), name=name)
    return [found[k] for k in range(len(named))]


def _name_and_path(source: str) -> tuple[str, Path]:
    name, equals, rest = source.partition("=")
    if Path(source).is_file() or not equals:
        name, rest = "", source
    if not Path(rest).is_file():
        raise SettingsError(f"no such file of predictions: {rest}")
    return name, Path(rest)


def _is_ours(path: Path) -> bool:
    if path.suffix.lower() != ".parquet":
        return False
    try:
        metadata = pq.read_schema(path).metadata or {}
    except (pa.ArrowException, OSError):
        return True  # whoever opens it as ours says what is wrong with it
    return bool(metadata.get(b"format", b"").decode().startswith(FORMAT.partition("-")[0]))


def _renamed(predictions: Predictions, name: str) -> Predictions:
    """One method is called by the name; several, and controls, have it before their own."""
    if not name:
        return predictions
    data = predictions.data
    controls = [bool(text) for text in data["control"].to_pylist()]
    methods, owners = data["method"].to_pylist(), data["control_of"].to_pylist()
    single = len({m for m, c in zip(methods, controls, strict=True) if not c}) == 1
    new = {
        "method": [
            name if single and not control else f"{name}, {method}"
            for method, control in zip(methods, controls, strict=True)
        ],
        "control_of": [owner and (name if single else f"{name}, {owner}") for owner in owners],
    }
    for column, values in new.items():
        place = data.column_names.index(column)
        data = data.set_column(place, column, pa.array(values, type=pa.string()))
    return replace(predictions, data=data)
