"""Labelled images: layouts of folders and tables, groups, tiles, and what is refused."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gigassl.errors import SettingsError
from gigassl.tiles.image_tiles import ImageCut
from gigassl.tiles.labelled_images import read_labelled
from tests.shared_data import SHARED, needs_shared
from tests.tiles.tissue_images import write_class_folders, write_table


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_class_folders(tmp_path / "set", patients=3, per_patient=2, side_px=32)
    return tmp_path / "set"


def test_class_folders(folder: Path) -> None:
    (folder / "loose.png").write_bytes((folder / "tumour" / "p0_0.png").read_bytes())
    found = read_labelled(folder)
    assert found.classes == ("stroma", "tumour")
    assert found.names[0] == "stroma/p0_0.png"
    assert found.labels.tolist() == [0] * 6 + [1] * 6
    assert found.groups == found.names  # each its own, which is said
    assert any("count as one each" in note for note in found.notes)
    assert "1 images in no class folder are left out" in found.notes


def test_groups_from_names(folder: Path) -> None:
    found = read_labelled(folder, group_pattern=r"/(p\d)_")
    assert sorted(set(found.groups)) == ["p0", "p1", "p2"]
    whole = read_labelled(folder, group_pattern=r"p\d")
    assert whole.groups == found.groups


def test_tcga_barcodes_are_patients(tmp_path: Path) -> None:
    for label, case in (("a", "3518"), ("a", "3519"), ("b", "3518"), ("b", "3520")):
        (tmp_path / label).mkdir(exist_ok=True)
        image = Image.fromarray(np.zeros((4, 4, 3), np.uint8))
        image.save(tmp_path / label / f"TCGA-AA-{case}-01Z-tile{label}.png")
    found = read_labelled(tmp_path)
    assert found.groups == ("TCGA-AA-3518", "TCGA-AA-3519", "TCGA-AA-3518", "TCGA-AA-3520")
    assert found.notes == ()


def test_a_table_beside_the_images_says_what_the_folders_do(folder: Path) -> None:
    table = write_table(folder)
    for found in (read_labelled(folder), read_labelled(table), read_labelled(folder, labels=table)):
        assert set(found.groups) == {"p0", "p1", "p2"}
        assert found.classes == ("stroma", "tumour")
        assert len(found) == 12
        assert found.notes == ("labels: column 'label' of images.csv; groups: column 'patient'",)


@pytest.mark.parametrize("shape", ["{path.stem}", "{path.name}", "elsewhere/{path.name}"])
def test_names_without_folder_or_suffix_find_their_files(tmp_path: Path, shape: str) -> None:
    write_class_folders(tmp_path / "images", patients=2, per_patient=1, side_px=16)
    files = sorted((tmp_path / "images").glob("*/*.png"))
    for path in files:
        path.rename(path.with_name(f"{path.parent.name}_{path.name}"))
    files = sorted((tmp_path / "images").glob("*/*.png"))
    rows = ["name,Patient ID, Grade"] + [
        f"{shape.format(path=path)}, {k // 2}, {path.parent.name}" for k, path in enumerate(files)
    ]
    (tmp_path / "grades.csv").write_text("\n".join(rows))
    found = read_labelled(tmp_path, label_column="Grade")
    assert set(found.paths) == set(files)
    assert found.groups == ("0", "0", "1", "1")
    assert [found.classes[k] for k in found.labels] == [path.parent.name for path in found.paths]


def test_what_a_table_lacks_is_counted_and_named(folder: Path) -> None:
    table = write_table(folder)
    lines = table.read_text().splitlines()
    lines[1] = lines[1].replace("p0_0.png", "gone.png")
    lines[2] = lines[2].replace(",stroma,", ",,")
    table.write_text("\n".join(lines[:-1]))
    found = read_labelled(folder)
    assert len(found) == 9
    assert [each.name for each in found.missing] == ["stroma/gone.png"]
    assert "1 rows of images.csv without name or label left out" in found.notes
    assert "3 images in the folder stand in no row and are left out" in found.notes


@pytest.mark.parametrize(
    ("change", "arguments", "said"),
    [
        ("a,label,patient", {}, "no column that names images"),
        ("path,grade,patient", {}, "no column 'label'; choose one with --label-column; it has: "),
        ("path,label,patient", {"group_column": "ward"}, "no column 'ward' for groups"),
        ("path,label,patient", {"label_column": "patient", "group_column": "label"}, None),
    ],
)
def test_columns(folder: Path, change: str, arguments: dict[str, str], said: str | None) -> None:
    write_table(folder, header=change)
    if said is None:
        assert read_labelled(folder, **arguments).classes == ("p0", "p1", "p2")  # type: ignore[arg-type]
        return
    with pytest.raises(SettingsError, match=re.escape(said)):
        read_labelled(folder, **arguments)  # type: ignore[arg-type]


def test_mistakes_are_sentences(folder: Path, tmp_path: Path) -> None:
    for arguments, said in (
        ({"group_pattern": "q(.)"}, "finds nothing in 'stroma/p0_0.png'"),
        ({"group_pattern": "("}, "not a regular expression"),
        ({"group_pattern": "p"}, "are of the group 'p'"),
        ({"label_column": "grade"}, "columns belong to a table"),
        ({"group_pattern": "p", "group_column": "g"}, "leave one of them out"),
        ({"labels": tmp_path / "none.csv"}, "no such table of labels"),
    ):
        with pytest.raises(SettingsError, match=re.escape(said)):
            read_labelled(folder, **arguments)
    with pytest.raises(SettingsError, match="no such folder"):
        read_labelled(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SettingsError, match="holds neither class folders"):
        read_labelled(tmp_path / "empty")
    (tmp_path / "x.zip").write_bytes(b"")
    with pytest.raises(SettingsError, match=r"unpack .* first: python -m zipfile -e"):
        read_labelled(tmp_path / "x.zip")


def test_one_class_one_row_twice_and_two_files_that_fit(folder: Path) -> None:
    table = write_table(folder)
    rows = table.read_text().splitlines()
    table.write_text("\n".join(row for row in rows if "tumour" not in row))
    with pytest.raises(SettingsError, match="all 6 images are of the class stroma"):
        read_labelled(folder)
    table.write_text("\n".join([*rows, rows[1]]))
    with pytest.raises(SettingsError, match=r"'stroma/p0_0\.png' is named more than once"):
        read_labelled(folder)
    table.write_text("\n".join([*rows, rows[1].replace(".png", "")]))
    with pytest.raises(SettingsError, match="two images of the table are the same file"):
        read_labelled(folder)
    table.write_text("\n".join(row.replace("stroma/", "").replace("tumour/", "") for row in rows))
    with pytest.raises(SettingsError, match=r"'p0_0\.png' fits several files"):
        read_labelled(folder)


def test_a_folder_still_packed(tmp_path: Path) -> None:
    (tmp_path / "tiles.csv").write_text("file,label\na/b.png,x\na/c.png,y\n")
    (tmp_path / "patches.zip").write_bytes(b"")
    with pytest.raises(SettingsError, match=r"python -m zipfile -e .*patches\.zip"):
        read_labelled(tmp_path)


def test_tiles_of_all_images_and_the_ones_that_cannot_be_read(folder: Path) -> None:
    (folder / "tumour" / "p1_1.png").write_bytes(b"no image")
    whole = (folder / "tumour" / "p2_0.png").read_bytes()
    (folder / "tumour" / "p2_0.png").write_bytes(whole[: len(whole) // 2])
    found = read_labelled(folder, group_pattern=r"p\d").tiles(ImageCut(tile_px=16))
    assert found.tiles.shape == (10, 16, 16, 3)
    assert [each.name for each in found.unreadable] == ["tumour/p1_1.png", "tumour/p2_0.png"]
    assert found.labels.tolist() == [0] * 6 + [1] * 4
    assert found.groups[-1] == "p2"
    assert found.images[-1] == "tumour/p2_1.png"
    # two by two tiles of an image where its µm/px is given
    cut = read_labelled(folder).tiles(ImageCut(tile_px=8, mpp=2.0, image_mpp=1.0))
    assert len(cut.tiles) == 10 * 4
    assert cut.images.count("stroma/p0_0.png") == 4


def test_not_one_readable(folder: Path) -> None:
    for path in folder.glob("*/*.png"):
        path.write_bytes(b"")
    with pytest.raises(SettingsError, match="not one of 12 images gives a tile"):
        read_labelled(folder).tiles(ImageCut())


@needs_shared
def test_the_real_layout_of_glas() -> None:
    found = read_labelled(SHARED / "data" / "glas", label_column="grade (GlaS)")
    assert len(found) == 165
    assert len(set(found.groups)) == 16
    assert np.bincount(found.labels).tolist() == [74, 91]
