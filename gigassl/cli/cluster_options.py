"""Options of commands that can run on a Ray cluster, and how they become settings."""

import os
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gigassl.errors import SettingsError

if TYPE_CHECKING:
    from gigassl.pipeline.ray_settings import RayEngine

CLUSTER = "Cluster"

Engine = Annotated[
    Literal["local", "ray"],
    typer.Option(
        help="Encode in this process, or on a Ray cluster; does not change results.",
        rich_help_panel=CLUSTER,
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        help="Of the Ray cluster: auto, HOST:PORT, ray://HOST:PORT, or local for one of this run's "
        "own.",
        rich_help_panel=CLUSTER,
        show_default="auto",
    ),
]
Actors = Annotated[
    int | None,
    typer.Option(
        help="Encoders on the cluster.", min=1, rich_help_panel=CLUSTER,
        show_default="as many as have room",
    ),
]  # fmt: skip
GpusPerActor = Annotated[
    float | None,
    typer.Option(
        help="GPUs of an encoder; 0.5 puts two on one.", min=0, rich_help_panel=CLUSTER,
        show_default="1 where there are any",
    ),
]  # fmt: skip
CpusPerActor = Annotated[
    float | None,
    typer.Option(
        help="CPUs of an encoder, beside its decoders'.", rich_help_panel=CLUSTER,
        show_default="1 beside a GPU, else all but one",
    ),
]  # fmt: skip
Decoders = Annotated[
    int | None,
    typer.Option(
        help="Slides decoded at a time for each encoder.", min=1, rich_help_panel=CLUSTER,
        show_default="by CPUs",
    ),
]  # fmt: skip
Retries = Annotated[
    int | None,
    typer.Option(
        help="Times that a slide is tried again which was lost with its process or node.", min=0,
        rich_help_panel=CLUSTER, show_default="3",
    ),
]  # fmt: skip


def cluster_engine(
    engine: str, *, device: str, address: str | None, actors: int | None,
    gpus_per_actor: float | None, cpus_per_actor: float | None, decoders: int | None,
    retries: int | None,
) -> "RayEngine | None":  # fmt: skip
    """The Ray engine; None where this process encodes.

    Raises:
        SettingsError: an option of clusters without ``--engine ray``, or one that cannot be used.
    """
    from gigassl.pipeline.ray_settings import RayEngine

    said = {
        "address": address, "actors": actors, "gpus_per_actor": gpus_per_actor,
        "cpus_per_actor": cpus_per_actor, "decoders": decoders, "retries": retries,
    }  # fmt: skip
    given = {name: value for name, value in said.items() if value is not None}
    if engine == "local":
        if given:
            names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
            raise SettingsError(f"{names} is for clusters; add --engine ray")
        return None
    # a cluster begun by the run would otherwise report its use to Ray's makers
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    return RayEngine(device=device, **given)  # type: ignore[arg-type]
