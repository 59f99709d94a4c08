"""Linear probes against MIL on real tiles, on the same folds: GlaS and UCSB breast.

Prints and writes (Markdown, LaTeX, CSV, figure) what ``gigassl compare`` says of probes on vectors,
their controls, and every MIL model. GlaS: patient-grouped folds, tiles of 64 px, which hold part of
a gland. UCSB breast: vectors are the mean of a bag; its rows have no place.

    python -m benchmarks.glas_methods --out compared/
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from benchmarks.classic_bags import classic_bag_files, glas_bag_files
from benchmarks.quality_data import glas
from gigassl.evaluate.comparison import CompareSettings
from gigassl.evaluate.splits import SplitSettings
from gigassl.pipeline.compare import compare_files
from gigassl.pipeline.embed import EmbedSettings, embed
from gigassl.pipeline.evaluation import TaskOptions, splits_beside
from gigassl.pipeline.mil import MilOptions, mil
from gigassl.pipeline.mil_progress import MilReporter
from gigassl.pipeline.pretrain import NetworkSettings, pretrain
from gigassl.pipeline.probe import ProbeOptions, probe
from gigassl.vectors.pretrain.settings import PRESETS

MODELS = ("mean", "max", "mean-mlp", "abmil", "gated-abmil", "clam-sb", "dsmil", "transmil")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of everything made")
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--sets", nargs="+", default=["glas", "ucsb"], choices=["glas", "ucsb"])
    parser.add_argument("--tile-px", type=int, default=64)
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--repeats", type=int, default=1)
    asked = parser.parse_args()
    for name in asked.sets:
        folder = asked.out / (f"glas-{asked.tile_px}" if name == "glas" else name)
        if name == "glas":
            data = glas(asked.shared, asked.out / "cache", tile_px=asked.tile_px)
            labels = glas_bag_files(data, folder / "bags")
        else:
            source = asked.shared / "data" / "mil_classic" / "ucsb_breast.npz"
            labels = classic_bag_files(source, folder / "bags")
        split = SplitSettings(folds=5 if name == "glas" else 10, repeats=asked.repeats)
        task = TaskOptions(labels=labels, target="label", split=split, name=folder.name)
        compared(folder, task, models=asked.models, positions=name == "glas")


def compared(folder: Path, task: TaskOptions, *, models: list[str], positions: bool) -> None:
    """Vectors, probes, MIL models and the comparison of one set."""
    bags = folder / "bags"
    tables = []
    for pooling in ("mean", "mean+std"):
        tables.append(folder / f"{pooling}.parquet")
        embed(bags, tables[-1], settings=EmbedSettings(slide_encoder=pooling))
    encoder = None
    if positions:
        encoder = folder / "spatial.safetensors"
        pretrain(
            bags, encoder, network=NetworkSettings(architecture="spatial"),
            settings=PRESETS["spatial"],
        )  # fmt: skip
        tables.insert(0, folder / "spatial.parquet")
        embed(bags, tables[0], settings=EmbedSettings(slide_encoder=str(encoder)))
    probed = probe(
        tables, folder / "probe.parquet", tasks=[task],
        options=ProbeOptions(bags=bags, slide_encoder=encoder),
    )  # fmt: skip
    same = TaskOptions(
        labels=task.labels, target=task.target, splits=splits_beside(probed.out), name=task.name
    )
    with MilReporter() as monitor:
        mil(
            bags, folder / "mil.parquet", options=same, monitor=monitor,
            models=MilOptions(models=models, changes={"standardise": not positions}),
        )  # fmt: skip
    result = compare_files(
        [str(folder / "probe.parquet"), str(folder / "mil.parquet")], folder / "comparison",
        settings=CompareSettings(reference="mean+std · logistic"),
    )  # fmt: skip
    print(result.sentence())


if __name__ == "__main__":
    main()
