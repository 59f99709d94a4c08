"""Logistic probes: all tasks, folds and C together, against a loop over scikit-learn.

    python -m benchmarks.linear_probe [--reps 3] [--threads 1] [--no-battery]

Six tasks with signals of several strengths on 1000 vectors of 512 columns (decaying spectrum,
columns standardised, as a probe sees them), ten folds, classes balanced. Contenders take turns.
Beside each time stands its error against the converged solution: the largest difference of a
tested slide's probability, and of a fold's AUC. Converged is ours at tolerance 1e-9; how far its
hardest problem (the largest logits) is from scikit-learn's Newton-Cholesky at 1e-10 comes first.
Seconds are CPU seconds.

The battery is 6 tasks × 10 folds × 4 training sizes (50, 100, 25 %, full) × 7 C on 11,642 × 512.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import time
import warnings
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
from jaxtyping import Float64, Int64
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

from benchmarks.report import line
from gigassl.evaluate.logistic import LogisticProblems, row_weights, solve_logistic

N, DIM, FOLDS = 1000, 512, 10
SIGNALS = (0.3, 0.6, 1.0, 2.0, 3.0, 5.0)
SHARES = (0.5, 0.3, 0.2, 0.5, 0.15, 0.4)  # of the second class, by task
GRIDS = {"C 1e-4..1": 10.0 ** np.arange(-4, 1), "C 1e-4..100": 10.0 ** np.arange(-4, 3)}

Rows = Float64[np.ndarray, "row dim"]
Logits = Float64[np.ndarray, "problem row"]
Solver = Callable[[Rows, LogisticProblems], Logits]


def vectors(n: int) -> Rows:
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.standard_normal((DIM, DIM)))[0]
    rows = rng.standard_normal((n, DIM)) * (1 + np.arange(DIM)) ** -0.7 @ axes
    return np.asarray((rows - rows.mean(axis=0)) / rows.std(axis=0))


def labels_of(rows: Rows) -> Int64[np.ndarray, "labelling row"]:
    rng = np.random.default_rng(1)
    found = []
    for signal, share in zip(SIGNALS, SHARES, strict=True):
        score = rows @ rng.standard_normal(DIM)
        score = signal * score / score.std() + rng.logistic(size=len(rows))
        found.append(score > np.quantile(score, 1 - share))
    return np.array(found, dtype=np.int64)


def folds_of(n: int) -> Int64[np.ndarray, " row"]:
    return np.random.default_rng(2).permutation(n) % FOLDS


def problems_of(
    rows: Rows, strengths: Float64[np.ndarray, " strength"], *, sizes: tuple[int, ...]
) -> LogisticProblems:
    """Every task, fold, training size (0: full) and C."""
    labels, folds = labels_of(rows), folds_of(len(rows))
    rng = np.random.default_rng(3)
    sets, owner = [], []
    for task in range(len(labels)):
        for fold in range(FOLDS):
            queue = rng.permutation(np.flatnonzero(folds != fold))
            for size in sizes:
                learned = queue[: size or None]
                sets.append(row_weights(labels[task], learned, balanced=True))
                owner.append(task)
    weight_of = np.repeat(np.arange(len(sets)), len(strengths))
    return LogisticProblems(
        n_classes=2,
        labels=labels,
        weights=np.stack(sets),
        penalties=np.ones((1, DIM)),
        label_of=np.array(owner)[weight_of],
        weight_of=weight_of,
        penalty_of=np.zeros_like(weight_of),
        strengths=np.tile(strengths, len(sets)),
    )


def ours(*, tolerance: float) -> Solver:
    def solve(rows: Rows, problems: LogisticProblems) -> Logits:
        fits = solve_logistic(rows, problems, tolerance=tolerance)
        return np.asarray(fits.coefficients[:, 0] @ rows.T + fits.intercepts)

    return solve


def one_by_one(**arguments: object) -> Solver:
    def solve(rows: Rows, problems: LogisticProblems) -> Logits:
        return np.stack(
            [by_scikit_learn(rows, problems, k, **arguments) for k in range(len(problems))]
        )

    return solve


def by_scikit_learn(
    rows: Rows, problems: LogisticProblems, number: int, **arguments: object
) -> Float64[np.ndarray, " row"]:
    weights = problems.weights[problems.weight_of[number]]
    learned = weights > 0
    labels = problems.labels[problems.label_of[number]]
    model = LogisticRegression(C=problems.strengths[number], class_weight="balanced", **arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(rows[learned], labels[learned])
    return np.asarray(model.decision_function(rows))


def errors(found: Logits, exact: Logits, problems: LogisticProblems) -> tuple[float, float]:
    """Largest difference of a tested probability, and of a fold's AUC."""
    apart, ranked = 0.0, 0.0
    for k in range(len(problems)):
        tested = problems.weights[problems.weight_of[k]] == 0
        labels = problems.labels[problems.label_of[k]][tested]
        one, other = found[k][tested], exact[k][tested]
        apart = max(apart, float(np.abs(sigmoid(one) - sigmoid(other)).max()))
        ranked = max(ranked, abs(roc_auc_score(labels, one) - roc_auc_score(labels, other)))
    return apart, ranked


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 * (1 + np.tanh(logits / 2)))


