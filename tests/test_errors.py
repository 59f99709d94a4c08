from copy import copy

from gigassl.errors import SlideError, unknown_name


def test_unknown_name_lists_choices_and_guesses() -> None:
    text = str(unknown_name("tile encoder", "resnet81", known=["resnet18", "vit"]))
    assert text == "unknown tile encoder 'resnet81'; did you mean 'resnet18'? known: resnet18, vit"
    text = str(unknown_name("tile encoder", "zzz", known=["resnet18", "vit"]))
    assert text == "unknown tile encoder 'zzz'; known: resnet18, vit"


def test_slide_error_says_reason_and_detail() -> None:
    error = SlideError("the file is damaged", stage="read", detail="libtiff: bad offset")
    assert str(error) == "the file is damaged (libtiff: bad offset)"
    assert (error.stage, error.reason) == ("read", "the file is damaged")
    talkative = SlideError("no", stage="read", detail="\nlibtiff:\n  bad offset\n")
    assert str(talkative) == "no (libtiff: bad offset)"


def test_a_slides_error_stays_whole_when_it_travels() -> None:
    copied = copy(SlideError("the file is damaged", stage="read", detail="bad offset"))
    assert (copied.reason, copied.stage, copied.detail) == (
        "the file is damaged", "read", "bad offset",
    )  # fmt: skip
    assert str(copied) == "the file is damaged (bad offset)"


def test_a_book_where_a_name_was_expected_is_not_repeated() -> None:
    text = str(unknown_name("tile encoder", "z" * 70_000, known=["resnet18"]))
    assert len(text) == 2003
    assert text.startswith("unknown tile encoder 'zzz")
    assert text.endswith("zzz'; known: resnet18")
