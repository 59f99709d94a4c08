"""Growth of a run with its number of slides: commits, the scan of a resumed run, the last merge."""

import multiprocessing
import resource
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from gigassl.bags.bag import Bag, save_bag
from gigassl.bags.info import BagInfo
from gigassl.pipeline.embed import embed
from gigassl.pipeline.parts import Parts
from gigassl.slides.cohort import CohortSlide
from gigassl.vectors.table import SlideRow

DIM = 256
CENTRES = 200
PIECE = 4096
SPREAD = 1.0
PROVENANCE = {"settings": {"made by": "benchmarks.scale"}}

Numbers = dict[str, float]


def pieces(n: int, *, seed: int = 0) -> Iterator[np.ndarray]:
    """Unit vectors around common centres, a few thousand at a time; the same for any ``n``."""
    centres = np.random.default_rng(seed).standard_normal((CENTRES, DIM))
    for number, start in enumerate(range(0, n, PIECE)):
        rng = np.random.default_rng((seed, number))
        found = centres[rng.integers(0, CENTRES, PIECE)]
        found += SPREAD * rng.standard_normal((PIECE, DIM))
        found /= np.linalg.norm(found, axis=1, keepdims=True)
        yield found[: n - start].astype(np.float32)


def slide_rows(n: int) -> Iterator[SlideRow]:
    """Rows as a run commits them; names in no order, as slides that end in any order."""
    number = 0
    for vectors in pieces(n):
        for vector in vectors:
            name = name_of(number)
            number += 1
            yield SlideRow(
                slide_id=name, patient_id=name[:12], patient_rule="tcga-barcode",
                file=f"{name}.svs", embedding=vector, n_tiles=12_800, mpp=0.25, mpp_source="file",
                effective_mpp=0.5, width_l0=90_000, height_l0=80_000, slide_digest="0" * 64,
                inputs_digest=f"{number:016x}", settings_digest="1" * 64,
            )  # fmt: skip


def name_of(number: int) -> str:
    """As long as a TCGA name, and far from its neighbours' in the alphabet."""
    scattered = number * 2_654_435_761 % 2**32
    return f"TCGA-{scattered % 100:02d}-{scattered:010d}-01Z-00-DX1.{scattered:032x}"


def run_growth(folder: Path, n: int) -> Numbers:
    """Commits ``n`` rows, finds them all done in a new process, and merges them in another."""
    folder.mkdir()
    try:
        found = in_child(_committed, folder, n)
        parts = Path(f"{folder / 'v.parquet'}.parts")
        found["files in .parts"] = float(len(list(parts.iterdir())))
        found |= in_child(_scanned, folder, n)
        found |= in_child(_merged, folder, n)
        found["table, MB"] = (folder / "v.parquet").stat().st_size / 1e6
        return found
    finally:
        shutil.rmtree(folder)


def embed_growth(folder: Path, n: int) -> Numbers:
    """Embeds ``n`` tiny bags, and once more with nothing to do."""
    (folder / "bags").mkdir(parents=True)
    try:
        for number, row in enumerate(slide_rows(n)):
            features = row.embedding[None].astype(np.float16)
            info = BagInfo(
                slide_id=row.slide_id, encoder="none", settings_digest="1", target_mpp=0.5,
                tile_px=224, side_l0=224.0, mpp_l0=0.5, mpp_source="file", effective_mpp=0.5,
                width_l0=448, height_l0=448, slide_digest=f"{number:064x}",
            )  # fmt: skip
            bag = Bag(features=features, coords=np.zeros((1, 2), np.int64), info=info)
            save_bag(bag, folder / "bags" / f"{row.slide_id}.h5")
        return in_child(_embedded, folder, n) | in_child(_embedded_again, folder, n)
    finally:
        shutil.rmtree(folder)


def in_child(work: Callable[[Path, int], Numbers], folder: Path, n: int) -> Numbers:
    """What a function measures in a process of its own, whose memory holds nothing else."""
    # forked off a server that has imported everything and done nothing
    forked = multiprocessing.get_context("forkserver")
    forked.set_forkserver_preload(["benchmarks.scale_tables"])
    with ProcessPoolExecutor(1, mp_context=forked) as pool:
        return pool.submit(work, folder, n).result()


def peak_mb() -> float:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _parts(folder: Path) -> Parts:
    return Parts(folder / "v.parquet", settings_digest="1" * 64, provenance=PROVENANCE)


def _committed(folder: Path, n: int) -> Numbers:
    parts, spent, before = _parts(folder), 0.0, peak_mb()
    for row in slide_rows(n):
        begin = time.perf_counter()
        parts.commit(row)
        spent += time.perf_counter() - begin
    return {"commit, ms a slide": 1e3 * spent / n, "commit, MB grown": peak_mb() - before}


def _scanned(folder: Path, n: int) -> Numbers:
    slides = [
        CohortSlide(slide_id=name_of(k), path=Path("x.svs"), patient_id="p", patient_rule="column")
        for k in range(n)
    ]
    inputs = {slide.slide_id: f"{k + 1:016x}" for k, slide in enumerate(slides)}
    before, begin = peak_mb(), time.perf_counter()
    parts = _parts(folder)
    done = parts.reusable(slides, inputs)
    found = {"resume scan, s": time.perf_counter() - begin, "scan, MB grown": peak_mb() - before}
    assert len(done) == n
    return found


def _merged(folder: Path, n: int) -> Numbers:
    parts = _parts(folder)
    before, begin = peak_mb(), time.perf_counter()
    table = parts.merge()
    assert table is not None
    assert len(table) == n
    return {"merge, s": time.perf_counter() - begin, "merge, MB grown": peak_mb() - before}


def _embedded(folder: Path, n: int) -> Numbers:
    before, begin = peak_mb(), time.perf_counter()
    result = embed(folder / "bags", folder / "v.parquet")
    spent = time.perf_counter() - begin
    assert result.n_new == n
    return {"embed, ms a tiny bag": 1e3 * spent / n, "embed, MB grown": peak_mb() - before}


def _embedded_again(folder: Path, n: int) -> Numbers:
    begin = time.perf_counter()
    result = embed(folder / "bags", folder / "v.parquet")
    assert result.n_reused == n
    return {"nothing to do, ms a tiny bag": 1e3 * (time.perf_counter() - begin) / n}
