"""Small tasks that several tests use."""

import numpy as np

from gigassl.evaluate.task import Kind, Task


def small_task(
    kind: Kind = "classification",
    *,
    n: int = 12,
    classes: tuple[str, ...] = ("benign", "malignant"),
) -> Task:
    """A task of ``n`` slides, two a patient, classes in turn, times and values rising."""
    survival = kind == "survival"
    return Task(
        name="grade",
        kind=kind,
        slide_ids=tuple(f"slide-{k:02}" for k in range(n)),
        patient_ids=tuple(f"patient-{k // 2:02}" for k in range(n)),
        sites=tuple("AB"[k // 2 % 2] for k in range(n)),
        classes=classes if kind == "classification" else (),
        target=(
            np.arange(n) // 2 % len(classes) if kind == "classification" else 1 + np.arange(n)
        ).astype(np.float64),
        event=np.arange(n) % 3 > 0 if survival else None,
    )
