"""Batches read ahead: by worker processes that open files themselves, or by a thread."""

import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Protocol, runtime_checkable

import cv2
import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from gigassl.errors import SettingsError, SlideError
from gigassl.files import MachineError
from gigassl.tiles.pretrain.sampling import DrawnTiles
from gigassl.tiles.pretrain.source import BatchPlan, TileBatch, UnreadableFile

# of a tile whose file cannot be read; with half of all files gone, none is left after a few
_ATTEMPTS = 100
_AHEAD = 2


@runtime_checkable
class TileFiles(Protocol):
    """Files that tiles are read from. Goes to worker processes: nothing is open in it there."""

    def draw(self, plan: BatchPlan, step: int, *, attempt: int) -> DrawnTiles:
        """The tiles of a whole batch; a pure function of its arguments."""

    def read_into(
        self, out: UInt8[np.ndarray, "side side 3"], *, file: int, corner: tuple[int, int],
        mpp: float,
    ) -> None:  # fmt: skip
        """Fills ``out`` with a square of a file; whether it can depends on nothing read before.

        Raises:
            SlideError: it cannot be read.
            MachineError: no file handles left.
        """


@dataclass(frozen=True, kw_only=True)
class FileNames:
    """How a source's files are named where they cannot be read."""

    names: Sequence[str]
    paths: Sequence[Path]


@dataclass(kw_only=True)
class _Read:
    """What a worker sends back; tensors travel in shared memory."""

    tiles: Tensor
    file: Tensor
    partners: Tensor | None = None
    beside: Tensor | None = None
    unreadable: dict[int, str] = field(default_factory=dict)
    machine: str | None = None
    full: bool = True

    def pin_memory(self) -> "_Read":
        """Called by torch's loader, so that copies to a GPU need not wait."""
        self.tiles = self.tiles.pin_memory()
        self.partners = None if self.partners is None else self.partners.pin_memory()
        return self


class _Steps(Dataset[_Read]):
    """The batches of a plan by their number."""

    def __init__(self, files: TileFiles, plan: BatchPlan, *, tile_px: int) -> None:
        self._files = files
        self._plan = plan
        self._tile_px = tile_px

    def __getitem__(self, step: int) -> _Read:
        """One batch; places of tiles that cannot be read are filled from further draws."""
        drawn = self._drawn(step, attempt=0)
        read = self._empty(drawn)
        todo = np.arange(len(drawn))
        for attempt in range(_ATTEMPTS):
            drawn = drawn if attempt == 0 else self._drawn(step, attempt=attempt)
            try:
                todo = self._fill(read, drawn, places=todo)
            except MachineError as error:
                read.machine = str(error)
                return read
            if len(todo) == 0:
                return read
        read.full = False
        return read

    def _drawn(self, step: int, *, attempt: int) -> DrawnTiles:
        whole = self._files.draw(self._plan, step, attempt=attempt)
        return whole.part(self._plan.rank, world=self._plan.world)

    def _empty(self, drawn: DrawnTiles) -> _Read:
        shape = (len(drawn), self._tile_px, self._tile_px, 3)
        return _Read(
            tiles=torch.empty(shape, dtype=torch.uint8),
            file=torch.zeros(len(drawn), dtype=torch.int64),
            partners=None if drawn.partner is None else torch.empty(shape, dtype=torch.uint8),
            beside=None if drawn.beside is None else torch.zeros(len(drawn), dtype=torch.bool),
        )

    def _fill(
        self, read: _Read, drawn: DrawnTiles, *, places: Int64[np.ndarray, " place"]
    ) -> Int64[np.ndarray, " left"]:
        """Reads the tiles of these places, file after file; returns places still to be filled."""
        left, beside = [], drawn.beside
        for place in places[np.argsort(drawn.slide[places], kind="stable")].tolist():
            number = int(drawn.slide[place])
            try:
                self._read_one(read, drawn, place=place)
            except SlideError as error:
                read.unreadable.setdefault(number, str(error))
                left.append(place)
            else:
                read.file[place] = number
                if read.beside is not None and beside is not None:
                    read.beside[place] = bool(beside[place])
        return np.array(sorted(left), np.int64)

    def _read_one(self, read: _Read, drawn: DrawnTiles, *, place: int) -> None:
        squares = [(read.tiles, drawn.corner)]
        if read.partners is not None and drawn.partner is not None:
            squares.append((read.partners, drawn.partner))
        for tiles, corners in squares:
            x, y = corners[place].tolist()
            self._files.read_into(
                tiles[place].numpy(), file=int(drawn.slide[place]), corner=(x, y),
                mpp=float(drawn.mpp[place]),
            )  # fmt: skip


