"""Staging: copies equal their source, stay within the bound, and leave nothing behind."""

import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import fsspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gigassl.bags.prepare import inputs_digest
from gigassl.errors import SlideError
from gigassl.files import MachineError
from gigassl.pipeline.run_folder import PREFIX, RunFolder
from gigassl.pipeline.staging import Staging
from gigassl.slides.cohort import CohortSlide, read_cohort
from gigassl.store_errors import Patience
from gigassl.stores import StoreSettings
from tests.store_servers import Bucket, flaky, s3_bucket, web_server

QUICK = Patience(first_pause_s=0.01)


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    with s3_bucket("staging") as bucket:
        yield bucket


def stored(files: dict[str, bytes]) -> str:
    """Files in fsspec's store in memory; their URL."""
    url = f"memory://{uuid.uuid4().hex}"
    fsspec.filesystem("memory").pipe({f"{url}/{name}": held for name, held in files.items()})
    return url


def staging(cache: Path, *, n_bytes: float = 1e9) -> Staging:
    return Staging(StoreSettings(cache_dir=cache, cache_gb=n_bytes / 1e9, patience=QUICK))


def cohort_of(url: str) -> tuple[CohortSlide, ...]:
    return read_cohort(url, stores=StoreSettings()).slides


def bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@settings(max_examples=15)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=12),
    spare=st.integers(0, 60),
    held_at_once=st.integers(1, 3),
)
def test_copies_never_take_more_than_the_cache(
    sizes: list[int], spare: int, held_at_once: int
) -> None:
    rng = np.random.default_rng(0)
    files = {f"s{k:02d}.svs": rng.bytes(1000 * size) for k, size in enumerate(sizes)}
    slides = cohort_of(stored(files))
    # what is held at once must fit: a run that holds less waits for room instead
    limit = 1000 * (max(sum(sizes[k : k + held_at_once]) for k in range(len(sizes))) + spare)
    with TemporaryDirectory() as folder:
        staged = staging(Path(folder), n_bytes=limit)
        held: list[CohortSlide] = []
        with staged.ahead(slides):
            for slide in slides:
                if len(held) == held_at_once:
                    staged.done(held.pop(0))
                local = staged.local(slide)
                held.append(slide)
                assert local.path.name == slide.path.name
                assert local.path.read_bytes() == files[slide.path.name]
                assert bytes_in(Path(folder)) <= limit
                assert staged.room.used <= limit
            for slide in held:
                staged.done(slide)
        assert staged.room.used == 0
        assert list(Path(folder).iterdir()) == []


def test_local_slides_are_left_where_they_are(slides: Path, tmp_path: Path) -> None:
    staged = staging(tmp_path)
    for slide in read_cohort(slides).slides:
        assert staged.local(slide) is slide
        staged.done(slide)
    assert list(tmp_path.iterdir()) == []
    assert len(list(slides.iterdir())) == 3


def test_a_slide_larger_than_the_cache_fails_with_both_sizes(tmp_path: Path) -> None:
    slides = cohort_of(stored({"big.svs": bytes(3_000), "small.svs": bytes(500)}))
    staged = staging(tmp_path, n_bytes=1_000)
    with staged.ahead(slides):
        with pytest.raises(SlideError, match=r"takes 3e-06 GB, more than .* 1e-06 GB; raise --cac"):
            staged.local(slides[0])
        assert staged.local(slides[1]).path.stat().st_size == 500


def test_leaving_early_stops_what_waits_for_room(tmp_path: Path) -> None:
    slides = cohort_of(stored({f"{k}.svs": bytes(900) for k in range(6)}))
    staged = staging(tmp_path, n_bytes=1_000)
    failed: list[SlideError] = []

    def wait_for_second() -> None:
        with pytest.raises(SlideError) as error:
            staged.local(slides[1])
        failed.append(error.value)

    with staged.ahead(slides):
        staged.local(slides[0])
        waiting = threading.Thread(target=wait_for_second)
        waiting.start()
        waiting.join(timeout=0.1)
        assert waiting.is_alive()
    waiting.join(timeout=10)
    assert failed[0].stage == "fetch"
    staged.done(slides[0])
    assert list(tmp_path.iterdir()) == []


def test_a_mirax_slide_comes_with_its_folder(tmp_path: Path) -> None:
    files = {
        "m.mrxs": b"head", "m/Slidedat.ini": b"ini", "m/Data0000.dat": b"data",
        "m2.mrxs": b"other", "m2/Data0000.dat": b"other",
    }  # fmt: skip
    slides = cohort_of(stored(files))
    assert [slide.slide_id for slide in slides] == ["m", "m2"]
    staged = staging(tmp_path)
    local = staged.local(slides[0]).path
    found = {p.relative_to(local.parent).as_posix() for p in local.parent.rglob("*") if p.is_file()}
    assert found == {"m.mrxs", "m/Slidedat.ini", "m/Data0000.dat"}
    staged.done(slides[0])


def test_a_dicom_slide_comes_with_the_files_beside_it(tmp_path: Path) -> None:
    slides = cohort_of(stored({"case/1.dcm": b"1", "case/2.dcm": b"2", "case/notes.txt": b"n"}))
    assert [slide.slide_id for slide in slides] == ["case"]
    staged = staging(tmp_path)
    local = staged.local(slides[0]).path
    assert local.name == "1.dcm"
    assert sorted(p.name for p in local.parent.iterdir()) == ["1.dcm", "2.dcm"]
    staged.done(slides[0])


