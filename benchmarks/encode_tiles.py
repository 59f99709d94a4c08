"""Tiles per second of the encoders, contenders interleaved in one run, with their relative error.

    python -m benchmarks.encode_tiles --images DIR [--reps 5] [--batch-size 16] [--threads 2]

Prints one JSON line per number. Errors are relative to eager fp32 on the same tiles. ResNet18 and
ViT-S carry random weights here (nothing is downloaded); EfficientNet-Lite0 is trained, bundled.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import torch

from gigassl.tiles.encoders import encoder_record, plain_network
from gigassl.tiles.engine import EngineSettings, TileEncoder
from gigassl.tiles.records import EncoderRecord, Precision
from tests.shared_data import SHARED

GLAS = SHARED / "data" / "glas" / "images"
Contender = Callable[[np.ndarray], np.ndarray]


def tissue_tiles(folder: Path, *, n_tiles: int, side: int) -> tuple[np.ndarray, str]:
    """Real tiles from every image of the folder in turn, or noise where there are none."""
    tiles: list[np.ndarray] = []
    for path in sorted(folder.glob("*.[jpb][pnm][gp]")) if folder.is_dir() else []:
        image = cv2.imread(str(path))
        if image is None or min(image.shape[:2]) < side:
            continue
        tiles.append(cv2.cvtColor(image, cv2.COLOR_BGR2RGB)[:side, :side])
    if not tiles:
        noise = np.random.default_rng(0).integers(0, 256, (n_tiles, side, side, 3), dtype=np.uint8)
        return noise, "noise"
    picked = [tiles[i * len(tiles) // n_tiles] for i in range(n_tiles)]
    return np.stack(picked), f"tissue ({folder.parent.name})"


def eager(network: torch.nn.Module, record: EncoderRecord, *, batch_size: int) -> Contender:
    """Plain PyTorch in fp32, as a first script would write it."""
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (record.mean, record.std))

    def run(tiles: np.ndarray) -> np.ndarray:
        found = []
        with torch.inference_mode():
            for start in range(0, len(tiles), batch_size):
                images = torch.from_numpy(tiles[start : start + batch_size])
                images = images.permute(0, 3, 1, 2).contiguous().float() / 255
                found.append(network((images - mean) / std))
        return torch.cat(found).numpy()

    return run


def engine(encoder: TileEncoder) -> Contender:
    """Our own engine, as the pipeline calls it."""

    def run(tiles: np.ndarray) -> np.ndarray:
        size = encoder.batch_size
        return np.concatenate(
            [encoder.encode(tiles[i : i + size]) for i in range(0, len(tiles), size)]
        )

    return run


def contenders(name: str, *, batch_size: int, threads: int) -> dict[str, Contender]:
    # the bar for bf16 is what this file measures, so it is lifted here
    record = replace(encoder_record(name), bf16_error=None)
    network = plain_network(name)
    found = {"eager fp32": eager(network.eval(), record, batch_size=batch_size)}
    variants: list[tuple[str, Precision]] = [
        ("torch", "fp32"), ("torch", "bf16"), ("openvino", "fp32"), ("openvino", "bf16")
    ]  # fmt: skip
    for backend, precision in variants:
        settings = EngineSettings(
            backend=backend,
            device="cpu",
            precision=precision,
            batch_size=batch_size,
            threads=threads,
        )
        encoder = TileEncoder(network, record=record, settings=settings)
        found[f"{backend} {precision}"] = engine(encoder)
    return found


def measure(
    runs: dict[str, Contender], tiles: np.ndarray, *, reps: int
) -> dict[str, tuple[float, float]]:
    """Median images/s and relative error to the first contender, which is the reference."""
    expected = next(iter(runs.values()))(tiles)
    errors = {k: np.linalg.norm(run(tiles) - expected) for k, run in runs.items()}
    seconds: dict[str, list[float]] = {key: [] for key in runs}
    for _ in range(reps):
        for key, run in runs.items():
            start = time.perf_counter()
            run(tiles)
            seconds[key].append(time.perf_counter() - start)
    scale = np.linalg.norm(expected)
    return {k: (len(tiles) / median(seconds[k]), float(errors[k] / scale)) for k in runs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, default=GLAS)
    parser.add_argument("--reps", type=int, default=5)
    parser.add_argument("--tiles", type=int, default=96)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--encoders", nargs="+", default=["random:resnet18@layer3", "efficientnet-lite0"]
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    tiles, kind = tissue_tiles(args.images, n_tiles=args.tiles, side=224)
    shared = {"tiles": kind, "n": args.reps, "threads": args.threads, "batch": args.batch_size,
              "torch": torch.__version__, "machine": platform.machine()}  # fmt: skip
    for name in args.encoders:
        runs = contenders(name, batch_size=args.batch_size, threads=args.threads)
        results = measure(runs, tiles, reps=args.reps)
        base = results["eager fp32"][0]
        for key, (rate, error) in results.items():
            line = {
                "name": f"{name} {key}",
                "value": round(rate, 1),
                "unit": "img/s",
                "ratio_to_eager": round(rate / base, 2),
                "relative_error": float(f"{error:.2g}"),
            }
            print(json.dumps(line | shared), flush=True)


if __name__ == "__main__":
    main()
