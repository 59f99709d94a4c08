"""What no contender can beat: our reader alone, and the network alone on tiles in memory."""

import json
import os
import sys
import time

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from benchmarks.peers.gigassl import cohort_of, encoder_for, tiles_for
from benchmarks.peers.job import Job
from gigassl.bags.prepare import PreparedSlide, lay_tiles, look_at

# tiles that are encoded over and over
HELD = 256
SECONDS = 4.0


def reading(slides: list[PreparedSlide], *, batch: int, workers: int) -> float:
    """Tiles/s of ``workers`` threads that read and throw away."""
    batches = [
        (slide, np.arange(start, min(start + batch, len(slide.grid))))
        for slide in slides
        for start in range(0, len(slide.grid), batch)
    ]
    begin = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        n_tiles = sum(pool.map(lambda read: len(read[0].tiles.read(read[1])), batches))
    return n_tiles / (time.perf_counter() - begin)


def main() -> None:
    job = Job(**json.loads(sys.argv[1]))
    encoder, tiles = encoder_for(job), tiles_for(job)
    slides = [lay_tiles(look_at(source, tiles), tiles) for source in cohort_of(job.slides).slides]
    held = slides[0].tiles.read(np.arange(min(HELD, len(slides[0].grid))))
    batches = [
        held[start : start + encoder.batch_size]
        for start in range(0, len(held) - encoder.batch_size + 1, encoder.batch_size)
    ]
    encoder.encode(batches[0])
    n_tiles, begin = 0, time.perf_counter()
    while time.perf_counter() < begin + SECONDS:
        for batch in batches:
            encoder.encode(batch)
            n_tiles += len(batch)
    encoding = n_tiles / (time.perf_counter() - begin)
    read = reading(slides, batch=encoder.batch_size, workers=job.workers)
    print(f"\n{json.dumps({'encoder alone': encoding, 'reader alone': read})}")


if __name__ == "__main__":
    main()