@pytest.mark.parametrize(
    ("name", "says"),
    [("a.vms", "names further files in its text"), ("a.mrxs", "a web server does not list")],
)
def test_formats_whose_files_cannot_be_told_are_refused(
    tmp_path: Path, name: str, says: str
) -> None:
    (tmp_path / name).write_bytes(b"x")
    with web_server(tmp_path) as (host, port):
        (slide,) = cohort_of(f"http://{host}:{port}/{name}")
        with pytest.raises(SlideError, match=says):
            staging(tmp_path / "cache").local(slide)


def test_names_that_lead_out_of_the_cache_are_refused(tmp_path: Path) -> None:
    inside = tmp_path / "cache"
    url = stored({"m.mrxs": b"head", "m/a/../../../../evil.txt": b"evil"})
    slides = cohort_of(url)
    staged = staging(inside)
    with pytest.raises(SlideError, match="has a name that no file can have"):
        staged.local(slides[0])
    assert not list(tmp_path.rglob("evil.txt"))


class Swapped:
    """Puts other content under a key after the first block of it has been read."""

    def __init__(self, bucket: Bucket, key: str, contents: list[bytes]) -> None:
        self.bucket, self.key, self.contents = bucket, key, contents

    def __call__(self, passed: int) -> None:
        if self.contents and passed > 20_000:
            self.bucket.put(self.key, self.contents.pop())


def test_a_slide_that_changes_while_it_is_fetched_is_fetched_anew(
    bucket: Bucket, tmp_path: Path
) -> None:
    new = np.random.default_rng(1).bytes(60_000)
    url = bucket.put("changing.svs", bytes(60_000))
    swap = Swapped(bucket, "changing.svs", [new])
    with flaky(bucket.host, bucket.port, during=swap) as (_, endpoint):
        stores = StoreSettings(options=bucket.options(endpoint), cache_dir=tmp_path, patience=QUICK)
        (slide,) = read_cohort(url, stores=stores).slides
        staged = Staging(stores)
        assert staged.local(slide).path.read_bytes() == new
        staged.done(slide)
    assert swap.contents == []


def test_a_slide_that_never_stops_changing_fails(bucket: Bucket, tmp_path: Path) -> None:
    url = bucket.put("restless.svs", bytes(60_000))
    swap = Swapped(bucket, "restless.svs", [bytes([k]) * 60_000 for k in range(1, 200)])
    with flaky(bucket.host, bucket.port, during=swap) as (_, endpoint):
        stores = StoreSettings(options=bucket.options(endpoint), cache_dir=tmp_path, patience=QUICK)
        (slide,) = read_cohort(url, stores=stores).slides
        with pytest.raises(SlideError, match="changes at its source again and again"):
            Staging(stores).local(slide)
    assert bytes_in(tmp_path) == 0


def test_a_slide_that_vanished_fails_alone(tmp_path: Path) -> None:
    url = stored({"a.svs": b"aa", "b.svs": b"bb"})
    slides = cohort_of(url)
    fsspec.filesystem("memory").rm(f"{url}/a.svs")
    staged = staging(tmp_path)
    with staged.ahead(slides):
        with pytest.raises(SlideError, match="cannot be fetched: there is no such file") as caught:
            staged.local(slides[0])
        assert caught.value.stage == "fetch"
        assert staged.local(slides[1]).path.read_bytes() == b"bb"
        staged.done(slides[1])


def test_a_cache_that_cannot_be_written_is_the_machines_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (slide,) = cohort_of(stored({"a.svs": b"aa"}))
    with pytest.raises(MachineError, match="cannot make a folder for temporary files in"):
        staging(tmp_path / "file" / "cache").local(slide)


def test_folders_of_dead_runs_are_cleared_and_those_of_live_ones_stay(tmp_path: Path) -> None:
    dead = tmp_path / f"{PREFIX}dead"
    (dead / "1").mkdir(parents=True)
    (dead / "1" / "a.svs").write_bytes(b"left")
    (dead / ".lock").write_bytes(b"")
    (tmp_path / "mine.txt").write_bytes(b"kept")
    first = RunFolder(tmp_path)
    second = RunFolder(tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"mine.txt", first.path.name, second.path.name}
    first.remove()
    second.remove()
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_the_inputs_digest_does_not_depend_on_the_place(slides: Path, tmp_path: Path) -> None:
    held = {path.name: path.read_bytes() for path in slides.iterdir()}
    staged = staging(tmp_path)
    here = {slide.slide_id: inputs_digest(slide) for slide in read_cohort(slides).slides}
    for slide in cohort_of(stored(held)):
        assert inputs_digest(slide) == here[slide.slide_id], "known without a download"
        assert inputs_digest(staged.local(slide)) == here[slide.slide_id]
        staged.done(slide)
    (bag,) = cohort_of(stored({"a.h5": b"a bag"}))
    with pytest.raises(SlideError, match="not known before it is fetched"):
        inputs_digest(bag)
    assert inputs_digest(staged.local(bag))
    staged.done(bag)
