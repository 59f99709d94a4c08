"""Tiles per second into a bank, against the encoder alone, augmentation alone and the estimate.

    python -m benchmarks.encode_bank [--encoder random:resnet18@layer3] [--augmentations 4]

Prints one JSON line per number. Slides are synthetic; "encoder alone" runs on the same number of
tiles that lie in memory already.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import torch

from gigassl.bags.bank_draws import DrawSettings
from gigassl.pipeline.bank import BankSettings, encode_bank, estimate_bank
from gigassl.pipeline.jobs import RunOptions
from gigassl.slides.synthetic import make_cohort
from gigassl.tiles.augmentation import AugmentationSettings, augmented, draw_augmentation
from gigassl.tiles.encoders import load_encoder


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", default="random:resnet18@layer3")
    parser.add_argument("--augmentations", type=int, default=4)
    parser.add_argument("--tiles", type=int, default=64)
    parser.add_argument("--slides", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--reps", type=int, default=3)
    args = parser.parse_args()
    encoder = load_encoder(args.encoder, batch_size=args.batch_size)
    draws = DrawSettings(augmentations=args.augmentations, tiles=args.tiles)
    settings = BankSettings(draws=draws)
    generator = np.random.default_rng(0)
    n_batches = args.slides * args.augmentations * args.tiles // args.batch_size
    tiles = generator.integers(0, 256, (args.batch_size, 224, 224, 3), dtype=np.uint8)
    on_device = torch.from_numpy(tiles).to(encoder.device)
    drawn = [draw_augmentation(AugmentationSettings(), generator) for _ in range(n_batches)]

    def encode_alone() -> None:
        for _ in range(n_batches):
            encoder.encode(tiles)

    def augment_alone() -> None:
        with torch.inference_mode():
            for one in drawn:
                augmented(on_device, one, side_px=encoder.record.input_px).cpu()

    found: dict[str, list[float]] = {"bank": [], "encoder alone": [], "augmentation alone": []}
    with TemporaryDirectory() as place:
        cohort = make_cohort(Path(place) / "slides", n_slides=args.slides)
        options = RunOptions(workers=2)
        estimate = estimate_bank(
            cohort, Path(place) / "none", encoder=encoder, settings=settings, options=options
        )
        for rep in range(args.reps):
            out = Path(place) / f"bank-{rep}"
            found["encoder alone"].append(seconds(encode_alone))
            found["augmentation alone"].append(seconds(augment_alone))
            found["bank"].append(
                seconds(
                    lambda out=out: encode_bank(  # type: ignore[misc]
                        cohort, out, encoder=encoder, settings=settings, options=options
                    )
                )
            )
    n_tiles = n_batches * args.batch_size
    shared = {"n": args.reps, "encoder": args.encoder, "device": encoder.device}
    for name, took in found.items():
        rate = round(n_tiles / median(took), 1)
        print(json.dumps({"name": name, "value": rate, "unit": "tiles/s"} | shared))
    share = median(found["bank"]) / median(found["encoder alone"])
    print(json.dumps({"name": "bank over encoder alone", "value": round(share, 3)} | shared))
    said = (estimate.seconds or 0.0) / median(found["bank"])
    print(json.dumps({"name": "estimate over bank", "value": round(said, 2)} | shared))


if __name__ == "__main__":
    main()
