"""Which test slides an encoder was pretrained on, from its training to the sentence of a table."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gigassl.bags.bag import open_bag, save_bag
from gigassl.bags.bank import open_bank
from gigassl.bags.bank_draws import DrawSettings
from gigassl.errors import SettingsError
from gigassl.evaluate.contamination import (
    PRETRAINED_ON,
    combined,
    contamination,
    counted,
    exposures,
    seen_slides,
    slides_record,
)
from gigassl.pipeline.bank import BankSettings, encode_bank
from gigassl.pipeline.embed import EmbedSettings, embed
from gigassl.pipeline.inspection import inspect
from gigassl.pipeline.jobs import RunOptions
from gigassl.pipeline.merge import merge
from gigassl.pipeline.pretrain import NetworkSettings, pretrain
from gigassl.tiles.encoder_files import save_encoder
from gigassl.tiles.encoders import encoder_record, load_encoder, plain_network
from gigassl.tiles.weights import load_checkpoint
from gigassl.vectors.pretrain.settings import PretrainSettings
from gigassl.vectors.slide_model import load_slide_model
from gigassl.vectors.table import open_table
from tests.vectors.stores import grid_bag

TEST = {"slide_ids": ["a", "b", "c"], "patient_ids": ["p", "q", "r"]}


def of(slide: Any, tile: str, **pretrained_on: Any) -> dict[str, Any]:
    """A provenance of vectors."""
    settings = {"slide_encoder": slide, "tile_encoder": {"name": tile}}
    return {"settings": settings, **({PRETRAINED_ON: pretrained_on} if pretrained_on else {})}


def test_slides_and_patients_that_were_seen_are_counted() -> None:
    seen = slides_record(["x", "b", "y"], ["p", "q", "z"])
    assert (seen["count"], seen["slides"], seen["patients"]) == (
        3, ["b", "x", "y"], ["p", "q", "z"],
    )  # fmt: skip
    assert seen["digest"] == slides_record(["y", "x", "b"], ["z", "p", "q"])["digest"]
    provenance = of({"architecture": "scm"}, "mine", slide_encoder=seen)
    by_slides, by_tiles = contamination(provenance, **TEST)
    assert by_slides == (
        "1 of 3 test slides were seen, without labels, by the slide encoder (scm); 1 more are of "
        "patients that it saw"
    )
    assert by_tiles == "which slides the tile encoder (mine) was pretrained on is not known"
    assert seen_slides(provenance) == {"x", "b", "y"}


def test_none_seen_is_said_and_a_pooling_saw_none() -> None:
    other = slides_record(["x"], ["z"])
    (said, _) = contamination(of({"architecture": "scm"}, "", slide_encoder=other), **TEST)
    assert said == "0 of 3 test slides were seen, without labels, by the slide encoder (scm)"
    pooled, _ = exposures(of("mean", ""))
    assert pooled.slides == frozenset()
    assert len(contamination(of("mean+std", "random:resnet18?seed=1"), **TEST)) == 0
    assert len(contamination(of("mean+std", "mean-rgb"), **TEST)) == 0


def test_of_published_encoders_the_cohort_is_said() -> None:
    slides = ["TCGA-AA-0001-01Z-00-DX1.X", "ours"]
    test = {"slide_ids": slides, "patient_ids": ["TCGA-AA-0001", "ours"]}
    (said,) = contamination(of("mean", "phikon"), **test)
    assert said.startswith("1 of 2 test slides are of TCGA, and the tile encoder (phikon) was pre")
    assert "https://huggingface.co/owkin/phikon" in said
    assert seen_slides(of("mean", "phikon"), slide_ids=slides) == {slides[0]}
    assert seen_slides(of("mean", "uni"), slide_ids=slides) == frozenset()
    (said,) = contamination(of("mean", "uni"), **test)
    assert "without TCGA" in said
    # vectors of bags: the bags say which encoder it was
    bags = {"settings": {"slide_encoder": "mean", "bags": {"encoder": "CTransPath"}}}
    assert "TCGA and PAIP" in contamination(bags, **test)[0]


def test_merged_tables_hold_what_each_part_says() -> None:
    variants = [
        of("x", "", slide_encoder=slides_record(["a"], ["p"])),
        of("x", "", slide_encoder=slides_record(["b"], ["q"])),
    ]
    assert seen_slides({**variants[0], "variants": variants}) == {"a", "b"}


def test_a_list_is_worth_more_than_a_count() -> None:
    whole = {"tile_encoder": slides_record(["a"], ["p"])}
    short = counted({PRETRAINED_ON: whole})[PRETRAINED_ON]
    assert short == {"tile_encoder": {"count": 1, "digest": whole["tile_encoder"]["digest"]}}
    assert combined(short, whole) == combined(whole, short) == whole
    assert combined(short) == short
    # a count alone does not tell which slides they are
    assert "not known" in contamination(of("mean", "mine", **short), **TEST)[0]


def test_one_patient_each() -> None:
    with pytest.raises(SettingsError, match="2 slides and 1 patients"):
        slides_record(["a", "b"], ["p"])


@pytest.fixture
def bags(tmp_path: Path) -> Path:
    folder = tmp_path / "bags"
    folder.mkdir()
    for number in range(8):
        save_bag(grid_bag(f"s{number}", dim=6), folder / f"s{number}.h5")
    return folder


def test_from_training_to_the_table_and_through_a_merge(bags: Path, tmp_path: Path) -> None:
    model, out = tmp_path / "m.safetensors", tmp_path / "v.parquet"
    for number in (6, 7):  # embedded later, not trained on
        (bags / f"s{number}.h5").rename(tmp_path / f"s{number}.h5")
    settings = PretrainSettings(epochs=1)
    pretrain(bags, model, network=NetworkSettings(architecture="mlp"), settings=settings)
    trained = [f"s{number}" for number in range(6)]
    card = load_slide_model(model).record.training[PRETRAINED_ON]["slide_encoder"]
    assert card == slides_record(trained, trained)
    for number in (6, 7):
        (tmp_path / f"s{number}.h5").rename(bags / f"s{number}.h5")
    embed(bags, out, settings=EmbedSettings(slide_encoder=str(model)))
    again = merge([out], tmp_path / "merged.parquet")
    assert again.table is not None
    for table in (open_table(out), again.table):
        assert seen_slides(table.provenance) == set(trained)
        said, _ = contamination(
            table.provenance, slide_ids=table.slide_ids, patient_ids=table.patient_ids
        )
        assert said.startswith("6 of 8 test slides were seen")
    for path in (model, out):
        shown = json.dumps(inspect(path))
        assert '"count": 6' in shown
        assert '"s0"' not in shown


def test_what_a_pooling_writes_is_as_before(bags: Path, tmp_path: Path) -> None:
    embed(bags, tmp_path / "v.parquet")
    assert PRETRAINED_ON not in open_table(tmp_path / "v.parquet").provenance


def test_slides_of_a_tile_encoder_reach_banks_bags_and_vectors(
    slides: Path, tmp_path: Path
) -> None:
    file, seen = tmp_path / "tiles.safetensors", slides_record(["x"], ["p"])
    record = encoder_record("random:resnet18@layer1?seed=1")
    network = plain_network("random:resnet18@layer1?seed=1")
    save_encoder(file, record=replace(record, pretrained_on=seen), network=network)
    assert load_checkpoint(file).card["record"]["pretrained_on"] == seen
    encoder = load_encoder(str(file))
    unlisted = tmp_path / "unlisted.safetensors"
    save_encoder(unlisted, record=record, network=network)
    assert load_encoder(str(unlisted)).digest == encoder.digest

    out, kept = tmp_path / "v.parquet", tmp_path / "kept"
    embed(slides, out, encoder=encoder, options=RunOptions(keep_bags=kept))
    assert seen_slides(open_table(out).provenance) == {"x"}
    bag = open_bag(next(kept.glob("*.h5")))
    assert bag.info.provenance[PRETRAINED_ON]["tile_encoder"]["count"] == 1
    assert "slides" not in bag.info.provenance[PRETRAINED_ON]["tile_encoder"]

    draws = DrawSettings(augmentations=2, tiles=4)
    encode_bank(slides, tmp_path / "bank", encoder=encoder, settings=BankSettings(draws=draws))
    info = open_bank(tmp_path / "bank").info
    assert info.provenance[PRETRAINED_ON]["tile_encoder"] == seen


def test_what_an_encoder_began_as_is_told_too() -> None:
    seen = slides_record(["x"], ["p"], begun_from="phikon")
    provenance = {
        "settings": {"tile_encoder": {"name": "mine"}}, PRETRAINED_ON: {"tile_encoder": seen}
    }  # fmt: skip
    tcga = "TCGA-AA-3518-01Z-00-DX1"
    assert seen_slides(provenance, slide_ids=[tcga, "y"]) == {"x", tcga}
    said = contamination(provenance, slide_ids=["x", tcga, "y"], patient_ids=["p", "q", "r"])
    assert said[-1] == (
        "2 of 3 test slides were seen, without labels, by the tile encoder (mine), which began as "
        "phikon, pretrained on 40 million tiles of TCGA"
    )


def test_a_card_of_one_encoder_is_shown_without_names() -> None:
    card = {"record": {PRETRAINED_ON: slides_record(["x"], ["p"])}}
    assert counted(card) == {
        "record": {PRETRAINED_ON: {"count": 1, "digest": slides_record(["x"], ["p"])["digest"]}}
    }
