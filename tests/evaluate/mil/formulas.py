"""MIL models one bag and one tile at a time in plain numpy, from their papers' formulas."""

from collections.abc import Mapping

import numpy as np
from torch import nn

Array = np.ndarray


def weights_of(model: nn.Module) -> dict[str, Array]:
    return {name: np.asarray(value.double()) for name, value in model.state_dict().items()}


def linear(weights: Mapping[str, Array], name: str, x: Array) -> Array:
    out: Array = weights[f"{name}.weight"] @ x + weights.get(f"{name}.bias", np.zeros(1))
    return out


def relu(x: Array) -> Array:
    out: Array = np.maximum(x, 0)
    return out


def sigmoid(x: Array) -> Array:
    out: Array = 1 / (1 + np.exp(-x))
    return out


def softmax(x: Array) -> Array:
    raised = np.exp(x - x.max())
    out: Array = raised / raised.sum()
    return out


def embedded(weights: Mapping[str, Array], bag: Array) -> Array:
    """One layer with ReLU on each tile."""
    return np.stack([relu(linear(weights, "embed.0", tile)) for tile in bag])


def mean(weights: Mapping[str, Array], bag: Array) -> Array:
    return linear(weights, "head", embedded(weights, bag).mean(axis=0))


def largest(weights: Mapping[str, Array], bag: Array) -> Array:
    return linear(weights, "head", embedded(weights, bag).max(axis=0))


def mean_mlp(weights: Mapping[str, Array], bag: Array) -> Array:
    return linear(weights, "head", relu(linear(weights, "embed.0", bag.mean(axis=0))))


def attention(weights: Mapping[str, Array], tiles: Array) -> Array:
    """Equation 8 of arXiv 1802.04712, or 9 where there is a gate."""
    scores = []
    for tile in tiles:
        hidden = np.tanh(linear(weights, "attention.content", tile))
        if "attention.gate.weight" in weights:
            hidden = hidden * sigmoid(linear(weights, "attention.gate", tile))
        scores.append((weights["attention.score.weight"] @ hidden)[0])
    return softmax(np.array(scores))


def abmil(weights: Mapping[str, Array], bag: Array) -> Array:
    tiles = embedded(weights, bag)
    pooled = sum(a * tile for a, tile in zip(attention(weights, tiles), tiles, strict=True))
    return linear(weights, "head", np.asarray(pooled))


def dsmil(weights: Mapping[str, Array], bag: Array) -> Array:
    """arXiv 2011.08939: the critical tile's score, and tiles weighed by its query."""
    scores = np.stack([linear(weights, "instances", tile) for tile in bag])
    queries = np.stack([
        np.tanh(linear(weights, "query.2", relu(linear(weights, "query.0", tile)))) for tile in bag
    ])  # fmt: skip
    values = np.stack([relu(linear(weights, "value.1", tile)) for tile in bag])
    said = []
    for output in range(scores.shape[1]):
        critical = int(scores[:, output].argmax())
        likeness = softmax(queries @ queries[critical] / np.sqrt(queries.shape[1]))
        of_bag = linear(weights, f"head.{output}", likeness @ values)[0]
        said.append((scores[critical, output] + of_bag) / 2)
    return np.array(said)


def self_attention(weights: Mapping[str, Array], name: str, x: Array, *, heads: int = 8) -> Array:
    """Softmax attention of each head, the convolution along its values beside it."""
    three = x @ weights[f"{name}.three.weight"].T
    query, key, value = np.split(three, 3, axis=1)
    length = x.shape[1] // heads
    out = np.zeros_like(x)
    for head in range(heads):
        mine = slice(head * length, (head + 1) * length)
        q, k, v = query[:, mine], key[:, mine], value[:, mine]
        mixed = np.stack([softmax(k @ one / np.sqrt(length)) @ v for one in q])
        kernel = weights[f"{name}.along.weight"][head, 0, :, 0]
        for at in range(len(x)):
            for step, factor in enumerate(kernel):
                other = at + step - len(kernel) // 2
                if 0 <= other < len(x):
                    mixed[at] += factor * v[other]
        out[:, mine] = mixed
    return np.stack([linear(weights, f"{name}.out.0", row) for row in out])


def layer_norm(weights: Mapping[str, Array], name: str, x: Array) -> Array:
    centred = x - x.mean(axis=-1, keepdims=True)
    unit = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5)
    out: Array = unit * weights[f"{name}.weight"] + weights[f"{name}.bias"]
    return out


def pyramid(weights: Mapping[str, Array], square: Array) -> Array:
    """PPEG: the square, and convolutions of 7, 5 and 3 over it, channel by channel."""
    side = len(square)
    out = square.copy()
    for number, size in enumerate((7, 5, 3)):
        kernel = weights[f"position.convs.{number}.weight"][:, 0]
        reach = size // 2
        for row in range(side):
            for col in range(side):
                total = weights[f"position.convs.{number}.bias"].copy()
                for dy in range(-reach, reach + 1):
                    for dx in range(-reach, reach + 1):
                        y, x = row + dy, col + dx
                        if 0 <= y < side and 0 <= x < side:
                            total += kernel[:, dy + reach, dx + reach] * square[y, x]
                out[row, col] += total
    return out


def transmil(weights: Mapping[str, Array], bag: Array) -> Array:
    """Algorithm 2 of arXiv 2106.00908 with exact attention."""
    tiles = embedded(weights, bag)
    side = int(np.ceil(np.sqrt(len(tiles))))
    square = np.concatenate([tiles, tiles[: side * side - len(tiles)]])
    tokens = np.concatenate([weights["token.value"], square])
    for number in range(2):
        normed = layer_norm(weights, f"layers.{number}.norm", tokens)
        tokens = tokens + self_attention(weights, f"layers.{number}.attention", normed)
        if number == 0:
            placed = pyramid(weights, tokens[1:].reshape(side, side, -1))
            tokens = np.concatenate([tokens[:1], placed.reshape(side * side, -1)])
    return linear(weights, "head", layer_norm(weights, "norm", tokens[0]))
