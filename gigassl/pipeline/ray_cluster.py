"""A Ray cluster: connecting to it, and how many encoders and decoders it has room for."""

import logging
import math
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from gigassl.errors import SettingsError
from gigassl.pipeline.ray_settings import RayEngine

_MOST_DECODERS = 16


@dataclass(frozen=True, kw_only=True)
class NodeRoom:
    """What a node of the cluster has."""

    cpus: float
    gpus: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a cluster is used.

    Attributes:
        actors: encoder actors.
        gpus, cpus: that each of them holds.
        decoders: slides decoded at a time for each of them.
        decoder_cpus: CPUs that a decoder holds.
    """

    actors: int
    gpus: float
    cpus: float
    decoders: int
    decoder_cpus: float

    @property
    def bundles(self) -> list[dict[str, float]]:
        """What an actor and its decoders reserve together, so that neither waits for the other."""
        encoder = {"CPU": self.cpus} | ({"GPU": self.gpus} if self.gpus else {})
        return [encoder, *({"CPU": self.decoder_cpus} for _ in range(self.decoders))]

    @property
    def threads(self) -> int | None:
        """Threads of an encoder on the CPU: its own and its decoders' CPUs, as readers idle."""
        if self.gpus:
            return None
        return max(1, round(self.cpus + self.decoders * self.decoder_cpus))


def lay_out(engine: RayEngine, nodes: Sequence[NodeRoom]) -> Layout:
    """Divides a cluster into actors with their decoders.

    Raises:
        SettingsError: there is no room for one.
    """
    nodes = [node for node in nodes if node.cpus > 0]
    gpus = _gpus_per_actor(engine, nodes)
    fit = sum(int(node.gpus / gpus + 1e-6) for node in nodes) if gpus else len(nodes)
    actors = engine.actors or fit
    if actors == 0:
        raise SettingsError(
            f"no node of the cluster has {gpus:g} GPUs for an encoder; give --gpus-per-actor, "
            "--device cpu, or --actors N where nodes are still to come"
            if gpus
            else "the cluster has no node with CPUs"
        )
    share = sum(node.cpus for node in nodes) / actors or 1.0
    if not gpus:
        share = min(share, *(node.cpus for node in nodes)) if nodes else share
    cpus = engine.cpus_per_actor or (min(1.0, share / 2) if gpus else max(share - 1, share / 2))
    room = share - cpus
    if room < 0.02:
        raise SettingsError(
            f"{actors} encoders with {cpus:g} CPUs each leave none of the cluster's CPUs for "
            "reading slides; give fewer --actors, or --cpus-per-actor"
        )
    wish = min(max(int(room), 2), _MOST_DECODERS) if gpus else 2
    decoders = engine.decoders or wish
    return Layout(
        actors=actors,
        gpus=gpus,
        cpus=_rounded(cpus),
        decoders=decoders,
        decoder_cpus=_rounded(min(1.0, room / decoders)),
    )


def _gpus_per_actor(engine: RayEngine, nodes: Sequence[NodeRoom]) -> float:
    if engine.gpus_per_actor is not None:
        return engine.gpus_per_actor
    wanted = engine.device == "cuda" or any(node.gpus for node in nodes)
    return 1.0 if wanted and engine.device != "cpu" else 0.0


def _rounded(cpus: float) -> float:
    """Down to what Ray can divide."""
    return max(0.01, math.floor(cpus * 100 + 1e-6) / 100)


@contextmanager
def connected(engine: RayEngine) -> Iterator[None]:
    """Connected to the cluster inside; one that was begun for the run ends with it.

    SIGTERM, with which schedulers end a job, then counts as Ctrl-C: what was done is kept. A
    process that is connected already stays so.

    Raises:
        SettingsError: Ray is not installed, or there is no such cluster.
    """
    try:
        import ray
    except ImportError as error:
        raise SettingsError(
            "the engine ray is not installed; run `pip install 'gigassl[ray]'`, or use "
            "--engine local"
        ) from error
    ours = not ray.is_initialized()
    if ours:
        _connect(engine.address)
    try:
        with _terminated_as_interrupted():
            yield
    finally:
        if ours:
            ray.shutdown()


def _connect(address: str) -> None:
    import ray

    own: Mapping[str, Any] = {"include_dashboard": False} if address == "local" else {}
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING, **own)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise SettingsError(
            f"no Ray cluster could be reached at '{address}': {error}; start one with "
            "`ray start --head`, or give --address local for one that lives as long as the run"
        ) from error


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def rooms() -> Sequence[NodeRoom]:
    """What the nodes have that are alive."""
    import ray

    nodes: Any = ray.nodes()  # type: ignore[no-untyped-call]
    found = [node["Resources"] for node in nodes if node["Alive"]]
    return [NodeRoom(cpus=r.get("CPU", 0.0), gpus=r.get("GPU", 0.0)) for r in found]
