"""What several methods share: slow copies, schedules, arithmetic in fp32, checks of options."""

import copy
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Float
from lightly.models.utils import deactivate_requires_grad, update_momentum
from lightly.utils.dist import gather, rank, world_size
from lightly.utils.scheduler import cosine_schedule
from torch import Tensor, nn

from gigassl.errors import SettingsError
from gigassl.tiles.labelled_tasks import FileLabels
from gigassl.tiles.nic_networks import NicEncoder

Number = int | float
log = logging.getLogger("gigassl")

_MOST_LEFT = 0.02


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a method must know of the training around it.

    Attributes:
        width: length of the encoder's vectors.
        side_px: side of the large views.
        steps: of the optimiser, for schedules.
        batch_size: tiles of a batch, over all processes.
        gather: several processes share each batch.
        labels: of the files, for methods that learn from these.
    """

    width: int
    side_px: int
    steps: int
    batch_size: int
    gather: bool = False
    labels: FileLabels | None = None


def check_limits(options: Any, **limits: tuple[float, float]) -> None:
    """Checks the options of a method, each from … to.

    Raises:
        SettingsError: an option out of its range; says which range.
    """
    for name, (low, high) in limits.items():
        value = getattr(options, name)
        if not low <= value <= high:
            raise SettingsError(f"option {name} lies from {low:g} to {high:g}; got {value:g}")


def options_from(kind: type[Any], given: Mapping[str, Number], *, method: str) -> Any:
    """The options of a method: those given, else its defaults.

    Raises:
        SettingsError: unknown names or values out of range; lists the options with their defaults.
    """
    known = {field.name: field for field in fields(kind)}
    unknown = sorted(set(given) - set(known))
    if unknown:
        listed = ", ".join(f"{name} ({field.default:g})" for name, field in known.items())
        raise SettingsError(
            f"method '{method}' has no option '{unknown[0]}'; its options and their defaults: "
            f"{listed}"
        )
    values: dict[str, Number] = {}
    for name, value in given.items():
        whole = known[name].type is int
        if whole and not float(value).is_integer():
            raise SettingsError(f"option {name} is a whole number; got {value:g}")
        values[name] = int(value) if whole else float(value)
    return kind(**values)


@contextmanager
def weights_from(seed: int) -> Iterator[None]:
    """Inside, modules draw their first weights from this seed; outside, nothing has changed."""
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(torch.Generator().manual_seed(seed).get_state())
        yield


def slow_copy(module: nn.Module) -> nn.Module:
    """A copy that takes no gradients and follows by momentum; its batch norms see its own input."""
    slow = copy.deepcopy(module)
    deactivate_requires_grad(slow)
    return slow


def head_and_slow_copy(make: Callable[[], nn.Module]) -> tuple[nn.Module, nn.Module]:
    """A head with weight norm beside its slow copy; such layers cannot be copied by themselves."""
    with warnings.catch_warnings():
        # lightly's heads still use PyTorch's first weight norm
        warnings.filterwarnings("ignore", message=".*weight_norm", category=FutureWarning)
        head, slow = make(), make()
    slow.load_state_dict(head.state_dict())
    deactivate_requires_grad(slow)
    return head, slow


def follow(pairs: Mapping[nn.Module, nn.Module], *, momentum: float) -> None:
    """Moves the slow copies a little towards their networks.

    Args:
        pairs: network → its slow copy.
        momentum: share of the slow copy that stays.
    """
    with torch.no_grad():
        for network, slow in pairs.items():
            update_momentum(network, slow, m=momentum)


def momentum_after(progress: float, *, start: float, steps: int) -> float:
    """Momentum rising from ``start`` after the first step to 1 after the last: half a cosine.

    >>> [round(momentum_after((s + 1) / 5, start=0.9, steps=5), 3) for s in range(5)]
    [0.9, 0.915, 0.95, 0.985, 1.0]
    """
    step = max(0, round(progress * steps) - 1)
    return float(cosine_schedule(step, steps, start, 1.0))


def said_if_slow(momentum: float, *, steps: int) -> None:
    """Warns of a teacher that is to be kept but hardly moves in so few steps."""
    left = math.exp(-(1.0 - momentum) * steps / 2.0)
    if left > _MOST_LEFT and rank() == 0:
        log.warning(
            "with momentum %g over %d steps the teacher keeps %.0f%% of the weights that it begins "
            "with; train longer, or lower the option momentum to about %.3g",
            momentum, steps, 100.0 * left, max(0.5, 1.0 - 10.0 / steps),
        )  # fmt: skip


def in_float32(function: Callable[..., Tensor], *inputs: Any) -> Tensor:
    """Calls a head or loss outside autocast: bfloat16 knows a logit of 20 to a tenth only.

    Args:
        function: of tensors or lists of tensors.
        inputs: made float32 first; other things are passed on as they are.
    """
    floats = [_floats(value) for value in inputs]
    with torch.autocast(device_type=_device(floats), enabled=False):
        return function(*floats)


def _floats(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.float() if value.is_floating_point() else value
    return [_floats(item) for item in value] if isinstance(value, list) else value


def _device(values: Sequence[Any]) -> str:
    first = values[0][0] if isinstance(values[0], list) else values[0]
    return str(first.device.type)


def whole_batch(
    vectors: Float[Tensor, "tile width"], *, shared: bool
) -> Float[Tensor, "whole width"]:
    """The vectors of all processes that share the batch, with gradients to each; else as given.

    What every process computes of them alike has the gradient of one process with the whole batch
    once gradients are averaged over processes.
    """
    return torch.cat(gather(vectors), dim=0) if shared else vectors


def nic_network(encoder: nn.Module, *, method: str) -> NicEncoder:
    """The encoder, if it is one that a generator of the same shape can be made for.

    Raises:
        SettingsError: it is another network.
    """
    if isinstance(encoder, NicEncoder):
        return encoder
    raise SettingsError(
        f"method '{method}' draws tiles with a network of its encoder's shape; take --arch nic:vae "
        "or nic:bigan"
    )


def normal_draws(
    like: Float[Tensor, "tile code"], generator: torch.Generator
) -> Float[Tensor, "tile code"]:
    """Standard normal numbers; processes that share a batch draw all of them and take their own.

    Args:
        like: of the shape and on the device that they shall have.
        generator: on the CPU, in the same state in all processes.
    """
    drawn = torch.randn(world_size() * len(like), like.shape[1], generator=generator)
    return drawn[rank() :: world_size()].to(like.device, non_blocking=True)


def kept_in_state(module: nn.Module, *names: str) -> None:
    """Lets buffers that a library leaves out of the state dict be saved and resumed."""
    for name in names:
        module.register_buffer(name, module.get_buffer(name), persistent=True)


def hold_last_layer(head: nn.Module) -> None:
    """Takes the gradients of a head's prototypes away, so that the step leaves them as they are."""
    for parameter in head.get_submodule("last_layer").parameters():
        parameter.grad = None
