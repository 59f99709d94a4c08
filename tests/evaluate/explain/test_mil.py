"""What MIL models look at: attention as the papers have it, contributions that sum."""

import numpy as np
import pytest
import torch

from gigassl.evaluate.explain.mil import asked_of, explain_bag
from gigassl.evaluate.mil.nystrom import SelfAttention
from gigassl.evaluate.mil.transmil import TransMil
from tests.evaluate.mil.bags import packed, random_bags
from tests.evaluate.mil.test_models import model_of

ATTENTIVE = ("abmil", "gated-abmil", "clam-sb", "dsmil", "transmil")
POOLED = ("mean", "max", "mean-mlp")


@pytest.mark.parametrize("name", ATTENTIVE)
@pytest.mark.parametrize("n_tiles", [1, 2, 19])
def test_attention_weighs_every_tile_and_sums_to_one(name: str, n_tiles: int) -> None:
    model, bags = model_of(name), packed(random_bags([n_tiles], 5))
    found = explain_bag(model, bags, asked=asked_of(("no", "yes"), 1))
    assert (found.meaning, found.score.shape) == ("attention", (n_tiles,))
    assert (found.score >= 0).all()
    total = found.score.sum()
    assert (0 < total < 1) if name == "transmil" else total == pytest.approx(1, abs=1e-5)
    assert found.output == pytest.approx(model(bags).scores[0, 0].item(), abs=1e-6)


@pytest.mark.parametrize("name", POOLED)
@pytest.mark.parametrize("n_tiles", [1, 19])
def test_without_attention_tiles_contribute_what_sums_to_the_answer(
    name: str, n_tiles: int
) -> None:
    model, bags = model_of(name), packed(random_bags([n_tiles], 5))
    found = explain_bag(model, bags, asked=asked_of(("no", "yes"), 1))
    assert found.meaning == "contribution"
    assert found.completeness_error is not None
    assert found.completeness_error < 0.05 * np.abs(found.score).sum() + 1e-6


def test_of_two_classes_the_first_has_minus_the_contributions_of_the_second() -> None:
    model, bags = model_of("mean"), packed(random_bags([9], 2))
    no, yes = (explain_bag(model, bags, asked=asked_of(("no", "yes"), k)) for k in (0, 1))
    np.testing.assert_allclose(no.score, -yes.score, atol=1e-9)
    looks = [explain_bag(model_of("abmil"), bags, asked=asked_of(("no", "yes"), k)) for k in (0, 1)]
    np.testing.assert_array_equal(looks[0].score, looks[1].score)
    assert looks[0].output == -looks[1].output


def test_each_of_several_classes_has_an_answer_and_a_critical_tile() -> None:
    model, bags = model_of("dsmil", classes=3), packed(random_bags([9], 2))
    found = [explain_bag(model, bags, asked=asked_of(("a", "b", "c"), k)) for k in range(3)]
    scores = model(bags).scores[0].detach()
    assert [each.output for each in found] == pytest.approx(scores.tolist(), abs=1e-6)
    assert not np.array_equal(found[0].score, found[2].score)


def test_what_the_class_token_takes_is_the_row_of_plain_attention() -> None:
    generator = torch.Generator().manual_seed(0)
    attention = SelfAttention(width=16, heads=4, landmarks=12, exact_tokens=100, dropout=0.0)
    tokens = torch.randn(12, 16, generator=generator)
    with torch.inference_mode():
        query, key, _ = attention.three(tokens).reshape(12, 3, 4, 4).permute(1, 2, 0, 3)
        # one head, one query, all keys
        rows = [(key[head] @ query[head, 0] / 2.0).softmax(dim=0) for head in range(4)]
        slow = torch.stack(rows).mean(dim=0)
        np.testing.assert_allclose(attention.of_first(tokens), slow, atol=1e-6)
        attention.exact_tokens = 0  # as many landmarks as tokens: the approximation is exact
        np.testing.assert_allclose(attention.of_first(tokens), slow, atol=5e-3)


def test_copies_that_fill_the_square_count_with_their_tile() -> None:
    model = model_of("transmil")
    assert isinstance(model, TransMil)
    bags = packed(random_bags([6, 9], 3))
    with torch.inference_mode():
        together = model.weights(bags)
        alone = [model.weights(packed([tiles])) for tiles in random_bags([6, 9], 3)]
        tiles = model.embed(bags.features)[:6]
        last = model.layers[1]
        taken = last.attention.of_first(last.norm(model._tokens(tiles)))  # type: ignore[union-attr, operator]
    np.testing.assert_allclose(together, torch.cat(alone), atol=1e-6)
    assert len(taken) == 1 + 9
    assert float(together[:6].sum()) == pytest.approx(float(taken[1:].sum()), abs=1e-6)
    assert float(together[1]) == pytest.approx(float(taken[2] + taken[8]), abs=1e-6)
