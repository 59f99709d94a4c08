"""TransMIL: a transformer over the tiles of a bag, laid out as a square."""

import math

import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from gigassl.evaluate.mil.nystrom import SelfAttention
from gigassl.evaluate.mil.packed import PackedBags
from gigassl.evaluate.mil.reading import Reading, plain_reading


class TransMil(nn.Module):
    """Two layers of self-attention with a pyramid of convolutions between them: ``transmil``.

    Shao et al., TransMIL (arXiv 2106.00908). The tiles, in the order in which the bag stores them,
    fill a square row by row, the first ones once more where it is not full; a class token goes
    before. The prediction therefore depends on the order of the tiles, by design of the paper.
    Attention is exact in short bags (``SelfAttention``), where the paper always approximates.

    Args:
        dim: width of the tile features.
        outputs: numbers said of a bag.
        width: of a token.
        landmarks, exact_tokens: see ``SelfAttention``.
        dropout: within the attention layers.
    """

    def __init__(
        self, *, dim: int, outputs: int, width: int = 512, landmarks: int = 256,
        exact_tokens: int = 4096, dropout: float = 0.1,
    ) -> None:  # fmt: skip
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(dim, width), nn.ReLU())
        self.token = ClassToken(width)
        self.layers = nn.ModuleList(
            Layer(
                SelfAttention(
                    width=width, landmarks=landmarks, exact_tokens=exact_tokens,
                    dropout=dropout,
                ),
                width=width,
            )
            for _ in range(2)
        )  # fmt: skip
        self.position = Pyramid(width)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, outputs)

    def forward(self, bags: PackedBags) -> Reading:
        """What it says of each bag; bag by bag, since each is a sequence of its own length."""
        said = [self._class_token(tiles) for tiles in bags.split(self.embed(bags.features))]
        return plain_reading(self.head(self.norm(torch.stack(said))).float())

    def weights(self, bags: PackedBags) -> Float32[Tensor, " tile"]:
        """How much the class token takes from each tile in the last layer, mean over heads.

        In short bags the weights of a bag and of the class token itself sum to one; where attention
        is approximated, so are they. A tile that fills up the square counts with its copy.
        """
        found = []
        for tiles in bags.split(self.embed(bags.features)):
            last: Layer = self.layers[1]  # type: ignore[assignment]
            taken = last.attention.of_first(last.norm(self._tokens(tiles)))[1:]
            n_tiles = len(tiles)
            copies = taken[n_tiles:]
            padded = torch.cat([copies, copies.new_zeros(n_tiles - len(copies))])
            found.append(taken[:n_tiles] + padded)
        return torch.cat(found).float()

    def _class_token(self, tiles: Float[Tensor, "tile width"]) -> Float[Tensor, " width"]:
        out: Tensor = self.layers[1](self._tokens(tiles))[0]
        return out

    def _tokens(self, tiles: Float[Tensor, "tile width"]) -> Float[Tensor, "token width"]:
        """The tokens as the last layer takes them, the class token first."""
        side = math.isqrt(len(tiles) - 1) + 1
        square = torch.cat([tiles, tiles[: side * side - len(tiles)]])
        tokens = torch.cat([self.token.value.to(square.dtype), square])
        tokens = self.layers[0](tokens)
        return torch.cat([tokens[:1], self.position(tokens[1:], side=side)])


class ClassToken(nn.Module):
    """The token that reads the others."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(1, width))

    def initialise(self, generator: torch.Generator) -> None:
        """Draws it from the normal distribution."""
        nn.init.normal_(self.value, generator=generator)


class Layer(nn.Module):
    """Tokens, and what attention adds to them."""

    def __init__(self, attention: SelfAttention, *, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = attention

    def forward(self, tokens: Float[Tensor, "token width"]) -> Float[Tensor, "token width"]:
        """The tokens after the layer."""
        out: Tensor = tokens + self.attention(self.norm(tokens))
        return out


class Pyramid(nn.Module):
    """Position from depth-wise convolutions of three sizes over the square (PPEG)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(width, width, size, padding=size // 2, groups=width) for size in (7, 5, 3)
        )

    def initialise(self, generator: torch.Generator) -> None:
        """Draws the convolutions as PyTorch draws them."""
        for parameter, size in zip(
            [p for conv in self.convs for p in conv.parameters()], (7, 7, 5, 5, 3, 3), strict=True
        ):
            nn.init.uniform_(parameter, -1 / size, 1 / size, generator=generator)

    def forward(
        self, tokens: Float[Tensor, "token width"], *, side: int
    ) -> Float[Tensor, "token width"]:
        """The tokens, and what lies around each."""
        image = tokens.T.reshape(1, -1, side, side)
        total = torch.stack([conv(image) for conv in self.convs]).sum(dim=0) + image
        out: Tensor = total[0].flatten(1).T
        return out
