"""Options of the Ray engine become its settings, and are refused where there is no cluster."""

import pytest

from gigassl.cli.cluster_options import cluster_engine
from gigassl.errors import SettingsError
from gigassl.pipeline.ray_settings import RayEngine


def engine(name: str, **said: object) -> RayEngine | None:
    nothing = dict.fromkeys(
        ("address", "actors", "gpus_per_actor", "cpus_per_actor", "decoders", "retries")
    )
    return cluster_engine(name, device="auto", **{**nothing, **said})  # type: ignore[arg-type]


def test_this_process_needs_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED", raising=False)
    assert engine("local") is None


def test_what_is_said_counts_and_the_rest_is_left_to_the_defaults() -> None:
    assert engine("ray") == RayEngine()
    found = engine("ray", address="local", gpus_per_actor=0.5, retries=0)
    assert found == RayEngine(address="local", gpus_per_actor=0.5, retries=0)


def test_options_of_clusters_are_refused_without_one() -> None:
    with pytest.raises(SettingsError, match="--actors, --retries is for clusters"):
        engine("local", actors=2, retries=1)
