from pathlib import Path

import pytest

from gigassl.errors import SettingsError
from gigassl.evaluate.labels import read_label_table
from gigassl.evaluate.targets import LabelledSlides, TargetSettings, labelled_slides, tcga_site
from gigassl.slides.cohort import patient_of
from tests.shared_data import SHARED, needs_shared

TCGA = [f"TCGA-{site}-000{k}-01Z-00-DX1.x{k}" for site in ("AA", "BB") for k in range(4)]


def found(
    folder: Path,
    rows: list[str],
    *,
    slides: list[str] | None = None,
    **settings: str,
) -> LabelledSlides:
    """The labels of a CSV for slides a to f, each of its own patient."""
    path = folder / "grades.csv"
    path.write_text("\n".join(rows) + "\n")
    names = slides or list("abcdef")
    available = {name: patient_of(name)[0] for name in names}
    return labelled_slides(
        read_label_table(path),
        TargetSettings(**settings),  # type: ignore[arg-type]
        available=available,
    )


def column(values: str, *, name: str = "label") -> list[str]:
    cells = zip("abcdef", values.split(), strict=True)
    return [f"slide_id,{name}", *(f"{slide},{value}" for slide, value in cells)]


@pytest.mark.parametrize(
    ("values", "kind", "classes"),
    [
        ("x y x y x y", "classification", ("x", "y")),
        ("0 1 1 0 1 0", "classification", ("0", "1")),
        ("10 9 10 9 10 9", "classification", ("9", "10")),
        ("0.5 1 1 0 1 0", "regression", ()),
        ("1 x 1 x 1 1", "classification", ("1", "x")),
    ],
)
def test_the_kind_follows_from_the_values(
    tmp_path: Path, values: str, kind: str, classes: tuple[str, ...]
) -> None:
    task = found(tmp_path, column(values)).task
    assert task.kind == kind
    assert task.classes == classes
    named = [task.classes[k] for k in task.labels] if classes else [f"{v:g}" for v in task.target]
    assert named == values.split()


def test_more_than_ten_whole_numbers_are_values(tmp_path: Path) -> None:
    ages = [f"s{k:02},{40 + k % 11}" for k in range(22)]
    rows, slides = ["slide_id,age", *ages], [f"s{k:02}" for k in range(22)]
    assert found(tmp_path, rows, slides=slides, target="age").task.kind == "regression"
    forced = found(tmp_path, rows, slides=slides, target="age", kind="classification").task
    assert forced.classes == tuple(str(40 + k) for k in range(11))
    assert forced.name == "age"


def test_a_column_called_label_takes_the_name_of_its_table(tmp_path: Path) -> None:
    assert found(tmp_path, column("x y x y x y")).task.name == "grades"


def test_slides_with_one_of_label_and_vector_are_left_out_by_name(tmp_path: Path) -> None:
    rows = [*column("x y x NA y y"), "z,x"]
    said = found(tmp_path, rows, slides=list("gabcdef"))
    assert said.task.slide_ids == ("a", "b", "c", "e", "f")
    assert [(e.slide_id, e.reason) for e in said.left_out] == [
        ("z", "no vector"), ("d", "no label"), ("g", "no label"),
    ]  # fmt: skip


def test_tables_of_patients_label_all_their_slides(tmp_path: Path) -> None:
    rows = ["case_id,subtype", *(f"TCGA-{s}-000{k},{s}" for s in ("AA", "BB") for k in range(3))]
    second = TCGA[0].replace("DX1", "DX2")
    task = found(tmp_path, rows, slides=[*TCGA, second], target="subtype").task
    assert len(task) == 7
    assert task.patient_ids.count("TCGA-AA-0000") == 2
    assert task.classes == ("AA", "BB")


def test_the_site_is_a_column_or_the_barcodes_second_part(tmp_path: Path) -> None:
    rows = ["slide_id,label,scanner", *(f"{s},{s[5]},s{k % 2}" for k, s in enumerate(TCGA))]
    by_barcode = found(tmp_path, rows, slides=TCGA)
    assert by_barcode.task.sites == ("AA",) * 4 + ("BB",) * 4
    assert "sites: tissue source site of the TCGA barcode (characters 6 and 7)" in by_barcode.notes
    by_column = found(tmp_path, rows, slides=TCGA, site_column="scanner")
    assert by_column.task.sites == ("s0", "s1") * 4
    assert tcga_site("CMU-1") == ""


