"""The stream: equal to encoding tile by tile, whatever memory and workers, each tile read once."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gigassl.bags.bank_draws import DrawSettings, draw_for_slide
from gigassl.bags.prepare import PreparedSlide, TileSettings, lay_tiles, look_at
from gigassl.bags.reduction import Reduction
from gigassl.pipeline.bank_stream import AugmentedSlide, Augmenting, encode_augmented
from gigassl.pipeline.progress import Silent
from gigassl.slides.cohort import CohortSlide, read_cohort
from gigassl.slides.grid import GridSettings
from gigassl.slides.tile_reader import TileReader
from gigassl.tiles.augmentation import augmented
from gigassl.tiles.encoders import load_encoder
from gigassl.tiles.engine import TileEncoder

TILE_PX = 56
DRAWS = DrawSettings(augmentations=6, tiles=5)


@pytest.fixture(scope="module")
def encoder() -> TileEncoder:
    return load_encoder("random:resnet18@layer1", batch_size=2, precision="fp32")


def prepare(source: CohortSlide) -> PreparedSlide:
    tiles = TileSettings(grid=GridSettings(tile_px=TILE_PX))
    return lay_tiles(look_at(source, tiles), tiles)


def run(
    slides: Path, how: Augmenting, *, workers: int = 2,
    opening: Callable[[CohortSlide], PreparedSlide] = prepare,
) -> list[AugmentedSlide]:  # fmt: skip
    sources = read_cohort(slides).slides
    return list(
        encode_augmented(sources, prepare=opening, how=how, workers=workers, progress=Silent())
    )


def features_of(work: AugmentedSlide) -> np.ndarray[Any, np.dtype[np.float32]]:
    assert work.slide.failure is None
    assert work.features is not None
    return work.features


def test_features_are_those_of_tiles_augmented_and_encoded_one_by_one(
    slides: Path, encoder: TileEncoder
) -> None:
    for work in run(slides, Augmenting(encoder=encoder, settings=DRAWS)):
        source = work.slide.source
        prepared = prepare(source)
        draws = draw_for_slide(DRAWS, slide_id=source.slide_id, coords=prepared.grid.coords)
        found = features_of(work)
        assert found.shape == (6, 5, encoder.dim)
        for a, drawn in enumerate(draws.augmentations):
            for t, index in enumerate(draws.tiles[a]):
                tile = torch.from_numpy(prepared.tiles.read(np.array([index])))
                alone = augmented(tile, drawn, side_px=224).numpy()
                (expected,) = encoder.encode(alone)
                # the same tile in a batch may round a byte the other way
                assert np.allclose(found[a, t], expected, rtol=0.02, atol=0.02)
        prepared.close()


def test_neither_memory_nor_workers_change_a_byte(slides: Path, encoder: TileEncoder) -> None:
    how = Augmenting(encoder=encoder, settings=DRAWS)
    one_step = [features_of(work).tobytes() for work in run(slides, how)]
    assert len(set(one_step)) == 3
    tight = replace(how, memory_budget=1)
    assert [features_of(work).tobytes() for work in run(slides, tight, workers=3)] == one_step
    assert [features_of(work).tobytes() for work in run(slides, how, workers=1)] == one_step


class _Counting(TileReader):
    """Counts what is read."""

    counts: Counter[int]
    name: str

    def read(self, indices: Any, *, out: Any = None) -> Any:
        self.counts.update(indices.tolist())
        return super().read(indices, out=out)


@pytest.mark.parametrize("memory_budget", [1, 1 << 30])
def test_each_distinct_tile_is_decoded_once(
    slides: Path, encoder: TileEncoder, memory_budget: int
) -> None:
    readers: list[_Counting] = []

    def counting(source: CohortSlide) -> PreparedSlide:
        prepared = prepare(source)
        reader = _Counting(prepared.slide, prepared.grid)
        reader.counts, reader.name = Counter(), source.slide_id
        readers.append(reader)
        return replace(prepared, tiles=reader)

    how = Augmenting(encoder=encoder, settings=DRAWS, memory_budget=memory_budget)
    works = run(slides, how, opening=counting)
    # two are opened at once, in no certain order
    by_info = {reader.name: reader for reader in readers}
    for work in works:
        reader = by_info[work.slide.source.slide_id]
        assert work.draws is not None
        assert not work.pixels, "nothing is kept once the slide is done"
        assert reader.counts == Counter(set(work.draws.tiles.ravel().tolist()))


def test_a_slide_that_cannot_be_read_fails_alone(
    slides: Path, encoder: TileEncoder, tmp_path: Path
) -> None:
    whole = (slides / "beta.svs").read_bytes()
    for name in ("alpha", "gamma"):
        (tmp_path / f"{name}.svs").write_bytes((slides / f"{name}.svs").read_bytes())
    (tmp_path / "beta.svs").write_bytes(whole[:2000])
    tight = Augmenting(encoder=encoder, settings=DRAWS, memory_budget=1)
    alpha, beta, gamma = run(tmp_path, tight)
    assert beta.slide.failure is not None
    assert beta.slide.failure.stage == "open"
    expected = [features_of(work).tobytes() for work in run(slides, tight)]
    assert [features_of(alpha).tobytes(), features_of(gamma).tobytes()] == expected[::2]


def test_a_slide_that_fails_midway_is_closed_and_fails_alone(
    slides: Path, encoder: TileEncoder
) -> None:
    from gigassl.errors import SlideError

    class Breaking(TileReader):
        left = 7

        def read(self, indices: Any, *, out: Any = None) -> Any:
            self.left -= 1
            if self.left < 0:
                raise SlideError("stored pixels are damaged", stage="read")
            return super().read(indices, out=out)

    def breaking(source: CohortSlide) -> PreparedSlide:
        prepared = prepare(source)
        if source.slide_id != "beta":
            return prepared
        return replace(prepared, tiles=Breaking(prepared.slide, prepared.grid))

    tight = Augmenting(encoder=encoder, settings=DRAWS, memory_budget=1)
    alpha, beta, gamma = run(slides, tight, opening=breaking)
    assert beta.slide.failure is not None
    assert beta.slide.failure.reason == "stored pixels are damaged"
    assert not beta.pixels
    assert features_of(alpha).shape == features_of(gamma).shape


def test_a_reduction_is_applied_to_what_the_encoder_gives(
    slides: Path, encoder: TileEncoder
) -> None:
    generator = np.random.default_rng(0)
    reduction = Reduction(
        mean=generator.normal(size=encoder.dim).astype(np.float32),
        components=generator.normal(size=(3, encoder.dim)).astype(np.float32),
    )
    how = Augmenting(encoder=encoder, settings=DRAWS)
    wide = [features_of(work) for work in run(slides, how)]
    narrow = [features_of(work) for work in run(slides, replace(how, reduction=reduction))]
    for one, other in zip(wide, narrow, strict=True):
        expected = (one - reduction.mean) @ reduction.components.T
        assert np.allclose(other, expected, rtol=1e-4, atol=1e-4)
