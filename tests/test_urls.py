"""URLs: what is one, what may be shown of it, and a file name that stays where it is put."""

from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gigassl.errors import SettingsError
from gigassl.urls import beside, folder_of, is_url, joined, name_of, path_of, place_of, shown


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("s3://bucket/slides", "s3://bucket/slides"),
        ("slides/a.svs", Path("slides/a.svs")),
        ("file:///data/a%20b.svs", Path("/data/a b.svs")),
        ("C:\\slides", Path("C:\\slides")),
    ],
)
def test_a_place_is_a_url_or_a_path(text: str, place: Path | str) -> None:
    assert place_of(text) == place
    assert is_url(place) == isinstance(place, str)


@pytest.mark.parametrize(
    "url", ["https://me:secret@host/a.svs?X-Amz-Signature=secret#secret", "https://host/a.svs"]
)
def test_secrets_of_web_addresses_are_never_shown(url: str) -> None:
    assert shown(url) == "https://host/a.svs"
    assert name_of(url) == "a.svs"


def test_an_object_key_may_hold_any_sign() -> None:
    assert shown("s3://bucket/a?b#c.svs") == "s3://bucket/a?b#c.svs"
    assert name_of("s3://bucket/a?b#c%20.svs") == "a?b#c%20.svs"
    assert path_of("s3://bucket/x/a.svs") == PurePosixPath("bucket/x/a.svs")


@pytest.mark.parametrize(
    "url", ["s3://bucket/..", "s3://", "https://host/..%2f..%2f..", "s3://b/a\0.svs", "gs://b/a\\b"]
)
def test_what_ends_in_no_file_name_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="does not end in a file name"):
        name_of(url)


@given(key=st.text(alphabet=st.sampled_from("a./\\%2eF\0 é?#"), max_size=12),
       protocol=st.sampled_from(["s3", "https", "gs"]))  # fmt: skip
def test_no_name_leads_out_of_a_folder(key: str, protocol: str) -> None:
    try:
        name = name_of(f"{protocol}://bucket/{key}")
    except SettingsError:
        return
    assert name not in {"", ".", ".."}
    assert not set(name) & set("/\\\0")


def test_neighbours_of_a_file() -> None:
    url = joined("s3://bucket/run/", "v.parquet")
    assert folder_of(url) == "s3://bucket/run"
    rename = lambda path: path.with_suffix(".csv")  # noqa: E731
    assert beside(url, rename) == "s3://bucket/run/v.csv"
    assert beside(Path("run/v.parquet"), rename) == Path("run/v.csv")
