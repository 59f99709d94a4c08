"""The same slides, tiles and network through gigassl, LazySlide, slide2vec and a plain loop.

    python -m benchmarks.embed_vs_peers --install ENVIRONMENTS          # once: the peers
    python -m benchmarks.embed_vs_peers --environments ENVIRONMENTS --out DIR
        [--cases reading reading-x2 encoding real] [--repeats 3] [--cores 2] [--real-slide FILE]

Every run is a process of its own, in the peer's own environment, that prints what it found; in each
round all contenders run, in an order that moves on. Work is timed from the open call to features
in hand, after a first small slide; the time from start to end holds imports and loading too. Peers
find tissue in their own way, so tiles/s are compared, and the features are checked at each one's
own corners against OpenSlide's pixels through the same network in fp32. Waiting threads are told
not to spin (OMP_WAIT_POLICY), for all alike. Writes DIR/peers.json, .md and .png; DIR/work keeps
the slides for the next time. The peers are programs started beside ours; nothing of theirs is
imported.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.peers.cases import CASES, Case, Entry, save_checkpoint, save_first, save_slides
from benchmarks.peers.drawing import draw
from benchmarks.peers.install import install, pythons
from benchmarks.peers.job import Job
from benchmarks.peers.measure import Run, RunFailedError, limits, run_contender
from benchmarks.peers.reference import agreement
from benchmarks.peers.summary import Row, as_markdown, missed, of_the_encoder, row_of
from benchmarks.report import line


@dataclass(kw_only=True)
class Race:
    """All runs of one case so far."""

    case: Case
    work: Path
    slides: Mapping[str, str]
    first: Path
    runs: dict[Entry, list[Run]] = field(default_factory=dict)
    limits: list[Mapping[str, float]] = field(default_factory=list)
    failed: dict[Entry, str] = field(default_factory=dict)

    def job(self, entry: Entry) -> Job:
        out = self.work / f"{self.case.name}-{entry.name.replace(', ', '-')}"
        return Job(
            slides=self.slides, first=str(self.first), tile_px=self.case.tile_px, mpp=self.case.mpp,
            network=self.case.network, workers=2, precision=entry.precision,
            checkpoint=str(self.work / f"{self.case.network}.safetensors"), out=str(out),
        )  # fmt: skip

    def round(self, number: int, *, interpreters: Mapping[str, Path], cores: int) -> None:
        """Every contender once; one that fails is named and left out from then on."""
        entries = [entry for entry in self.case.entries if entry not in self.failed]
        start = number % len(entries)
        for entry in entries[start:] + entries[:start]:
            self.run_entry(entry, python=interpreters[entry.module], cores=cores)
        alone = self.job(self.case.entries[0])
        self.limits.append(limits(interpreters["gigassl"], job=alone, cores=cores))

    def run_entry(self, entry: Entry, *, python: Path, cores: int) -> None:
        job = self.job(entry)
        shutil.rmtree(job.out, ignore_errors=True)
        Path(job.out).mkdir()
        try:
            run = run_contender(python, entry.module, job=job, cores=cores)
        except RunFailedError as error:
            self.failed[entry] = str(error)
            self.runs.pop(entry, None)
            print(f"{self.case.name}: {entry.name} left out: {error}", flush=True)
            return
        self.runs.setdefault(entry, []).append(run)
        line(f"{self.case.name}: {entry.name}", run.rate, unit="tiles/s")

    def rows(self) -> list[Row]:
        return [
            row_of(self.case, entry, runs=self.runs, cosine=agreement(self.job(entry)))
            for entry in self.case.entries if entry in self.runs
        ]  # fmt: skip


def prepared(case: Case, work: Path, *, real: Path | None) -> Race | None:
    """Slides and weights of a case, kept from an earlier run where they are there."""
    if not case.painted and real is None:
        return None
    folder = work / f"slides-{case.name}"
    if not folder.exists():
        save_slides(case, folder, real=real)
    first = work / "first" / "first.svs"
    if not first.exists():
        first.parent.mkdir(exist_ok=True)
        save_first(first)
    slides = {path.stem: str(path) for path in sorted(folder.iterdir())}
    save_checkpoint(case.network, work / f"{case.network}.safetensors")
    return Race(case=case, work=work, slides=slides, first=first)


def save(races: Sequence[Race], rows: Sequence[Row], out: Path) -> None:
    told = {
        "rows": [asdict(row) for row in rows],
        "limits": {race.case.name: race.limits for race in races},
        "left out": {
            f"{race.case.name}, {entry.name}": why
            for race in races for entry, why in race.failed.items()
        },
        "packages": {
            entry.module: runs[0].packages for race in races for entry, runs in race.runs.items()
        },
    }  # fmt: skip
    (out / "peers.json").write_text(json.dumps(told, indent=1), encoding="utf-8")
    (out / "peers.md").write_text(as_markdown(rows), encoding="utf-8")
    if rows:
        draw(rows, out / "peers.png")


def race_all(chosen: argparse.Namespace) -> None:
    interpreters = pythons(chosen.environments, here=Path(sys.executable))
    work: Path = chosen.out / "work"
    work.mkdir(parents=True, exist_ok=True)
    races, rows = [], []
    for name in chosen.cases:
        race = prepared(CASES[name], work, real=chosen.real_slide)
        if race is None:
            print(f"{name}: left out, for want of --real-slide", flush=True)
            continue
        for number in range(chosen.repeats):
            race.round(number, interpreters=interpreters, cores=chosen.cores)
        races.append(race)
        rows += race.rows()
        save(races, rows, chosen.out)
    by_case = {race.case.name: race.limits for race in races}
    print((chosen.out / "peers.md").read_text(encoding="utf-8"))
    for case, share in of_the_encoder(rows, by_case).items():
        line(f"{case}: gigassl, of the network alone", share, unit="x")
    for sentence in missed(rows, limits=by_case):
        print(f"missed: {sentence}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--install", type=Path, metavar="ENVIRONMENTS")
    parser.add_argument("--environments", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--real-slide", type=Path)
    chosen = parser.parse_args()
    if chosen.install:
        install(chosen.install.absolute())
        return
    if not chosen.environments or not chosen.out:
        parser.error("give --environments and --out, or --install")
    chosen.environments, chosen.out = chosen.environments.absolute(), chosen.out.absolute()
    if chosen.real_slide:
        chosen.real_slide = chosen.real_slide.absolute()
    race_all(chosen)


if __name__ == "__main__":
    main()