CONTENDERS: dict[str, Solver] = {
    "ours": ours(tolerance=1e-6),
    "scikit-learn, default": one_by_one(),
    "scikit-learn, tol 1e-6": one_by_one(tol=1e-6, max_iter=10_000),
}


def measure(grid: str, *, reps: int) -> None:
    rows = vectors(N)
    problems = problems_of(rows, GRIDS[grid], sizes=(0,))
    exact = ours(tolerance=1e-9)(rows, problems)
    hard = int(np.argmax(np.abs(exact).max(axis=1)))
    newton = by_scikit_learn(
        rows, problems, hard, tol=1e-10, max_iter=1000, solver="newton-cholesky"
    )
    seconds: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    found: dict[str, Logits] = {}
    for rep in range(reps + 1):
        for name, solve in CONTENDERS.items():
            start = time.process_time()
            found[name] = solve(rows, problems)
            if rep:  # the first one warms up
                seconds[name].append(time.process_time() - start)
    medians = {name: median(values) for name, values in seconds.items()}
    head = f"{grid}, {len(problems)} fits"
    apart = float(np.abs(sigmoid(newton) - sigmoid(exact[hard])).max())
    line(f"{head}: converged against Newton-Cholesky, max |Δp|", apart, unit="")
    for name in CONTENDERS:
        line(f"{head}: {name}", medians[name], unit="s CPU")
        far, ranked = errors(found[name], exact, problems)
        line(f"{head}: {name}, max |Δp|", far, unit="")
        line(f"{head}: {name}, max |ΔAUC|", ranked, unit="")
        if name != "ours":
            line(f"{head}: {name} / ours", medians[name] / medians["ours"], unit="×")


def battery() -> LogisticProblems:
    """6 tasks × 10 folds × 4 training sizes × 7 C on 11,642 vectors."""
    rows = vectors(11_642)
    return problems_of(rows, GRIDS["C 1e-4..100"], sizes=(50, 100, 11_642 // 4, 0))


def measure_battery() -> None:
    rows, problems = vectors(11_642), battery()
    start, cpu = time.perf_counter(), time.process_time()
    fits = solve_logistic(rows, problems)
    line(f"battery of {len(problems)} fits", time.perf_counter() - start, unit="s")
    line(f"battery of {len(problems)} fits", time.process_time() - cpu, unit="s CPU")
    line("battery: largest error", float(fits.error.max()), unit="")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-battery", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    # scikit-learn's small products on two BLAS threads were seen to take a hundred times as long
    with threadpool_limits(options.threads):
        for grid in GRIDS:
            measure(grid, reps=options.reps)
        if not options.no_battery:
            measure_battery()


if __name__ == "__main__":
    main()
