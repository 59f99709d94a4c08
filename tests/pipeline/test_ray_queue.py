"""Which slide is next: large ones first, lost ones last and alone, until they are given up."""

from pathlib import Path

from gigassl.pipeline.ray_queue import SlideQueue
from gigassl.slides.cohort import CohortSlide


def slides_of(folder: Path, *sizes: int) -> list[CohortSlide]:
    found = []
    for size in sizes:
        path = folder / f"s{size}.svs"
        path.write_bytes(bytes(size))
        found.append(
            CohortSlide(slide_id=path.stem, path=path, patient_id="p", patient_rule="slide_id")
        )
    return found


def taken(queue: SlideQueue, *, beside: int = 0) -> str | None:
    source = queue.take(beside=beside)
    return None if source is None else source.slide_id


def test_the_largest_comes_first_and_one_that_is_gone_last(tmp_path: Path) -> None:
    sources = slides_of(tmp_path, 20, 500, 3)
    sources[1].path.unlink()
    queue = SlideQueue(sources, retries=3)
    assert [taken(queue) for _ in range(4)] == ["s20", "s3", "s500", None]


def test_a_lost_slide_comes_last_and_gets_an_actor_of_its_own(tmp_path: Path) -> None:
    small, large = slides_of(tmp_path, 1, 9)
    queue = SlideQueue([small, large], retries=1)
    assert taken(queue) == "s9"
    assert queue.lost(large, why="its node was lost", stage="encode") is None
    assert len(queue) == 2
    assert taken(queue, beside=1) == "s1"
    assert taken(queue, beside=1) is None
    assert taken(queue, beside=0) == "s9"
    assert len(queue) == 0


def test_it_is_given_up_with_each_reason_once(tmp_path: Path) -> None:
    (slide,) = slides_of(tmp_path, 1)
    queue = SlideQueue([slide], retries=2)
    whys = ["its node was lost", "out of memory", "out of memory"]
    for why in whys[:2]:
        assert queue.take(beside=0) is slide
        assert queue.lost(slide, why=why, stage="encode") is None
    queue.take(beside=0)
    failure = queue.lost(slide, why=whys[2], stage="encode")
    assert failure is not None
    assert failure.reason == (
        "given up after its work was lost 3 times: its node was lost; out of memory"
    )
    assert len(queue) == 0


def test_without_retries_the_first_loss_is_the_end(tmp_path: Path) -> None:
    (slide,) = slides_of(tmp_path, 1)
    failure = SlideQueue([slide], retries=0).lost(slide, why="it died", stage="encode")
    assert failure is not None
    assert "was lost once: it died" in failure.reason
