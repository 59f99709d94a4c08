"""``gigassl fit`` and ``gigassl predict``: a probe frozen, and applied to another cohort."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gigassl.cli import task_options as task
from gigassl.cli.options import Json
from gigassl.cli.result import finish

if TYPE_CHECKING:
    from gigassl.pipeline.fit import FitSettings

FIT_EXAMPLE = (
    "Example: gigassl fit a.parquet --labels a.csv --target msi -o msi.safetensors "
    "--test b.parquet --test-labels b.csv"
)
PREDICT_EXAMPLE = (
    "Example: gigassl predict msi.safetensors b.parquet -o b.predictions.parquet --labels b.csv"
)
PROBE, OTHER = "Probe", "Other cohort"

Allow = Annotated[
    bool,
    typer.Option(
        "--allow-other-vectors",
        help="Accept vectors made with other settings.",
        rich_help_panel=OTHER,
    ),
]
Include = Annotated[
    bool,
    typer.Option(
        "--include-training",
        help="Keep slides of patients that were learned from.",
        rich_help_panel=OTHER,
    ),
]


def fit_command(
    vectors: Annotated[Path, typer.Argument(help="Table of slide vectors.")],
    labels: task.Labels,
    out: Annotated[Path, typer.Option("--out", "-o", help="The .safetensors file to write.")],
    slide_table: task.SlideTable = None,
    target: task.Target = None,
    kind: task.Kind = "auto",
    time: task.Time = None,
    event: task.Event = None,
    site_column: task.SiteColumn = None,
    splits: task.Splits = None,
    scheme: task.Scheme = "patient-kfold",
    folds: task.Folds = 5,
    seed: task.Seed = 0,
    probe: Annotated[
        Literal["logistic", "ridge", "knn", "prototype", "cox"] | None,
        typer.Option(help="Which probe.", rich_help_panel=PROBE, show_default="by the task"),
    ] = None,
    preset: Annotated[
        Literal["giga-ssl"] | None,
        typer.Option(help="A published protocol.", rich_help_panel=PROBE),
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(help="C, or the penalty.", rich_help_panel=PROBE, show_default="chosen"),
    ] = None,
    threshold: Annotated[
        str,
        typer.Option(
            help="youden, sensitivity=0.95 or specificity=0.95, out of fold.",
            rich_help_panel=PROBE,
        ),
    ] = "youden",
    calibrate: Annotated[
        bool, typer.Option(help="Platt scaling, out of fold.", rich_help_panel=PROBE)
    ] = True,
    keep_folds: Annotated[
        bool,
        typer.Option(
            "--keep-folds",
            help="Keep the probe of each fold too, for `gigassl explain`.",
            rich_help_panel=PROBE,
        ),
    ] = False,
    test: Annotated[
        Path | None, typer.Option(help="Vectors of another cohort.", rich_help_panel=OTHER)
    ] = None,
    test_labels: Annotated[
        Path | None, typer.Option(help="Its labels.", rich_help_panel=OTHER)
    ] = None,
    include_training: Include = False,
    allow_other_vectors: Allow = False,
    json: Json = False,
) -> None:
    """Freeze a probe: learned from all labelled slides, for another cohort.

    Calibration and threshold are chosen on out-of-fold predictions. With --test and --test-labels
    the probe is applied to the other cohort at once, and the external validation printed.
    """
    from gigassl.errors import SettingsError
    from gigassl.pipeline.fit import fit
    from gigassl.pipeline.predict import PredictOptions, predict

    options = task.task_options(
        labels, slide_table=slide_table, target=target, kind=kind, time=time, event=event,
        site_column=site_column, splits=splits, scheme=scheme, folds=folds, seed=seed,
    )  # fmt: skip
    if test_labels is not None and test is None:
        raise SettingsError("--test-labels are of the vectors that --test names; give both")
    settings = _settings(
        probe, preset=preset, strength=strength, threshold=threshold, calibrate=calibrate,
        keep_folds=keep_folds,
    )  # fmt: skip
    result = fit(vectors, out, task=options, settings=settings)
    if test is None:
        finish(result, as_json=json)
    if not json:
        typer.echo(f"{result.sentence()}\n")
    other = PredictOptions(
        labels=test_labels, target=target, time=time, event=event,
        include_training=include_training, allow_other_vectors=allow_other_vectors,
    )  # fmt: skip
    finish(predict(out, test, out.with_suffix(".test.parquet"), options=other), as_json=json)


def predict_command(
    probe: Annotated[Path, typer.Argument(help="File of `gigassl fit`.")],
    vectors: Annotated[Path, typer.Argument(help="Vectors of another cohort.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The predictions (.parquet) to write.")],
    labels: Annotated[
        Path | None,
        typer.Option(help="Its labels: an external validation.", show_default="none"),
    ] = None,
    slide_table: task.SlideTable = None,
    target: Annotated[
        str | None, typer.Option(help="Column of the labels.", show_default="as learned")
    ] = None,
    time: task.Time = None,
    event: task.Event = None,
    include_training: Include = False,
    allow_other_vectors: Allow = False,
    json: Json = False,
) -> None:
    """Apply a frozen probe to another cohort.

    Vectors must be made with the settings of those that the probe learned from. With labels it
    prints the external validation: scores with intervals, sensitivity and specificity at the frozen
    threshold, calibration.
    """
    from gigassl.pipeline.predict import PredictOptions, predict

    options = PredictOptions(
        labels=labels, slide_table=slide_table, target=target, time=time, event=event,
        include_training=include_training, allow_other_vectors=allow_other_vectors,
    )  # fmt: skip
    finish(predict(probe, vectors, out, options=options), as_json=json)


def _settings(
    method: str | None, *, preset: str | None, strength: float | None, threshold: str,
    calibrate: bool, keep_folds: bool,
) -> "FitSettings":  # fmt: skip
    from gigassl.errors import SettingsError
    from gigassl.evaluate.probes import PROBE_PRESETS, ProbeSettings
    from gigassl.pipeline.fit import FitSettings

    if preset is not None and (method or strength):
        raise SettingsError(f"the preset '{preset}' says all of the probe; leave it or them out")
    chosen = PROBE_PRESETS[preset] if preset else None
    if method is not None:
        chosen = ProbeSettings(method=method, strength=strength)
    elif strength is not None:
        raise SettingsError("--strength belongs to a probe; name it with --probe")
    return FitSettings(
        probe=chosen, threshold=threshold, calibrate=calibrate, keep_folds=keep_folds
    )
