"""Needle networks: receptive fields against gradients (check C4), poolings, what is refused."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gigassl.errors import SettingsError
from gigassl.evaluate.needles.network import (
    PAPER_NETWORK,
    POOLINGS,
    NeedleNetwork,
    NeedleNetworkSettings,
    Pooling,
)

SMALL = NeedleNetworkSettings()


def footprint(wanted: NeedleNetworkSettings, *, canvas_px: int) -> tuple[int, int]:
    """Rows and columns of the input that a place in the middle of the last map depends on."""
    network = NeedleNetwork(wanted).double().eval()
    with torch.no_grad():
        for parameter in network.parameters():  # positive, so that nothing cancels
            parameter.abs_().clamp_(min=1e-3)
    # every pixel passes every ReLU
    image = torch.ones(1, 1, canvas_px, canvas_px, dtype=torch.float64, requires_grad=True)
    maps = network.maps(image)
    place = maps[0, :, maps.shape[2] // 2, maps.shape[3] // 2].sum()
    (gradient,) = torch.autograd.grad(place, image)
    touched = gradient[0, 0] != 0
    return int(touched.any(dim=1).sum()), int(touched.any(dim=0).sum())


@pytest.mark.parametrize(
    ("seeing", "field_px"),
    [((1, 1, 0, 0), 9), ((1, 1, 1, 0), 17), ((1, 1, 1, 1), 33), ((3, 4, 6, 3), 177)],
)
def test_published_receptive_fields(seeing: tuple[int, ...], field_px: int) -> None:
    # narrow, and without instance norms, through which all places see the mean
    wanted = replace(PAPER_NETWORK, seeing=seeing, width=1, norm="batch")
    assert wanted.field_px == field_px
    assert footprint(wanted, canvas_px=field_px + 63) == (field_px, field_px)


@given(
    stages=st.lists(
        st.tuples(st.integers(1, 3), st.integers(0, 3), st.integers(1, 2)), min_size=1, max_size=3
    )
)
@settings(max_examples=10)
def test_receptive_field_is_the_footprint_of_gradients(
    stages: list[tuple[int, int, int]],
) -> None:
    blocks, seeing, strides = zip(*[(n, min(n, s), stride) for n, s, stride in stages], strict=True)
    wanted = NeedleNetworkSettings(
        blocks=blocks, seeing=seeing, strides=strides, width=1, norm="batch"
    )
    assert footprint(wanted, canvas_px=wanted.field_px + 30) == (wanted.field_px,) * 2


def test_poolings_against_numpy() -> None:
    maps = torch.randn(3, 5, 12, generator=torch.Generator().manual_seed(0))
    values = maps.double().numpy()
    expected = {
        "mean": values.mean(axis=2),
        "max": values.max(axis=2),
        "lse": np.log(np.exp(values).mean(axis=2)),
    }
    for name, pooling in POOLINGS.items():
        assert pooling(maps).numpy() == pytest.approx(expected[name], abs=1e-5)
    # the mean exponential, so that a larger image of the same has the same value
    assert POOLINGS["lse"](torch.cat([maps, maps], dim=2)).numpy() == pytest.approx(
        expected["lse"], abs=1e-5
    )


@pytest.mark.parametrize("pooling", get_args(Pooling))
def test_a_constant_image_gives_what_the_head_says_of_one_place(pooling: Pooling) -> None:
    """Away from the edges all places are the same, so any pooling gives that place."""
    torch_settings = replace(SMALL, pooling=pooling, seeing=(0, 0), norm="batch")
    network = NeedleNetwork(torch_settings).eval()
    image = torch.full((2, 1, 32, 32), 0.3)
    logits, local = network(image), network.local(image)
    assert local.shape == (2, 15, 15)
    difference = (logits[:, 1] - logits[:, 0]).detach().numpy()
    assert local.detach().numpy() == pytest.approx(
        np.broadcast_to(difference[:, None, None], local.shape), abs=1e-5
    )


def test_attention_weighs_places_by_its_scores() -> None:
    network = NeedleNetwork(replace(SMALL, pooling="attention")).eval()
    image = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    assert network.attention is not None
    maps = network.maps(image).detach().double().numpy().reshape(2, network.out_channels, -1)
    scores = network.attention(network.maps(image)).detach().double().numpy().reshape(2, -1)
    weights = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    pooled = (maps * weights[:, None]).sum(axis=2)
    weight, bias = (p.detach().double().numpy() for p in network.head.parameters())
    assert network(image).detach().numpy() == pytest.approx(pooled @ weight.T + bias, abs=1e-4)


def test_networks_of_all_fields_are_about_equally_large() -> None:
    sizes = [
        sum(p.numel() for p in NeedleNetwork(replace(PAPER_NETWORK, seeing=seeing)).parameters())
        for seeing in ((1, 1, 0, 0), (1, 1, 1, 1))
    ]
    narrow = replace(PAPER_NETWORK, seeing=(1, 1, 0, 0), widened=False)
    plain = sum(p.numel() for p in NeedleNetwork(narrow).parameters())
    assert sizes[0] == pytest.approx(sizes[1], rel=0.2)
    assert plain < 0.7 * sizes[1]
    assert NeedleNetwork(PAPER_NETWORK).out_channels == 2048


@pytest.mark.parametrize("canvas_px", [16, 64])
def test_no_canvas_is_too_small(canvas_px: int) -> None:
    far = replace(SMALL, blocks=(2, 2, 2), seeing=(2, 2, 2), strides=(2, 2, 1))
    assert far.field_px > 16
    logits = NeedleNetwork(far)(torch.zeros(2, 1, canvas_px, canvas_px))
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"seeing": (1, 1, 1)}, "one number a stage"),
        ({"seeing": (2, 1)}, "cannot have 3 × 3"),
        ({"width": 0}, "at least 1"),
    ],
)
def test_impossible_networks_are_refused(wrong: dict[str, object], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        replace(SMALL, **wrong)  # type: ignore[arg-type]


def test_norms_are_instance_norms() -> None:
    norms = [
        module
        for module in NeedleNetwork(replace(SMALL, norm="plain-instance")).modules()
        if isinstance(module, nn.GroupNorm)
    ]
    assert len(norms) == 12
    maps = torch.randn(2, norms[0].num_channels, 7, 5, generator=torch.Generator().manual_seed(0))
    expected = nn.InstanceNorm2d(norms[0].num_channels)(maps)
    assert norms[0](maps).detach().numpy() == pytest.approx(expected.numpy(), abs=1e-5)
    assert sum(p.numel() for norm in norms for p in norm.parameters()) == 0
