"""DINOv2: DINO, and the teacher's patches foretold where they are hidden from the student."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Float32
from lightly.loss import DINOLoss, IBOTPatchLoss, KoLeoLoss
from lightly.models.modules import MaskedVisionTransformerTIMM
from lightly.models.modules.center import Center, center_momentum
from lightly.models.modules.heads import DINOv2ProjectionHead
from lightly.utils import dist
from torch import Tensor, nn

from gigassl.errors import SettingsError
from gigassl.tiles.pretrain.method import Method, Views
from gigassl.tiles.pretrain.methods.dino import DinoOptions, teacher_temperature
from gigassl.tiles.pretrain.methods.masks import MaskSettings, draw_masks
from gigassl.tiles.pretrain.methods.parts import (
    Run,
    check_limits,
    follow,
    head_and_slow_copy,
    hold_last_layer,
    in_float32,
    momentum_after,
    said_if_slow,
    slow_copy,
    whole_batch,
)

_FITTING = "vit_tiny_patch16_224, vit_small_patch16_224, vit_small_patch14_reg4_dinov2"
_LEAST_SIDE = 4


@dataclass(frozen=True, kw_only=True)
class Dinov2Options(DinoOptions):
    """Options of DINOv2: those of DINO, and those of the patches.

    Attributes:
        momentum: share of the teacher that stays at the first step; rises to 1.
        patch_weight: of the loss of hidden patches.
        spread_weight: of the loss that keeps tiles of a batch apart (KoLeo).
        masked_views: share of the large views that have hidden patches.
        masked_least, masked_most: share of the patches that are hidden in those.
    """

    momentum: float = 0.992
    patch_weight: float = 1.0
    spread_weight: float = 0.1
    masked_views: float = 0.5
    masked_least: float = 0.1
    masked_most: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_limits(
            self, patch_weight=(0, 1e3), spread_weight=(0, 1e3), masked_views=(0, 1),
            masked_least=(0, 1), masked_most=(self.masked_least, 1),
        )  # fmt: skip


class Dinov2(Method):
    """DINO on class tokens, iBOT on hidden patches, and tiles of a batch kept apart.

    DINOv2, arXiv 2304.07193 (iBOT: 2111.07832; KoLeo: 1806.03198), for timm's plain vision
    transformers with a class token. Centres by moving averages, as in DINO and iBOT, in place of
    DINOv2's Sinkhorn-Knopp; one head for class tokens and one for patches. Nearest neighbours of
    KoLeo are sought in the whole batch, over all processes. The teacher is kept, and the vectors
    given back are its own, of whole views. Heads run in fp32.

    Raises:
        SettingsError: an encoder of another kind.
    """

    def __init__(self, encoder: nn.Module, *, options: Dinov2Options, run: Run) -> None:
        super().__init__()
        _check(encoder, side_px=run.side_px)
        self.options, self.steps, self.shared = options, run.steps, run.gather
        said_if_slow(options.momentum, steps=run.steps)
        self.encoder = encoder
        self.mask_token = nn.Parameter(torch.zeros(1, 1, run.width))
        self.slow_encoder = slow_copy(encoder)
        widths = (run.width, options.hidden, options.bottleneck, options.prototypes)
        make = partial(DINOv2ProjectionHead, *widths)
        self.head, self.slow_head = head_and_slow_copy(make)
        self.patch_head, self.slow_patch_head = head_and_slow_copy(make)
        self.loss = DINOLoss(
            options.prototypes,
            student_temp=options.temperature,
            center_momentum=options.centre_momentum,
        )
        self.patch_loss = IBOTPatchLoss(options.prototypes, student_temp=options.temperature)
        self.patch_loss.center = _PatchCentre(
            options.prototypes, momentum=options.centre_momentum, shared=run.gather
        )
        self.spread = KoLeoLoss()

    def forward(
        self, views: Views, *, progress: float, generator: torch.Generator
    ) -> tuple[Float[Tensor, ""], Float32[Tensor, "tile width"], Float32[Tensor, "tile width"]]:
        """The sum of the three losses."""
        large = torch.cat([views[0], views[1]])
        masks = self._masks(large, generator=generator).to(large.device)
        with torch.no_grad():
            taught = _tokens(self.slow_encoder, large)
        learned = _tokens(self.encoder, large, masks=masks, mask_token=self.mask_token)
        classes = [learned[:, 0]]
        if len(views) > 2:
            classes.append(self.encoder(torch.cat(list(views[2:]))))
        temperature = teacher_temperature(self.options, progress)
        loss = self._of_classes(taught[:, 0], torch.cat(classes), temperature=temperature)
        of_patches = self._of_patches(taught, learned, masks=masks, temperature=temperature)
        loss = loss + self.options.patch_weight * of_patches
        loss = loss + self.options.spread_weight * self._of_spread(learned[:, 0])
        first, second = taught[:, 0].float().chunk(2)
        return loss, first, second

    def before_step(self, progress: float) -> None:
        """The prototypes wait until the rest has settled."""
        if progress < self.options.frozen:
            hold_last_layer(self.head)
            hold_last_layer(self.patch_head)

    def after_step(self, progress: float) -> None:
        """The teacher follows, ever more slowly."""
        momentum = momentum_after(progress, start=self.options.momentum, steps=self.steps)
        pairs = {
            self.encoder: self.slow_encoder,
            self.head: self.slow_head,
            self.patch_head: self.slow_patch_head,
        }
        follow(pairs, momentum=momentum)

    def encoder_to_keep(self) -> nn.Module:
        """The teacher, as in DINOv2."""
        return self.slow_encoder

    def _masks(self, large: Tensor, *, generator: torch.Generator) -> Bool[Tensor, "view row col"]:
        rank, world = (dist.rank(), dist.world_size()) if self.shared else (0, 1)
        settings = MaskSettings(
            views=self.options.masked_views,
            least=self.options.masked_least,
            most=self.options.masked_most,
            side=large.shape[-1] // _patch_px(self.encoder),
        )
        return draw_masks(
            len(large) // 2 * world, settings=settings, part=(rank, world), generator=generator
        )

    def _of_classes(self, taught: Tensor, learned: Tensor, *, temperature: float) -> Tensor:
        """DINO: the student's class tokens of all views against the teacher's of large ones."""
        n_tiles = len(taught) // 2
        with torch.no_grad():
            wanted = in_float32(self.slow_head, taught)
        said = in_float32(self.head, learned)
        return in_float32(
            partial(self.loss, teacher_temp=temperature),
            list(torch.split(wanted, n_tiles)),
            list(torch.split(said, n_tiles)),
        )

    def _of_patches(
        self, taught: Tensor, learned: Tensor, *, masks: Tensor, temperature: float
    ) -> Tensor:
        """IBOT: the student's patches against the teacher's where they are hidden."""
        hidden = masks.flatten(1)
        n_prefix = taught.shape[1] - hidden.shape[1]
        with torch.no_grad():
            wanted = in_float32(self.slow_patch_head, taught[:, n_prefix:][hidden])
        said = in_float32(self.patch_head, learned[:, n_prefix:][hidden])
        return in_float32(
            partial(self.patch_loss, mask=masks, teacher_temp=temperature), wanted, said
        )

    def _of_spread(self, classes: Tensor) -> Tensor:
        """KoLeo: tiles of a batch keep apart; of each large view by itself."""
        losses = [
            in_float32(self.spread, whole_batch(view.float(), shared=self.shared))
            for view in classes.chunk(2)
        ]
        return torch.stack(losses).sum()


class _PatchCentre(Center):  # type: ignore[misc]  # lightly is untyped
    """The mean over all hidden patches; lightly's own means over processes first.

    Processes hide different numbers of patches, and a batch may hide none.
    """

    center: Tensor

    def __init__(self, prototypes: int, *, momentum: float, shared: bool) -> None:
        super().__init__(size=(1, prototypes), momentum=momentum)
        self.shared = shared

    @torch.no_grad()
    def update(self, x: Tensor) -> None:
        """Moves the centre a little towards these answers."""
        count = x.new_full((1, 1), len(x))
        mine = torch.cat([x.sum(dim=0, keepdim=True), count], dim=1)
        total = whole_batch(mine, shared=self.shared).sum(dim=0, keepdim=True)
        moved = center_momentum(self.center, total[:, :-1] / total[:, -1:], self.momentum)
        self.center = torch.where(total[:, -1:] > 0, moved, self.center)


def _tokens(
    transformer: nn.Module, images: Tensor, *, masks: Tensor | None = None,
    mask_token: nn.Parameter | None = None,
) -> Float[Tensor, "image token width"]:  # fmt: skip
    """Class token, registers and patches behind the last norm."""
    # only a way to run timm's network: it holds nothing of its own, so it is made each time
    masked: Any = MaskedVisionTransformerTIMM(
        transformer, mask_token=mask_token, weight_initialization="skip",
        pos_embed_initialization="skip",
    )  # fmt: skip
    if masks is not None:
        hidden = masks.flatten(1)
        prefix = hidden.new_zeros(len(hidden), masked.vit.num_prefix_tokens)
        masks = torch.cat([prefix, hidden], dim=1)
    tokens: Tensor = masked.encode(images, mask=masks)
    return tokens


def _patch_px(transformer: Any) -> int:
    return int(transformer.patch_embed.patch_size[0])


def _check(encoder: nn.Module, *, side_px: int) -> None:
    """Makes sure that the first token is the encoder's vector, by running it."""
    before = {module: module.training for module in encoder.modules()}
    image = torch.zeros(1, 3, side_px, side_px, device=next(encoder.parameters()).device)
    try:
        with torch.no_grad():
            vector, tokens = encoder.eval()(image), _tokens(encoder, image)
        fits = torch.allclose(vector, tokens[:, 0], rtol=1e-3, atol=1e-4)
    except (AttributeError, AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise _unfit(encoder) from error
    finally:
        for module, training in before.items():
            module.training = training
    if not fits:
        raise _unfit(encoder)
    if side_px < _LEAST_SIDE * _patch_px(encoder):
        raise SettingsError(
            f"views of {side_px} px are too few patches of {_patch_px(encoder)} px to hide some; "
            f"large views need at least {_LEAST_SIDE * _patch_px(encoder)} px"
        )


def _unfit(encoder: nn.Module) -> SettingsError:
    return SettingsError(
        "method 'dinov2' trains plain vision transformers that answer with their class token, not "
        f"{type(encoder).__name__}; take for instance {_FITTING}, or method 'dino', which trains "
        "any network"
    )
