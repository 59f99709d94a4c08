"""Cohort: folders, CSVs of our own and of other tools, ids, patients, duplicates, missing files."""

import uuid
from pathlib import Path

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gigassl.errors import SettingsError
from gigassl.slides.cohort import SLIDE_SUFFIXES, patient_of, read_cohort, slide_id_of
from gigassl.store_errors import StoreError
from gigassl.stores import StoreSettings


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


@given(stem=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,30}[A-Za-z0-9]", fullmatch=True))
def test_slide_id_keeps_every_dot_before_the_suffix(stem: str) -> None:
    for suffix in SLIDE_SUFFIXES:
        if not stem.lower().endswith(".ome"):  # 'a.ome' + '.tif' is the longer suffix '.ome.tif'
            assert slide_id_of(Path(stem + suffix)) == stem
            assert slide_id_of(Path(stem + suffix.upper())) == stem


def test_patient_is_the_tcga_case_else_the_slide() -> None:
    assert patient_of("TCGA-CR-7395-01A-01-TS1.4e95a2a6") == ("TCGA-CR-7395", "tcga-barcode")
    assert patient_of("TCGA-CR-73951") == ("TCGA-CR-73951", "slide_id")


def test_folder_is_searched_recursively_and_sorted(tmp_path: Path) -> None:
    touch(tmp_path / "b" / "two.svs")
    touch(tmp_path / "one.ome.tiff")
    touch(tmp_path / ".trash" / "three.svs")
    touch(tmp_path / "notes.txt")
    cohort = read_cohort(tmp_path)
    assert [s.slide_id for s in cohort.slides] == ["one", "two"]


def test_a_folder_of_dicom_files_is_one_slide(tmp_path: Path) -> None:
    for name in ("1.dcm", "2.dcm", "3.dcm"):
        touch(tmp_path / "case 5" / name)
    cohort = read_cohort(tmp_path)
    assert [(s.slide_id, s.path.name) for s in cohort.slides] == [("case 5", "1.dcm")]


def test_two_files_with_one_id_are_both_named(tmp_path: Path) -> None:
    touch(tmp_path / "a" / "S1.svs")
    touch(tmp_path / "b" / "S1.tiff")
    with pytest.raises(SettingsError, match=r"slide_id 'S1'.*a/S1\.svs.*b/S1\.tiff"):
        read_cohort(tmp_path)


def test_slides_and_bags_do_not_mix(tmp_path: Path) -> None:
    touch(tmp_path / "S1.svs")
    touch(tmp_path / "S2.h5")
    with pytest.raises(SettingsError, match="both slides and bags"):
        read_cohort(tmp_path)


def test_csv_with_patients_mpp_labels_and_a_missing_file(tmp_path: Path) -> None:
    touch(tmp_path / "slides" / "S1.svs")
    table = tmp_path / "cohort.csv"
    table.write_text(
        "slide_id,path,patient_id,mpp,grade\n"
        "S2,slides/S2.svs,P1,,high\n"
        "S1,slides/S1.svs,P1,0.25,low\n"
    )
    cohort = read_cohort(table)
    (slide,) = cohort.slides
    assert (slide.slide_id, slide.patient_id, slide.patient_rule) == ("S1", "P1", "column")
    assert slide.mpp == 0.25
    assert dict(slide.labels) == {"grade": "low"}
    assert [s.slide_id for s in cohort.missing] == ["S2"]


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("case_id,slide_id,label", "P9,S1,1"),  # CLAM
        ("ID,label,case_id", "S1,1,P9"),  # Giga-SSL
        ("PATIENT,FILENAME", "P9,S1.svs"),  # STAMP
    ],
)
def test_label_tables_of_other_tools_find_their_slides(
    tmp_path: Path, header: str, row: str
) -> None:
    touch(tmp_path / "slides" / "deep" / "S1.svs")
    table = tmp_path / "labels.csv"
    table.write_text(f"{header}\n{row}\n")
    cohort = read_cohort(table, slide_dir=tmp_path / "slides")
    assert [(s.slide_id, s.patient_id) for s in cohort.slides] == [("S1", "P9")]
    with pytest.raises(SettingsError, match="--slide-dir"):
        read_cohort(table)


def test_trident_list_with_suffix_and_mpp(tmp_path: Path) -> None:
    touch(tmp_path / "S1.svs")
    table = tmp_path / "list.csv"
    table.write_text("wsi,mpp\nS1.svs,0.5\n")
    (slide,) = read_cohort(table).slides
    assert (slide.slide_id, slide.mpp) == ("S1", 0.5)


