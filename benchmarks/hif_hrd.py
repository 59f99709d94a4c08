"""Real slide vectors: HRD from 607 human-interpretable features, on a fixed hold-out of TCGA.

    python -m benchmarks.hif_hrd --shared DIR [--out DIR]

The features of a slide (PathAI's HIFs of TCGA slides, CC BY-NC-SA, one slide a patient) and the
HRD label stand in ``data/tcga_hif/hrd``; label: HRD_Score_Binarized as the files have it (score at
least 37 in LUAD, 48 in LUSC, 34 in STAD). Learned from is USE, tested HOLDOUT. Every step goes
through the program, as a user would: features as CSV, brought to mean 0 and deviation 1 of USE
(numbers of different units have no common length), imported, probed by a logistic regression whose
C is chosen by folds inside USE, and few-shot draws of 25, 50 and 100 patients. Nothing was chosen
on HOLDOUT. Seen elsewhere, in a quick check: LUAD about .62, LUSC about .48, STAD about .67.
"""

import argparse
import csv
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

CANCERS = ("luad", "lusc", "stad")
LABEL, PATIENT = "HRD_Score_Binarized", "bcr_patient_barcode"
_NOT_FEATURES = {"", PATIENT, "HRD_Score", LABEL}
SIZES = ("25", "50", "100", "full")


def write_inputs(source: Path, cancer: str, *, out: Path) -> None:
    """Features, labels and the fixed split, as the files that a user would have."""
    use, held = (_rows(source / f"{cancer}.HRD_Score.joined.{s}.csv") for s in ("USE", "HOLDOUT"))
    names = [name for name in use[0] if name not in _NOT_FEATURES]
    learned = _matrix(use, names)
    mean, deviation = learned.mean(axis=0), learned.std(axis=0)
    features = (_matrix([*use, *held], names) - mean) / np.where(deviation > 0, deviation, 1.0)
    everyone = [row[PATIENT] for row in (*use, *held)]
    columns = [f"f{k:03}" for k in range(len(names))]
    _write(
        out / "features.csv", ("slide_id", *columns),
        [(name, *map(repr, row.tolist())) for name, row in zip(everyone, features, strict=True)],
    )  # fmt: skip
    labels = [(row[PATIENT], row[PATIENT], _class(row[LABEL])) for row in (*use, *held)]
    _write(out / "labels.csv", ("slide_id", "patient_id", "hrd"), labels)
    longest = max(len(use), len(held))
    sides = ([row[PATIENT] for row in part] for part in (use, held))
    train, test = (side + [""] * (longest - len(side)) for side in sides)
    (out / "split").mkdir(exist_ok=True)
    _write(out / "split" / "split_0.csv", ("train", "test"), list(zip(train, test, strict=True)))


def commands(cancer: str, out: Path, *, draws: int) -> list[list[str]]:
    """What a user would type, for one cancer."""
    task = [
        "--labels", str(out / "labels.csv"), "--target", "hrd", "--splits", str(out / "split"),
    ]  # fmt: skip
    vectors = str(out / f"{cancer}.parquet")
    return [
        ["import-vectors", str(out / "features.csv"), "-o", vectors, "--encoder", "HIF"],
        ["probe", vectors, *task, "-o", str(out / "predictions.parquet")],
        [
            "fewshot", vectors, *task, "--train-sizes", ",".join(SIZES), "--draws", str(draws),
            "-o", str(out / "fewshot"),
        ],
    ]  # fmt: skip


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8-sig") as handle:
        return list(csv.DictReader(handle))


def _matrix(rows: Sequence[dict[str, str]], names: Sequence[str]) -> np.ndarray:
    return np.array([[float(row[name]) for name in names] for row in rows])


def _class(cell: str) -> str:
    return str(int(float(cell)))


def _write(path: Path, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    with path.open("w", newline="") as handle:
        csv.writer(handle).writerows([head, *rows])


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("hif_hrd"))
    parser.add_argument("--draws", type=int, default=20)
    given = parser.parse_args()
    program = Path(sys.executable).with_name("gigassl")
    for cancer in CANCERS:
        out = given.out / cancer
        out.mkdir(parents=True, exist_ok=True)
        write_inputs(given.shared / "data" / "tcga_hif" / "hrd", cancer, out=out)
        for command in commands(cancer, out, draws=given.draws):
            print(f"\n$ gigassl {' '.join(command)}", flush=True)
            subprocess.run([program, *command], check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
