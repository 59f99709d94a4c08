"""Small Ray clusters for tests, on the loopback interface only, and their processes."""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.faults.processes import below, command_of

ENCODER = "ray::EncoderActor"
DECODER = "ray::gigassl-decoder"

ENVIRONMENT: Mapping[str, str] = {
    "RAY_USAGE_STATS_ENABLED": "0",  # it would report to Ray's makers
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # every process listens on 127.0.0.1 only
    "RAY_AUTH_TOKEN": "0" * 64,
    # Ray's workers step back before everything else on the machine, and tests would crawl
    "RAY_worker_niceness": "0",
    "OMP_WAIT_POLICY": "PASSIVE",
}
"""Of every process of a test cluster; Ray reads it when it is imported."""

os.environ.update(ENVIRONMENT)


@contextmanager
def short_folder() -> Iterator[Path]:
    """A folder for a cluster: sockets lie in it, whose paths must be short."""
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as name:
        os.environ["RAY_TMPDIR"] = name
        (Path(name) / "ray").mkdir()
        yield Path(name)


@contextmanager
def ray_here() -> Iterator[Path]:
    """Connected to a cluster of one node with two CPUs; yields its folder."""
    import ray

    with short_folder() as folder:
        ray.init(
            address="local", num_cpus=2, include_dashboard=False, log_to_driver=False,
            object_store_memory=200_000_000, _temp_dir=str(folder),
        )  # fmt: skip
        try:
            yield folder
        finally:
            ray.shutdown()


def workers_of(folder: Path, *, title: str = "ray::") -> list[int]:
    """Workers of the cluster whose files lie in a folder, by the beginning of their title.

    An encoder's is ``ENCODER``, a decoder's ``DECODER`` while it decodes.
    """
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        command = command_of(int(entry.name))
        if "raylet/raylet" in command and str(folder) in command:
            found += [pid for pid in below(int(entry.name)) if command_of(pid).startswith(title)]
    return found


@contextmanager
def two_nodes() -> Iterator[tuple[Path, Any, Any]]:
    """A cluster of two nodes with two CPUs each: its folder, the cluster, the second node."""
    from ray.cluster_utils import Cluster

    with short_folder() as folder:
        own: dict[str, Any] = {"object_store_memory": 200_000_000, "temp_dir": str(folder)}
        head = {"num_cpus": 2, "include_dashboard": False, **own}
        cluster: Any = Cluster(initialize_head=True, head_node_args=head)
        try:
            yield folder, cluster, cluster.add_node(num_cpus=2, **own)
        finally:
            cluster.shutdown()
