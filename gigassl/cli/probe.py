"""``gigassl probe``: what vectors are worth on labels, by simple models, beside the controls."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gigassl.cli import task_options as task
from gigassl.cli.options import Json
from gigassl.cli.result import finish

if TYPE_CHECKING:
    from gigassl.evaluate.probes import ProbeSettings

EXAMPLE = (
    "Example: gigassl probe vectors.parquet --labels clinical.csv --target subtype "
    "--train-sizes 50,100,25%,full -o predictions.parquet"
)

PROBE, CONTROLS = "Probe", "Controls"


def probe_command(
    vectors: Annotated[
        list[Path], typer.Argument(help="Tables of vectors; several: compared on the same splits.")
    ],
    labels: task.Labels,
    out: Annotated[Path, typer.Option("--out", "-o", help="Parquet file of the predictions.")],
    target: Annotated[
        str | None,
        typer.Option(help="Columns to predict, comma-separated.", rich_help_panel=task.TASK,
                     show_default="label"),
    ] = None,
    kind: task.Kind = "auto",
    time: task.Time = None,
    event: task.Event = None,
    site_column: task.SiteColumn = None,
    slide_table: task.SlideTable = None,
    patients: task.Patients = "none",
    splits: task.Splits = None,
    scheme: task.Scheme = "patient-kfold",
    folds: task.Folds = 5,
    repeats: task.Repeats = 1,
    test_fraction: task.TestFraction = 0.2,
    train_sizes: task.TrainSizes = "full",
    draws: task.Draws = 1,
    seed: task.Seed = 0,
    method: Annotated[
        list[str] | None,
        typer.Option("--probe", help="logistic, ridge, knn, prototype, cox; may be given again.",
                     rich_help_panel=PROBE, show_default="logistic, ridge or cox, by the target"),
    ] = None,
    preset: Annotated[
        Literal["giga-ssl"] | None,
        typer.Option(help="A published probe: C = 10, balanced, no scaling.",
                     rich_help_panel=PROBE),
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(help="C of logistic, penalty of ridge and cox.", rich_help_panel=PROBE,
                     show_default="chosen inside each training set"),
    ] = None,
    scaling: Annotated[
        Literal["none", "standard", "l2"] | None,
        typer.Option(help="Of the columns, or of each vector.", rich_help_panel=PROBE,
                     show_default="standard for logistic, ridge and cox"),
    ] = None,
    balanced: Annotated[
        bool, typer.Option("--balanced/--unbalanced", help="Logistic: classes weigh the same.",
                           rich_help_panel=PROBE)
    ] = True,
    neighbours: Annotated[int, typer.Option(help="Of knn.", min=1, rich_help_panel=PROBE)] = 20,
    l1_ratio: Annotated[
        float, typer.Option(help="Cox: absolute share of its penalty.", rich_help_panel=PROBE)
    ] = 0.0,
    bags: Annotated[
        Path | None,
        typer.Option(help="Of the first table: controls mean and mean+std.",
                     rich_help_panel=CONTROLS),
    ] = None,
    slide_encoder: Annotated[
        Path | None,
        typer.Option(help="Of the first table: random weights, shuffled coordinates, too.",
                     rich_help_panel=CONTROLS),
    ] = None,
    coords_unit: Annotated[
        Literal["um", "px"] | None,
        typer.Option(help="Unit of bag coordinates that have none.", rich_help_panel=CONTROLS),
    ] = None,
    json: Json = False,
) -> None:  # fmt: skip
    """Measure what vectors are worth on labels.

    Prints leaks, a table of scores with intervals, and controls; writes
    one row a test slide of each split, and the splits beside, for the
    next method's --splits.
    """
    from gigassl.pipeline.probe import ProbeOptions, probe, tasks_of
    from gigassl.pipeline.progress import Reporter

    one = task.task_options(
        labels, slide_table=slide_table, kind=kind, time=time, event=event,
        site_column=site_column, patients=patients, splits=splits, scheme=scheme, folds=folds,
        repeats=repeats, test_fraction=test_fraction, train_sizes=train_sizes, draws=draws,
        seed=seed,
    )  # fmt: skip
    said: dict[str, object] = {"strength": strength, "scaling": scaling, "balanced": balanced,
            "neighbours": neighbours, "l1_ratio": l1_ratio}  # fmt: skip
    options = ProbeOptions(bags=bags, slide_encoder=slide_encoder, coords_unit=coords_unit)
    with Reporter() as reporter:
        result = probe(
            vectors, out, tasks=tasks_of(one, target), options=options, progress=reporter,
            settings=_settings(method or [], preset=preset, said=said),
        )  # fmt: skip
    finish(result, as_json=json)


def _settings(
    methods: list[str], *, preset: str | None, said: dict[str, object]
) -> list["ProbeSettings"]:
    """What the user said; nothing, where all is left to the kind of task."""
    from dataclasses import fields

    from gigassl.errors import SettingsError
    from gigassl.evaluate.probes import PROBE_PRESETS, ProbeSettings

    plain = {field.name: field.default for field in fields(ProbeSettings)}
    given = {name: value for name, value in said.items() if value != plain[name]}
    if preset is not None:
        if given or methods:
            raise SettingsError(
                f"the preset '{preset}' says all of the probe; leave out --probe and "
                f"{', '.join(sorted(given)) or 'its options'}, or the preset"
            )
        return [PROBE_PRESETS[preset]]
    if not methods and not given:
        return []
    return [
        ProbeSettings(method=name, **given)  # type: ignore[arg-type]
        for name in methods or ["logistic"]
    ]
