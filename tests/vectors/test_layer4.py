"""``scm`` begun from a ResNet's last stage, against that stage itself."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from gigassl.errors import SettingsError
from gigassl.tiles.encoders import plain_network
from gigassl.vectors.cells import Cells, neighbours, strided
from gigassl.vectors.layer4 import layer4_of, layer4_weights
from gigassl.vectors.scm import SparseConvEncoder

ENCODER = "random:resnet18@layer3?seed=5"


@pytest.fixture(scope="module")
def resnet() -> Any:
    network = plain_network("random:resnet18?seed=5")
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):  # statistics as after training, not 0 and 1
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.5, 2.0, generator=generator)
    return network


def begun(tensors: dict[str, Tensor]) -> SparseConvEncoder:
    network = SparseConvEncoder(dim=256, width=512, cell=1.0)
    network.load_state_dict(layer4_weights(tensors))
    return network.eval()


def test_the_first_block_is_that_of_the_image_network(resnet: Any) -> None:
    """On a full grid, without the image's padding, and with the published average shortcut."""
    generator = torch.Generator().manual_seed(0)
    n_columns, n_rows = 11, 7
    image = torch.randn(1, 256, n_rows, n_columns, generator=generator)
    x, y = torch.meshgrid(torch.arange(n_columns), torch.arange(n_rows), indexing="ij")
    cells = Cells(
        xy=torch.stack([x.flatten(), y.flatten()], dim=1),
        bag=torch.zeros(x.numel(), dtype=torch.int64),
        n_bags=1,
    )
    rows = image[0][:, cells.xy[:, 1], cells.xy[:, 0]].T

    block = resnet.layer4[0]
    found_block: Any = begun(dict(resnet.state_dict())).blocks[0]
    out_cells, down = strided(cells)
    out_x, out_y = out_cells.xy.T
    with torch.inference_mode():
        strided_image = functional.conv2d(image, block.conv1.weight, stride=2)
        found = found_block.conv1(rows, down)
        expected = strided_image[0][:, out_y, out_x].T
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)

        inner = functional.relu(block.bn1(strided_image))
        inner = block.bn2(functional.conv2d(inner, block.conv2.weight, padding=1))
        short = functional.conv2d(functional.avg_pool2d(image, 3, 2), block.downsample[0].weight)
        expected_image = functional.relu(inner + block.downsample[1](short))
        around = neighbours(out_cells)
        found = found_block(rows, down=down, around=around)
        expected = expected_image[0][:, out_y, out_x].T
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_the_second_block_is_that_of_the_image_network(resnet: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, 512, 4, 6, generator=generator)
    xy = torch.cartesian_prod(torch.arange(6), torch.arange(4))
    cells = Cells(xy=xy, bag=torch.zeros(len(xy), dtype=torch.int64), n_bags=1)
    rows = image[0][:, xy[:, 1], xy[:, 0]].T
    network = begun(dict(resnet.state_dict()))
    with torch.inference_mode():
        expected = resnet.layer4[1](image)[0][:, xy[:, 1], xy[:, 0]].T
        found = network.blocks[1](rows, around=neighbours(cells))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_a_name_with_or_without_its_cut_and_a_file_give_the_same(tmp_path: Path) -> None:
    network = plain_network("random:resnet18?seed=5")
    expected = layer4_weights(dict(network.state_dict()))
    stage = {k: v for k, v in network.state_dict().items() if k.startswith("layer4.")}
    torch.save({"state_dict": stage}, tmp_path / "r.pth")
    moco = {f"encoder_q.{k}": v for k, v in stage.items()}
    moco |= {f"encoder_k.{k}": 2 * v for k, v in stage.items()}
    torch.save({"state_dict": moco}, tmp_path / "moco.pth")
    sources = (
        layer4_of(ENCODER),
        layer4_of(str(tmp_path / "r.pth")),
        layer4_of(f"{tmp_path / 'r.pth'}::resnet18@layer3"),
        layer4_of(str(tmp_path / "moco.pth"), weights_prefix="encoder_q."),
    )
    for found in sources:
        assert set(found) == set(expected)
        assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert not torch.equal(
        layer4_of("random:resnet18?seed=6")["blocks.0.conv1.weight"],
        expected["blocks.0.conv1.weight"],
    )
    with pytest.raises(SettingsError, match="holds this network 2 times"):
        layer4_of(str(tmp_path / "moco.pth"))


def test_networks_without_such_a_stage_are_refused() -> None:
    cut = plain_network("random:resnet18@layer3")
    with pytest.raises(SettingsError, match="does not hold this network"):
        layer4_weights(dict(cut.state_dict()))
    with pytest.raises(SettingsError, match="does not hold this network"):
        layer4_of("efficientnet-lite0")
    narrow = timm.create_model("test_resnet", pretrained=False)
    with pytest.raises(SettingsError, match=r"layer4 begins with|does not hold this network"):
        layer4_weights(dict(narrow.state_dict()))