def test_the_labels_word_on_the_patient_counts(tmp_path: Path) -> None:
    rows = ["slide_id,label,case_id", "a,x,p", "b,y,q", "c,x,r", "d,y,r", "e,x,"]
    said = found(tmp_path, rows, slides=list("abcde"))
    assert said.task.patient_ids == ("p", "q", "r", "r", "e")
    assert any("4 slides have another patient" in note and "'a'" in note for note in said.notes)


def test_survival_has_a_time_and_an_event(tmp_path: Path) -> None:
    rows = ["slide_id,months,dead", "a,3,1", "b,2.5,alive", "c,7,TRUE", "d,9,0:LIVING", "e,,1"]
    task = found(tmp_path, rows, slides=list("abcde"), time="months", event="dead").task
    assert task.kind == "survival"
    assert task.target.tolist() == [3, 2.5, 7, 9]
    assert task.event is not None
    assert task.event.tolist() == [True, False, True, False]


def test_survival_of_tcga_is_understood(tmp_path: Path) -> None:
    rows = [
        "case_id,vital_status,days_to_death,days_to_last_follow_up",
        "TCGA-AA-0000,Dead,12.0,5.0", "TCGA-AA-0001,Alive,,30", "TCGA-AA-0002,Alive,,-1",
        "TCGA-AA-0003,Dead,,40",
    ]  # fmt: skip
    said = found(tmp_path, rows, slides=TCGA, kind="survival")
    assert said.task.patient_ids == ("TCGA-AA-0000", "TCGA-AA-0001")
    assert said.task.target.tolist() == [12, 30]
    assert said.task.event is not None
    assert said.task.event.tolist() == [True, False]
    assert said.task.name == "overall survival"
    assert any("1 slides are left out, since their time is zero" in note for note in said.notes)


@pytest.mark.parametrize(
    ("rows", "settings", "sentence"),
    [
        (column("x y x y x y"), {"target": "grade"}, "has no column 'grade'; it has: slide_id"),
        (column("x x x x x x"), {}, "have the same label"),
        (column("x y y y y y"), {}, "class 'x' has 1 patient;"),
        (column("0.5 1 x 0 1 0"), {"kind": "regression"}, "slide 'c' has 'x' where a finite"),
        (column("NA NA NA NA NA NA"), {}, "every cell of the column is empty"),
        ([*column("x y x y x y"), "a,y"], {}, "slide 'a' has two labels, 'x' and 'y'"),
        (["slide_id,label", "q,x", "r,y"], {}, "'q', 'r', those with vectors 'a', 'b', 'c' and 3"),
        (column("1 2 3 4 5 6"), {"time": "label"}, "--time and --event; "),
        (column("1 2 3 4 5 6"), {"time": "label", "kind": "regression"}, "this task is regression"),
        (["slide_id,t,e", "a,1,1", "b,2,maybe"], {"time": "t", "event": "e"},
         "slide 'b' has the event 'maybe'"),
        (["slide_id,t,e", "a,0,1", "b,2,1"], {"time": "t", "event": "e"}, "must be above zero"),
        (["slide_id,t,e", "a,1,0", "b,2,0"], {"time": "t", "event": "e"}, "are censored"),
        (["slide_id,t,e", "a,soon,0", "b,2,0"], {"time": "t", "event": "e"}, "'a' has 'soon'"),
    ],
)  # fmt: skip
def test_unusable_labels_are_refused_in_one_sentence(
    tmp_path: Path, rows: list[str], settings: dict[str, str], sentence: str
) -> None:
    with pytest.raises(SettingsError, match=sentence):
        found(tmp_path, rows, **settings)  # type: ignore[arg-type]


@needs_shared
def test_survival_of_the_real_clinical_table() -> None:
    table = read_label_table(SHARED / "data" / "labels" / "tcga-clinical" / "clinical.csv")
    available = {f"{case}-01Z-00-DX1": case for case in table.patient_ids}
    said = labelled_slides(table, TargetSettings(kind="survival"), available=available)
    # 103 of 8,061 patients were followed up for zero days or less
    assert len(said.task) == 8061 - 103
    assert (said.task.target > 0).all()
