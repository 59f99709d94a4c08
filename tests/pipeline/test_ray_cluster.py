"""How many encoders and decoders a cluster has room for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gigassl.errors import SettingsError
from gigassl.pipeline.ray_cluster import Layout, NodeRoom, lay_out
from gigassl.pipeline.ray_settings import RayEngine


def test_one_encoder_a_gpu_with_the_cpus_that_are_left_for_decoding() -> None:
    nodes = [NodeRoom(cpus=64, gpus=8), NodeRoom(cpus=64, gpus=8), NodeRoom(cpus=4)]
    found = lay_out(RayEngine(), nodes)
    assert (found.actors, found.gpus, found.cpus) == (16, 1.0, 1.0)
    assert (found.decoders, found.decoder_cpus) == (7, 1.0)
    assert found.bundles == [{"CPU": 1.0, "GPU": 1.0}, *[{"CPU": 1.0}] * 7]


def test_half_a_gpu_each_puts_two_on_one() -> None:
    found = lay_out(RayEngine(gpus_per_actor=0.5), [NodeRoom(cpus=16, gpus=1.0)])
    assert (found.actors, found.gpus, found.decoders) == (2, 0.5, 7)


def test_a_gpu_beside_one_cpu_still_has_decoders() -> None:
    found = lay_out(RayEngine(), [NodeRoom(cpus=1, gpus=1)])
    assert found == Layout(actors=1, gpus=1.0, cpus=0.5, decoders=2, decoder_cpus=0.25)


def test_without_gpus_one_encoder_a_node_takes_all_cpus_but_one() -> None:
    nodes = [NodeRoom(cpus=16), NodeRoom(cpus=8), NodeRoom(cpus=0)]
    found = lay_out(RayEngine(), nodes)
    assert (found.actors, found.gpus, found.cpus) == (2, 0.0, 7.0)
    assert (found.decoders, found.decoder_cpus, found.threads) == (2, 0.5, 8)


def test_gpus_can_be_left_alone() -> None:
    assert lay_out(RayEngine(device="cpu"), [NodeRoom(cpus=4, gpus=1)]).gpus == 0


@pytest.mark.parametrize(
    ("engine", "nodes", "said"),
    [
        (RayEngine(gpus_per_actor=2), [NodeRoom(cpus=4, gpus=1)], "has 2 GPUs for an encoder"),
        (RayEngine(device="cuda"), [NodeRoom(cpus=4)], "has 1 GPUs for an encoder"),
        (RayEngine(), [], "no node with CPUs"),
        (RayEngine(cpus_per_actor=2), [NodeRoom(cpus=2)], "leave none of the cluster's CPUs"),
    ],
)
def test_what_does_not_fit_is_refused(
    engine: RayEngine, nodes: list[NodeRoom], said: str
) -> None:  # fmt: skip
    with pytest.raises(SettingsError, match=said):
        lay_out(engine, nodes)


def test_nodes_that_are_still_to_come_are_asked_for() -> None:
    found = lay_out(RayEngine(actors=8, gpus_per_actor=1), [NodeRoom(cpus=4)])
    assert (found.actors, found.gpus) == (8, 1)


@given(
    cpus=st.lists(st.integers(1, 96), min_size=1, max_size=5),
    gpus=st.integers(0, 8),
    share=st.sampled_from([None, 0.25, 0.5, 1.0]),
)
def test_all_that_is_reserved_fits(cpus: list[int], gpus: int, share: float | None) -> None:
    nodes = [NodeRoom(cpus=n, gpus=gpus) for n in cpus]
    if share is not None and gpus == 0:
        return
    found = lay_out(RayEngine(gpus_per_actor=share), nodes)
    reserved = found.actors * sum(bundle["CPU"] for bundle in found.bundles)
    assert reserved <= sum(cpus) + 1e-6
    assert found.actors * found.gpus <= gpus * len(nodes)
    assert found.decoders >= 2


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"actors": 0}, "--actors must be more than 0"),
        ({"cpus_per_actor": -1.0}, "--cpus-per-actor must be more than 0"),
        ({"gpus_per_actor": 1.5}, "a fraction up to 1, or a whole number; got 1.5"),
        ({"retries": -1}, "--retries must be 0 or more"),
        ({"device": "cuda:1"}, "unknown device of Ray actors 'cuda:1'"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(given: dict[str, float], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        RayEngine(**given)  # type: ignore[arg-type]