@pytest.mark.parametrize("mpp", ["zero", "-1", "0", "inf"])
def test_csv_with_unusable_mpp_names_the_line(tmp_path: Path, mpp: str) -> None:
    touch(tmp_path / "S1.svs")
    table = tmp_path / "cohort.csv"
    table.write_text(f"slide_id,path,mpp\nS1,S1.svs,{mpp}\n")
    with pytest.raises(SettingsError, match=rf"line 2: mpp must be .*'{mpp}'"):
        read_cohort(table)


def test_nothing_there_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no slides or bags found.*\.svs"):
        read_cohort(tmp_path)
    with pytest.raises(SettingsError, match="no such file or folder"):
        read_cohort(tmp_path / "absent")


@given(n=st.integers(1, 23), of=st.integers(1, 7))
def test_shards_are_disjoint_and_complete(n: int, of: int) -> None:
    from gigassl.slides.cohort import Cohort, CohortSlide

    slides = tuple(
        CohortSlide(slide_id=f"{i:03d}", path=Path("x"), patient_id="p", patient_rule="column")
        for i in range(n)
    )
    cohort = Cohort(slides=slides)
    parts = [cohort.shard(i, of=of).slides for i in range(1, of + 1)]
    assert sorted((s for part in parts for s in part), key=lambda s: s.slide_id) == list(slides)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    for bad in (0, of + 1):
        with pytest.raises(SettingsError, match="1 ≤ i ≤ n"):
            cohort.shard(bad, of=of)


def stored(files: dict[str, bytes]) -> str:
    """Files in fsspec's store in memory; their URL."""
    url = f"memory://{uuid.uuid4().hex}"
    fsspec.filesystem("memory").pipe({f"{url}/{name}": held for name, held in files.items()})
    return url


def test_a_url_is_searched_like_a_folder(tmp_path: Path) -> None:
    names = ["b/two.svs", "one.ome.tiff", ".trash/three.svs", "notes.txt", "c 5/1.dcm", "c 5/2.dcm"]
    url = stored(dict.fromkeys(names, b"abc"))
    for name in names:
        touch(tmp_path / name)
    ours, theirs = read_cohort(url, stores=StoreSettings()), read_cohort(tmp_path)
    assert [s.slide_id for s in ours.slides] == [s.slide_id for s in theirs.slides]
    assert [s.path.name for s in ours.slides] == [s.path.name for s in theirs.slides]
    assert [s.n_bytes() for s in ours.slides] == [3, 3, 3]
    assert ours.slides[-1].where == f"{url}/b/two.svs"


def test_one_slide_by_its_url() -> None:
    url = stored({"x/TCGA-AA-3518-01Z.svs": b"1234"})
    (slide,) = read_cohort(f"{url}/x/TCGA-AA-3518-01Z.svs", stores=StoreSettings()).slides
    assert (slide.slide_id, slide.patient_id) == ("TCGA-AA-3518-01Z", "TCGA-AA-3518")
    assert slide.n_bytes() == 4
    with pytest.raises(StoreError, match="there is no such file"):
        read_cohort(f"{url}/none.svs", stores=StoreSettings())


def test_a_table_at_a_url_names_slides_beside_it_elsewhere_and_here(tmp_path: Path) -> None:
    other = stored({"far.svs": b"far"})
    here = touch(tmp_path / "here.svs")
    rows = f"slide_id,path,grade\nnear,sub/near.svs,1\nfar,{other}/far.svs,2\nhere,{here},3\n"
    url = stored({"t/table.csv": rows.encode() + b"gone,gone.svs,4\n", "t/sub/near.svs": b"near"})
    cohort = read_cohort(f"{url}/t/table.csv", stores=StoreSettings())
    assert [(s.slide_id, s.where, s.labels["grade"]) for s in cohort.slides] == [
        ("far", f"{other}/far.svs", "2"),
        ("here", str(here), "3"),
        ("near", f"{url}/t/sub/near.svs", "1"),
    ]
    assert [(s.slide_id, s.remote and s.remote.problem) for s in cohort.missing] == [
        ("gone", "there is no such file")
    ]


def test_a_table_at_a_url_does_not_lead_out_of_its_folder() -> None:
    url = stored({"t/table.csv": b"slide_id,path\na,../../secret.svs\n"})
    with pytest.raises(SettingsError, match=r"line 2: '\.\./\.\./secret\.svs' leads out of the"):
        read_cohort(f"{url}/t/table.csv", stores=StoreSettings())


def test_urls_are_refused_where_nobody_fetches_them(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("slide_id,path\na,https://host/a.svs?token=secret\n")
    for source in (table, "s3://bucket/slides"):
        with pytest.raises(SettingsError, match="slides at a URL are read by") as caught:
            read_cohort(source)
        assert "secret" not in str(caught.value)


def test_nothing_at_a_url_says_what_was_looked_for() -> None:
    with pytest.raises(SettingsError, match="no slides or bags found in memory://"):
        read_cohort(stored({"notes.txt": b"n"}), stores=StoreSettings())
