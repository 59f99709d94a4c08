"""``gigassl pretrain-tiles`` with the encoders of neural image compression, small ones."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gigassl.tiles.encoders import load_encoder
from gigassl.tiles.weights import load_checkpoint
from gigassl.vectors.table import open_table
from tests.end_to_end.conftest import Run

QUICK = ("--tile-px", 16, "--target-mpp", 2.0, "--batch-size", 8, "--steps", 6, "--device", "cpu")
VAE = "nic:vae?code=5,convolutions=2,first=4,dense=12"
BIGAN = "nic:bigan?code=5,convolutions=2,filters=8,pool=1"
OPTIONS = {
    "vae": ("--arch", VAE, "--method-option", "decoder=64"),
    "contrastive": ("--arch", VAE, "--method-option", "hidden=8"),
    "bigan": (
        "--arch", BIGAN, "--method-option", "generator=64", "--method-option", "discriminator=8",
    ),
}  # fmt: skip


def side_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


@pytest.mark.parametrize("method", sorted(OPTIONS))
def test_slides_become_a_nic_encoder_that_embeds(
    run: Run, slides: Path, tmp_path: Path, method: str
) -> None:
    out, table = tmp_path / "nic.safetensors", tmp_path / "v.parquet"
    done = run(
        "pretrain-tiles", slides, "-o", out, "--method", method, *OPTIONS[method], *QUICK, "--json"
    )
    assert done.code == 0, done.err
    trained = json.loads(done.out)["trained"]
    first = {"vae": "loss", "contrastive": "wrong", "bigan": None}[method]
    assert next(iter(trained["best_measured"]), None) == first
    record = load_encoder(str(out), batch_size=1).record
    assert (record.architecture, record.dim, record.input_px) == (
        "nic:bigan" if method == "bigan" else "nic:vae", 5, 16,
    )  # fmt: skip
    card = load_checkpoint(out).card["training"]
    assert card["kept"] == ("last" if method == "bigan" else "best")
    assert bool(card["held_out"]) == (method != "bigan")
    folder = out.with_suffix(".log")
    drawn = {path.name for path in folder.glob("*.png")} - {"curves.png"}
    wanted = {"vae": {"reconstructions.png"}, "contrastive": set()}
    assert drawn == wanted.get(method, {"generated.png", "reconstructions.png"})
    # tiles of 16 px are shown four times as large, 4 px apart
    assert all(side_of(folder / name)[0] % 68 == 0 for name in drawn)
    used = run("embed", slides, "-o", table, "--tile-encoder", out)
    assert used.code == 0, used.err
    assert open_table(table).embeddings.shape == (3, 5)


def test_a_method_brings_its_network_its_tiles_and_its_pairs(
    run: Run, slides: Path, tmp_path: Path
) -> None:
    out, picture = tmp_path / "nic.safetensors", tmp_path / "views.png"
    shown = run(
        "pretrain-tiles", slides, "-o", out, "--method", "contrastive", "--preview", picture
    )
    assert shown.code == 0, shown.err
    # tile, partner and two views, each of 128 px and a gap
    assert side_of(picture)[0] == 4 * 132 - 4
    pixels = np.asarray(Image.open(picture))[20:]
    tiles, partners = pixels[:, :128], pixels[:, 132:260]
    same = [bool((tiles[k : k + 128] == partners[k : k + 128]).all()) for k in range(0, 1056, 132)]
    assert sum(same) == 4


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--arch", "timm:test_resnet"), "take --arch nic:vae or nic:bigan"),
        (("--arch", "nic:vea"), "did you mean 'vae'"),
        (("--validation", "0"), "give validation a share"),
        (
            ("--method", "moco", "--arch", "timm:test_resnet", "--validation", "0.3"),
            "measures nothing",
        ),
    ],
)
def test_mistakes_are_one_sentence(
    run: Run, slides: Path, tmp_path: Path, options: tuple[str, ...], sentence: str
) -> None:
    done = run(
        "pretrain-tiles", slides, "-o", tmp_path / "x.safetensors", "--method", "vae", *QUICK,
        *options,
    )  # fmt: skip
    assert done.code == 2
    assert sentence in " ".join(done.err.split())
    assert not (tmp_path / "x.safetensors").exists()
