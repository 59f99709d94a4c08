"""Networks of tile encoders as plain modules: cut, pooled, folded, filled with random weights."""

import copy
from collections import OrderedDict

import torch
from jaxtyping import Float32
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

_FOLD_TOLERANCE = 1e-4


class PooledTokens(nn.Module):
    """A vision transformer that answers with its class token beside the mean of its patch tokens.

    Register tokens are left out of the mean (Virchow: class token + 256 patches; Virchow2: also 4
    registers). Names of the weights are those of the transformer itself.
    """

    def __init__(self, transformer: nn.Module, *, n_prefix: int) -> None:
        super().__init__()
        self.transformer = transformer
        self.n_prefix = n_prefix

    def forward(self, images: Tensor) -> Tensor:
        """Vectors [tile, 2 x dim] of normalised images [tile, channel, row, col]."""
        tokens = self.transformer(images)  # [tile, token, dim]
        return torch.cat([tokens[:, 0], tokens[:, self.n_prefix :].mean(dim=1)], dim=1)


class ConvStem(nn.Module):
    """Patch embedding of CTransPath: two strided 3 × 3 convolutions, then 1 × 1.

    After Xiao et al., Early Convolutions Help Transformers See Better (arXiv 2106.14881).
    """

    def __init__(
        self,
        *,
        img_size: tuple[int, int] = (224, 224),
        patch_size: int = 4,
        in_chans: int = 3,
        embed_dim: int = 96,
        **_layout: object,
    ) -> None:
        super().__init__()
        self.img_size = img_size
        self.patch_size = (patch_size, patch_size)
        self.grid_size = (img_size[0] // patch_size, img_size[1] // patch_size)
        self.num_patches = self.grid_size[0] * self.grid_size[1]
        eighth, quarter = embed_dim // 8, embed_dim // 4
        self.proj = nn.Sequential(
            nn.Conv2d(in_chans, eighth, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(eighth),
            nn.ReLU(),
            nn.Conv2d(eighth, quarter, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(quarter),
            nn.ReLU(),
            nn.Conv2d(quarter, embed_dim, 1),
        )
        self.norm = nn.LayerNorm(embed_dim)

    def forward(self, images: Tensor) -> Tensor:
        """Patches [tile, row, col, dim] of normalised images [tile, channel, row, col]."""
        # [tile, dim, row, col] -> [tile, row, col, dim], the layout of timm's Swin
        embedded: Tensor = self.norm(self.proj(images).permute(0, 2, 3, 1))
        return embedded


def cut_after(network: nn.Module, stage: str) -> nn.Module:
    """The network up to and including a named child, then averaged over the plane.

    Children must run in the order in which they stand, as those of ResNets do. Weights keep their
    names. ResNet18 after ``layer3`` gives the 256-d features of Giga-SSL (arXiv 2212.03273).
    """
    kept: OrderedDict[str, nn.Module] = OrderedDict()
    for name, child in network.named_children():
        kept[name] = child
        if name == stage:
            break
    kept["pool"] = nn.AdaptiveAvgPool2d(1)
    kept["flatten"] = nn.Flatten()
    return nn.Sequential(kept)


def fill_randomly(network: nn.Module, *, seed: int) -> None:
    """Replaces every weight in place from a generator of its own: a control that learned nothing.

    Kernels of convolutions are drawn as in He et al. (arXiv 1502.01852), other matrices with a
    standard deviation of 0.02; biases become 0 and the scale of norms 1.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if weight.ndim == 4:
                nn.init.kaiming_normal_(
                    weight, mode="fan_out", nonlinearity="relu", generator=generator
                )
            elif weight.ndim >= 2:
                weight.normal_(0.0, 0.02, generator=generator)
            elif name.endswith("bias"):
                weight.zero_()
            elif name.endswith("weight"):
                weight.fill_(1.0)


def folded(network: nn.Module, *, input_px: int) -> nn.Module:
    """A copy with batch norms folded into the convolutions before them: same function, faster.

    Which norm follows which convolution is read off the order of children; networks that run in
    another order are noticed by comparing both on noise, and returned as they were.
    """
    if not any(isinstance(module, nn.BatchNorm2d) for module in network.modules()):
        # a copy of a transformer would take gigabytes for nothing
        return network
    candidate = copy.deepcopy(network)
    if not _fold_in_place(candidate):
        return network
    noise = torch.empty(2, 3, input_px, input_px)
    noise.normal_(generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected, found = network(noise), candidate(noise)
    close = (expected - found).norm() <= _FOLD_TOLERANCE * expected.norm()
    return candidate if bool(close) else network


def _fold_in_place(network: nn.Module) -> int:
    n_folded = 0
    for module in network.modules():
        before = ""
        for name, child in list(module.named_children()):
            conv = getattr(module, before, None) if before else None
            if isinstance(child, nn.BatchNorm2d) and isinstance(conv, nn.Conv2d):
                setattr(module, before, fuse_conv_bn_eval(conv, child))
                # timm's norms carry the activation that follows them
                setattr(module, name, getattr(child, "act", nn.Identity()))
                n_folded += 1
            before = name
    return n_folded


def relative_error(
    found: Float32[Tensor, "tile dim"], expected: Float32[Tensor, "tile dim"]
) -> float:
    """Norm of the difference over the norm of what was expected."""
    return float((found - expected).norm() / expected.norm())
