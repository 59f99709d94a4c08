"""Explanations on a page: which slides, the same scale, words, and what cannot be read."""

import base64
import re
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import percentileofscore

from gigassl.errors import SettingsError
from gigassl.evaluate.explain.record import read_record
from gigassl.evaluate.mask_agreement import Agreement
from gigassl.report.page.explanations import chosen_slides, explanation_sections, systems_of
from gigassl.report.page.explanations_pictures import MOST_PX, heat_png
from gigassl.report.page.explanations_slide import ranked
from gigassl.report.tile_map import TileMap
from tests.report.page.explained import record_of, save_explained
from tests.report.test_tile_map import map_of

SYSTEMS = {"probe": "contribution", "abmil": "attention", "nic-cnn": "grad-cam"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three systems; all explained "s1", two of them "s2" as well."""
    home = tmp_path_factory.mktemp("why")
    for number, (method, meaning) in enumerate(SYSTEMS.items()):
        for slide in ("s1", "s2") if number else ("s1",):
            record = record_of(slide, meaning=meaning, method=method, y_true="no")
            save_explained(home / method, record, seed=number)
    return [home / method for method in SYSTEMS]


def sources(body: str, kind: str) -> list[Image.Image]:
    found = re.findall(rf"data:image/{kind};base64,([A-Za-z0-9+/=]+)", body)
    return [Image.open(BytesIO(base64.b64decode(each))) for each in found]


def test_systems_stand_side_by_side_with_galleries_and_words(folders: list[Path]) -> None:
    (section,) = explanation_sections(folders)
    body = str(section.body)
    assert [m for m in re.findall(r"<option>(.*?)</option>", body) if m.startswith("s")] == [
        "s1 · true class no", "s2 · true class no"
    ]  # fmt: skip
    # s1 by three systems and s2 by two, each in two ways of colouring, and two pictures of slides
    assert len(sources(body, "png")) == 2 * (3 + 2)
    assert len(sources(body, "jpeg")) == 2 + (3 + 2) * 2 * 6
    for text in (
        "contribution to the logit of &#39;yes&#39;", "Grad-CAM heat for &#39;yes&#39;",
        "&#39;yes&#39; (the predicted class), probability 0.750",
        "the true class is &#39;no&#39;, predicted was &#39;yes&#39;",
        "fold-1: never saw this slide or its patient", "Attention says where a model looked",
    ):  # fmt: skip
        assert text in body


def test_galleries_hold_the_extreme_tiles_of_the_table(folders: list[Path]) -> None:
    (section,) = explanation_sections(folders[:1])
    with (folders[0] / "s1" / "scores.csv").open() as handle:
        scores = sorted(float(line.split(",")[-1]) for line in list(handle)[1:])
    shown = re.findall(r"<figcaption>(-?[\d.e-]+)</figcaption>", str(section.body))
    expected = [*scores[:-7:-1], *scores[:6]]
    assert shown == [f"{value:.3g}" for value in expected]


def test_few_slides_are_shown_of_each_class_in_turn_and_the_rest_is_counted(
    folders: list[Path], tmp_path: Path
) -> None:
    for number, truth in enumerate(["no", "no", "no", "yes"]):
        save_explained(
            tmp_path / "why", record_of(f"t{number}", y_true=truth), seed=number, sheet=False
        )
    systems = systems_of([tmp_path / "why"])
    assert chosen_slides(systems, most=3) == ("t0", "t3", "t1")
    (section,) = explanation_sections([tmp_path / "why"], most=3)
    assert "1 more explained slides are not on this page" in section.body
    assert "in why/." in section.body
    assert str(tmp_path) not in section.body
    # what all explained comes first, whatever its name
    assert chosen_slides(systems_of(folders), most=1) == ("s1",)
    # without slide files there is heat alone
    assert "--slide:" not in section.body
    assert not sources(str(section.body), "jpeg")


def test_ranks_are_one_scale_from_0_to_100() -> None:
    score = np.array([5.0, np.nan, -2.0, 5.0, 9.0, 0.0])
    found = ranked(map_of(score))
    known = score[np.isfinite(score)]
    slow = [(percentileofscore(known, s, "mean") / 100 * 5 - 0.5) / 4 * 100 for s in known]
    assert found.score[np.isfinite(score)] == pytest.approx(slow)
    assert np.isnan(found.score[1])
    assert (np.nanmin(found.score), np.nanmax(found.score)) == (0, 100)
    assert not found.signed


def test_heat_is_clear_where_no_tile_is_and_bounded() -> None:
    tiles = map_of(np.array([0.0, np.nan, 1.0]), signed=False)
    with Image.open(BytesIO(heat_png(tiles, limits=(0, 1)))) as picture:
        pixels = np.asarray(picture.convert("RGBA"))
    assert pixels.shape[:2] == tiles.picture.shape
    assert np.array_equal(pixels[..., 3] > 0, np.isfinite(tiles.picture))
    assert pixels[1, 1, :3].tolist() == [0, 0, 4]  # the first colour of inferno
    wide = TileMap(
        slide_id="a", coords=np.array([[0, 0], [99_900, 100]]), side_l0=100.0, signed=False,
        score=np.array([0.0, 1.0]), width_l0=100_000, height_l0=4_000,
    )  # fmt: skip
    with Image.open(BytesIO(heat_png(wide, limits=(0, 1)))) as picture:
        assert picture.size == (MOST_PX, 19)


def test_names_are_text(tmp_path: Path) -> None:
    name = "<script>alert(1)</script>"
    record = record_of("s", explained=name, y_true=name, method=f"m{name}")
    save_explained(tmp_path / "why", record, seed=0)
    (section,) = explanation_sections([tmp_path / "why"])
    assert "<script>" not in section.body
    assert "&lt;script&gt;alert(1)" in section.body


def test_damaged_slides_are_named_and_the_others_shown(folders: list[Path], tmp_path: Path) -> None:
    for number, slide in enumerate(("a", "b")):
        save_explained(tmp_path / "why", record_of(slide), seed=number)
    (tmp_path / "why" / "a" / "scores.csv").write_text("nothing")
    (section,) = explanation_sections([tmp_path / "why"])
    assert "Left out: abmil of a, scores.csv is no table of tile scores" in section.body
    assert len(sources(str(section.body), "png")) == 2
    (tmp_path / "why" / "b" / "tiles.png").write_bytes(b"none")
    (section,) = explanation_sections([tmp_path / "why"])
    assert "No explained slide could be shown." in section.body


def test_a_risk_has_neither_class_nor_truth(tmp_path: Path) -> None:
    record = replace(
        record_of("s", meaning="contribution", explained="risk", y_true=""), asked="",
        answer={"risk": 1.25},
    )  # fmt: skip
    save_explained(tmp_path / "why", record, seed=0, sheet=False)
    (section,) = explanation_sections([tmp_path / "why"])
    assert "the risk, 1.25" in section.body
    assert "true class" not in section.body
    assert "contribution to the risk" in section.body


def test_the_same_folders_give_the_same_page(folders: list[Path]) -> None:
    assert explanation_sections(folders) == explanation_sections(folders)


def test_two_runs_of_one_method_are_told_apart(tmp_path: Path) -> None:
    for run in ("first", "second"):
        save_explained(tmp_path / run, record_of("a"), seed=0, sheet=False)
    systems = systems_of([tmp_path / "first", tmp_path / "second"])
    assert [system.name for system in systems] == ["abmil (first)", "abmil (second)"]


def test_agreement_with_masks_is_the_mean_over_slides(tmp_path: Path) -> None:
    for number, value in enumerate((0.5, 0.9)):
        agreement = Agreement(iou=value, pointing=1.0, auprc=value, auc=value)
        chance = Agreement(iou=0.1, pointing=0.0, auprc=0.1, auc=0.5)
        record = replace(record_of(f"s{number}"), agreement=agreement, chance=chance,
                         learned_from=True)  # fmt: skip
        save_explained(tmp_path / "why", record, seed=number, sheet=False)
        assert read_record(tmp_path / "why" / f"s{number}") == record
    (section,) = explanation_sections([tmp_path / "why"])
    assert "0.700 (0.500)" in section.body
    assert "learned from this slide or its patient, so do not trust it" in section.body


def test_no_folders_no_section_and_other_folders_are_refused(tmp_path: Path) -> None:
    assert explanation_sections([]) == ()
    with pytest.raises(SettingsError, match="holds no explained slides"):
        explanation_sections([tmp_path])
