"""Study of task subsets: an encoder of each, all judged on labelled images of another question."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from gigassl.errors import SettingsError
from gigassl.evaluate.task_subsets import (
    SubsetRun,
    all_subsets,
    count_merit,
    scores_by_count,
    task_merit,
)
from gigassl.files import written_whole
from gigassl.pipeline.failures import Failure
from gigassl.pipeline.output import make_folder
from gigassl.pipeline.pretrain_tiles import pretrain_tiles
from gigassl.pipeline.pretrain_tiles_data import TileDataSettings
from gigassl.pipeline.pretrain_tiles_settings import PretrainTilesOptions, PretrainTilesSettings
from gigassl.pipeline.probe_tiles import probe_tiles
from gigassl.pipeline.probe_tiles_options import ProbeTilesOptions
from gigassl.pipeline.probe_tiles_result import ProbeTilesResult
from gigassl.pipeline.progress import Progress
from gigassl.report.tables import Grid, grid_as_markdown, grid_as_text
from gigassl.report.task_subsets import save_subset_figure, subset_grids
from gigassl.slides.grid import GridSettings
from gigassl.tiles.labelled_tasks import LabelledTasks, read_tasks
from gigassl.tiles.pretrain.catalogue import METHOD_NETWORKS, METHOD_PRESETS
from gigassl.tiles.training_networks import TileNetwork

TABLE, FIGURE = "task_subsets.md", "task_subsets"
_MOST_TASKS = 6
_SCORE = "AUC"


@dataclass(frozen=True, kw_only=True)
class TaskSubsetsSettings:
    """What is trained on which images.

    Attributes:
        seeds: an encoder of each subset is trained with each.
        steps: of each training.
        architecture: of the encoders.
        tile_px: side of the tiles that they learn from, px.
        label_column, group_column, group_pattern: of the tasks and of the target, as in
            ``read_labelled``.
        image_mpp: µm/px of the target's images, which are then cut into tiles; None: each is one.
        device: "auto", "cpu" or "cuda".
    """

    seeds: tuple[int, ...] = (0,)
    steps: int = 5000
    architecture: str = METHOD_NETWORKS["multitask"]
    tile_px: int = 128
    label_column: str | None = None
    group_column: str | None = None
    group_pattern: str | None = None
    image_mpp: float | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise SettingsError(f"seeds are one or more different numbers; got {self.seeds}")


@dataclass(frozen=True, kw_only=True)
class TaskSubsetsResult:
    """How a study ended.

    Attributes:
        out: its folder.
        runs: an encoder each.
        grids: every run, the numbers of tasks, the tasks; none where it was stopped.
        failures: images that were left out.
        interrupted: whether it was stopped before its end; what was done is kept.
    """

    out: Path
    runs: tuple[SubsetRun, ...] = ()
    grids: tuple[Grid, ...] = ()
    failures: tuple[Failure, ...] = ()
    interrupted: bool = False

    def sentence(self) -> str:
        """What happened, for people."""
        if self.interrupted:
            return f"stopped; what was trained is kept in {self.out}, the same command goes on"
        tables = "\n\n".join(grid_as_text(grid) for grid in self.grids)
        return f"{tables}\n\n{self.out / TABLE}; look at {self.out / FIGURE}.png"

    def summary(self) -> dict[str, Any]:
        """What happened, for machines."""
        runs = [{"tasks": sorted(run.tasks), "score": run.score} for run in self.runs]
        found: dict[str, Any] = {"out": str(self.out), "interrupted": self.interrupted}
        if not self.runs:
            return found
        means = {row.n_tasks: row.mean for row in scores_by_count(self.runs)}
        merits = {"task_merit": dict(task_merit(self.runs)), "count_merit": count_merit(self.runs)}
        return {**found, "runs": runs, "mean_by_tasks": means, **merits}


def task_subsets(
    out: Path, *, tasks: Sequence[Path], target: Path, settings: TaskSubsetsSettings | None = None,
    progress: Progress | None = None,
) -> TaskSubsetsResult:  # fmt: skip
    """Trains a multitask encoder on every subset of the tasks and judges all on another question.

    As the study of Tellez et al. (MIDL 2020, PMLR 121:770-783, table and figure 3), with the AUC of
    a logistic probe on labelled images in place of a slide-level score. Beside the encoders stand
    the same network with random weights, and mean colours. Trainings that are done are not done
    again.

    Args:
        out: folder of encoders, probes, table and figure.
        tasks: folders of labelled images, or tables beside images; two to six.
        target: labelled images of a question that is none of the tasks.
        settings: of the trainings.
        progress: is told of images.

    Raises:
        SettingsError: too few or too many tasks, or images or settings that cannot be used.
        BusyError: another run writes there.
        MachineError: disk full, read-only folder, out of memory.
    """
    settings = settings or TaskSubsetsSettings()
    read = read_tasks(tasks, **_columns(settings))
    if not 2 <= len(read.names) <= _MOST_TASKS:
        raise SettingsError(
            f"subsets of 2 to {_MOST_TASKS} tasks are studied; got {len(read.names)}"
        )
    make_folder(out / "encoders")
    trained: dict[Path, frozenset[str]] = {}
    for path, names, seed in _planned(read, out / "encoders", settings):
        chosen = _subset(read, names)
        result = pretrain_tiles(
            chosen, path, settings=_training(settings, seed=seed),
            options=PretrainTilesOptions(device=settings.device), progress=progress,
        )  # fmt: skip
        if result.interrupted:
            return TaskSubsetsResult(out=out, interrupted=True)
        trained[result.out] = names
    return _judged(out, trained, target=target, settings=settings, progress=progress)


def _columns(settings: TaskSubsetsSettings) -> dict[str, Any]:
    names = ("label_column", "group_column", "group_pattern")
    return {name: getattr(settings, name) for name in names}


def _planned(
    tasks: LabelledTasks, folder: Path, settings: TaskSubsetsSettings
) -> Iterator[tuple[Path, frozenset[str], int]]:
    """Where each encoder goes; files are numbered as tasks are, whose names may hold anything."""
    for names, seed in product(all_subsets(tasks.names), settings.seeds):
        numbers = "-".join(
            str(tasks.names.index(name) + 1) for name in tasks.names if name in names
        )
        yield folder / f"tasks-{numbers}-seed-{seed}.safetensors", names, seed


def _subset(tasks: LabelledTasks, names: frozenset[str]) -> LabelledTasks:
    kept = [k for k, name in enumerate(tasks.names) if name in names]
    return LabelledTasks(
        names=tuple(tasks.names[k] for k in kept), images=tuple(tasks.images[k] for k in kept)
    )


def _training(settings: TaskSubsetsSettings, *, seed: int) -> PretrainTilesSettings:
    preset = METHOD_PRESETS["multitask"]
    views = replace(preset.views, side_px=settings.tile_px)
    data = TileDataSettings()
    grid = GridSettings(tile_px=settings.tile_px)
    return PretrainTilesSettings(
        training=replace(preset, steps=settings.steps, seed=seed, views=views),
        network=TileNetwork(architecture=settings.architecture),
        data=replace(data, tiles=replace(data.tiles, grid=grid)),
    )


def _judged(
    out: Path, trained: dict[Path, frozenset[str]], *, target: Path, settings: TaskSubsetsSettings,
    progress: Progress | None,
) -> TaskSubsetsResult:  # fmt: skip
    """Probes all encoders on the target, and writes what came of it."""
    controls = {_random(settings): "random weights", "mean-rgb": "mean colour"}
    probed = probe_tiles(
        target, out / "probed", encoders=[*map(str, trained), *controls],
        options=ProbeTilesOptions(
            image_mpp=settings.image_mpp, controls=False, device=settings.device,
            **_columns(settings),
        ),
        progress=progress,
    )  # fmt: skip
    scores = _scores(probed)
    runs = tuple(SubsetRun(tasks=tasks, score=scores[path.name]) for path, tasks in trained.items())
    title = f"AUC of a probe on {target.name}"
    grids = subset_grids(runs, title=title, score=_SCORE)
    with written_whole(out / TABLE) as part:
        part.write_text("\n\n".join(grid_as_markdown(grid) for grid in grids) + "\n")
    save_subset_figure(
        runs, out / FIGURE, title=title, score=_SCORE,
        controls={said: scores[name] for name, said in controls.items()},
    )  # fmt: skip
    return TaskSubsetsResult(out=out, runs=runs, grids=grids, failures=probed.failures)


def _random(settings: TaskSubsetsSettings) -> str:
    """The same network with random weights, by name."""
    name = settings.architecture
    return f"random:{name}{',' if '?' in name else '?'}px={settings.tile_px}"


def _scores(probed: ProbeTilesResult) -> dict[str, float]:
    return {row.name: row.auc.mean for row in probed.rows}
