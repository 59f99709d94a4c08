"""BiGAN: an encoder and a generator deceive a discriminator of pairs of a tile and its code."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import softplus

from gigassl.tiles.nic_networks import Discriminator, Generator, NicEncoder
from gigassl.tiles.pretrain.method import Method, Views
from gigassl.tiles.pretrain.methods.parts import (
    Run,
    check_limits,
    in_float32,
    nic_network,
    normal_draws,
)


@dataclass(frozen=True, kw_only=True)
class BiganOptions:
    """Options of the BiGAN.

    Attributes:
        generator: width of the generator's dense layer, a multiple of 16.
        discriminator: width of the discriminator's two dense layers.
        dropout: behind each of these.
    """

    generator: int = 1024
    discriminator: int = 1024
    dropout: float = 0.5

    def __post_init__(self) -> None:
        check_limits(self, generator=(16, 2**20), discriminator=(1, 65536), dropout=(0, 0.99))


class Bigan(Method):
    """A discriminator tells (tile, its code) from (drawn tile, its code); the others deceive it.

    Adversarial feature learning, arXiv 1605.09782, as in neural image compression, arXiv
    1811.02840, section III-B. The discriminator D climbs the objective of the game, encoder E and
    generator G as usual its form that does not saturate: they descend -log(1 - D(x, E(x)))
    - log D(G(z), z), whose optimum is the same. One optimiser serves both sides: of the two terms
    of the loss, each has gradients for its own side only. Either view of a tile is an image.
    """

    encoder: NicEncoder

    def __init__(self, encoder: nn.Module, *, options: BiganOptions, run: Run) -> None:
        """A generator as deep as the encoder, and a discriminator like it.

        Raises:
            SettingsError: a network that is none of ours.
        """
        super().__init__()
        self.encoder = network = nic_network(encoder, method="bigan")
        self.generator = Generator(
            network.filters, code=run.width, first=options.generator // 16,
            side_px=network.side_px, channels=network.channels,
        )  # fmt: skip
        self.discriminator = Discriminator(
            network, width=options.discriminator, dropout=options.dropout
        )

    def forward(
        self, views: Views, *, progress: float, generator: torch.Generator
    ) -> tuple[Float[Tensor, ""], Float32[Tensor, "tile width"], Float32[Tensor, "tile width"]]:
        """The losses of both sides added up."""
        images = self.encoder.seen(torch.cat([views[0], views[1]]))
        codes = self.encoder.code(self.encoder.body(images))
        wanted = normal_draws(codes, generator)
        drawn = self.generator(wanted)
        real = self.discriminator(images, codes.detach())
        false = self.discriminator(drawn.detach(), wanted)
        loss = in_float32(value_of, real, false).neg()
        # the same discriminator, which this time nothing is learned about
        fixed = {name: p.detach() for name, p in self.discriminator.named_parameters()}
        real = functional_call(self.discriminator, fixed, (images, codes))
        false = functional_call(self.discriminator, fixed, (drawn, wanted))
        loss = loss + in_float32(value_of, false, real).neg()
        first, second = codes.detach().float().chunk(2)
        return loss, first, second

    def pictures(
        self, images: Float[Tensor, "tile 3 row col"], generator: torch.Generator
    ) -> Mapping[str, Float[Tensor, "_ tile channel _ _"]]:
        """Tiles drawn from noise; and tiles above what is drawn from their codes."""
        codes = self.encoder(images)
        lines = [self.generator(normal_draws(codes, generator)) for _ in range(4)]
        pairs = [self.encoder.seen(images), self.generator(codes)]
        return {"generated": torch.stack(lines), "reconstructions": torch.stack(pairs)}


def value_of(real: Float[Tensor, " tile"], false: Float[Tensor, " tile"]) -> Float[Tensor, ""]:
    """The mean of log D(x, E(x)) + log(1 - D(G(z), z)) from the logits of D."""
    return -(softplus(-real) + softplus(false)).mean()