def batches_of(
    files: TileFiles, plan: BatchPlan, *, tile_px: int, names: FileNames
) -> Iterator[TileBatch]:
    """The batches of a plan, in order; each unreadable file is named in the first it is met in.

    Raises:
        SettingsError: hardly a file can be read any more.
        MachineError: no file handles left.
    """
    steps = _Steps(files, plan, tile_px=tile_px)
    read_ahead = _in_processes if plan.workers else _in_a_thread
    named: dict[int, str] = {}
    for read in read_ahead(steps, plan):
        if read.machine is not None:
            raise MachineError(read.machine)
        fresh = {k: reason for k, reason in read.unreadable.items() if k not in named}
        named.update(fresh)
        if not read.full:
            raise _all_gone(named, names)
        yield TileBatch(
            read.tiles, file=read.file, partners=read.partners, beside=read.beside,
            unreadable=_named(fresh, names),
        )  # fmt: skip


def refuse_too_few(n_tiles: int, plan: BatchPlan, *, what: str) -> None:
    """Checks that a batch finds as many tiles as it asks for.

    Raises:
        SettingsError: it does not, or there is no tile for each process.
    """
    if n_tiles < plan.size:
        raise SettingsError(
            f"{what} {n_tiles} tiles, and a batch needs {plan.size}; give more slides or images, "
            "or a smaller --batch-size"
        )
    if plan.size < plan.world:
        raise SettingsError(f"a batch of {plan.size} tiles cannot be shared by {plan.world}")


def _all_gone(unreadable: Mapping[int, str], names: FileNames) -> SettingsError:
    number, reason = next(iter(unreadable.items()))
    return SettingsError(
        f"a batch cannot be filled: tiles of {len(unreadable)} of {len(names.names)} files cannot "
        f"be read any more; the first, {names.paths[number]}: {reason}"
    )


def _named(unreadable: Mapping[int, str], names: FileNames) -> list[UnreadableFile]:
    return [
        UnreadableFile(name=names.names[k], path=str(names.paths[k]), reason=reason)
        for k, reason in sorted(unreadable.items())
    ]


def _in_a_thread(steps: _Steps, plan: BatchPlan) -> Iterator[_Read]:
    waiting = iter(range(plan.first, plan.last))
    ahead: deque[Future[_Read]] = deque()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="tiles") as pool:
        try:
            while True:
                while len(ahead) < _AHEAD and (step := next(waiting, None)) is not None:
                    ahead.append(pool.submit(steps.__getitem__, step))
                if not ahead:
                    return
                yield ahead.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _in_processes(steps: _Steps, plan: BatchPlan) -> Iterator[_Read]:
    # started anew rather than forked: a fork inherits open slides and the locks of OpenMP's threads
    loader: DataLoader[_Read] = DataLoader(
        steps, batch_size=None, sampler=range(plan.first, plan.last), num_workers=plan.workers,
        prefetch_factor=_AHEAD, multiprocessing_context="spawn", worker_init_fn=_begin_worker,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # of no use here, but the global one is left alone
    )  # fmt: skip
    try:
        with _signals_held_back():
            batches = iter(loader)
        yield from batches
    except (RuntimeError, ConnectionError, EOFError) as error:
        # one that dies while it hands over a batch is met as a broken connection
        if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
            raise
        raise MachineError(
            f"a process that reads tiles died ({error}); with too little memory or shared memory "
            "(/dev/shm), choose fewer --workers or a smaller --batch-size"
        ) from error


def _begin_worker(_: int) -> None:
    cv2.setNumThreads(1)
    threading.Thread(target=_end_when_told, daemon=True).start()


def _end_when_told() -> None:
    """Ends this worker when its parent, and nobody else, sends SIGTERM: at the parent's exit."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


@contextmanager
def _signals_held_back() -> Iterator[None]:
    """Processes begun inside never see Ctrl-C nor SIGTERM, which go to all processes of a job.

    Those are for the training to answer: it saves its state, and then ends its workers.
    """
    # it starts with the first process, and would let the signals through again
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
