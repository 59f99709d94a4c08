"""What an encoder actor does: holds the tile encoder, and encodes what its decoders send."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

import numpy as np
import ray
import torch
from jaxtyping import Float16, UInt8
from ray.exceptions import RayError
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy
from torch import nn

from gigassl.bags.bag import Bag
from gigassl.errors import GigasslError, SlideError, Stage
from gigassl.files import MachineError
from gigassl.pipeline.opening import RunFacts
from gigassl.pipeline.ray_decoding import Decoding, OpenedSlide, Parcel, decode_slide
from gigassl.pipeline.ray_losses import why_lost
from gigassl.pipeline.stream import as_stored
from gigassl.slides.cohort import CohortSlide
from gigassl.tiles.engine import EncoderFacts, EngineSettings, TileEncoder
from gigassl.tiles.records import EncoderRecord
from gigassl.tiles.turns import N_VARIANTS

# parcels of a decoder that wait to be used; it goes on reading when one of them is taken
_PARCELS_WAITING = 2


@dataclass(frozen=True, kw_only=True)
class ShippedEncoder:
    """A tile encoder on its way to an actor, so that nodes need no weights of their own."""

    record: EncoderRecord
    network: nn.Module
    asked: EngineSettings


@dataclass(frozen=True, kw_only=True)
class ActorSettings:
    """How an actor works.

    Attributes:
        decoder_cpus: CPUs that a decoder holds.
        variants: encode the eight turned and mirrored variants of each slide.
        threads: of an encoder on the CPU; None leaves it to PyTorch.
    """

    decoding: Decoding
    decoder_cpus: float
    variants: bool
    threads: int | None


@dataclass(frozen=True, kw_only=True)
class EncodedSlide:
    """What became of a slide: a bag, its failure, an error of the machine, or why it was lost.

    Attributes:
        stage: at which it was lost.
        n_tiles: encoded since the actor was last asked, of all its slides.
    """

    bag: Bag | None = None
    failure: SlideError | None = None
    machine: MachineError | None = None
    lost: str = ""
    stage: Stage = "encode"
    n_tiles: int = 0


class EncoderActor:
    """A share of a device. Several slides come at a time, each from a decoder of its own.

    Their batches take turns on the device, so it waits only when no decoder keeps up; a decoder
    waits while its parcels are not used, which bounds memory.
    """

    def __init__(self, shipped: ShippedEncoder, settings: ActorSettings) -> None:
        self._shipped, self._settings = shipped, settings
        self._encoder: TileEncoder | None = None
        self._n_tiles, self._lock = 0, Lock()
        # one thread: PyTorch would start helper threads for each thread that calls it
        self._device = ThreadPoolExecutor(1, thread_name_prefix="encode")
        group = ray.util.get_current_placement_group()
        assert group is not None
        self._decode: Any = ray.remote(decode_slide).options(
            name="gigassl-decoder",
            num_cpus=settings.decoder_cpus,
            num_returns="streaming",
            max_retries=0,
            _generator_backpressure_num_objects=_PARCELS_WAITING,
            scheduling_strategy=PlacementGroupSchedulingStrategy(placement_group=group),
        )

    def load(self) -> EncoderFacts | GigasslError:
        """Makes the encoder ready; how it runs on this machine, or why it does not."""
        if self._settings.threads is not None:
            torch.set_num_threads(self._settings.threads)
        shipped = self._shipped
        try:
            found = self._device.submit(
                TileEncoder, shipped.network, record=shipped.record, settings=shipped.asked
            ).result()
        except GigasslError as error:
            return error
        self._encoder = found
        return EncoderFacts(record=found.record, settings=found.settings, digest=found.digest)

    def encode(self, source: CohortSlide, facts: RunFacts) -> EncodedSlide:
        """A slide's bag, or why there is none."""
        stream = self._decode.remote(source, self._settings.decoding, facts)
        try:
            done = EncodedSlide(bag=self._bag(_parcels(stream)))
        except SlideError as error:
            done = EncodedSlide(failure=error)
        except MachineError as error:
            done = EncodedSlide(machine=error)
        except RayError as error:
            done = EncodedSlide(lost=why_lost(error, what="decoder"), stage="read")
        if done.bag is None:
            ray.cancel(stream)
        return replace(done, n_tiles=self.tiles_done())

    def tiles_done(self) -> int:
        """Tiles encoded since this was last asked."""
        with self._lock:
            n_tiles, self._n_tiles = self._n_tiles, 0
        return n_tiles

    def _bag(self, parcels: Iterator[Parcel]) -> Bag:
        opened = next(parcels)
        assert isinstance(opened, OpenedSlide)
        assert self._encoder is not None
        n_variants = N_VARIANTS if self._settings.variants else 1
        shape = (n_variants, len(opened.coords), self._encoder.dim)
        features = np.empty(shape, dtype=np.float16)
        filled = 0
        for tiles in parcels:
            assert isinstance(tiles, np.ndarray)
            for start in range(0, len(tiles), self._encoder.batch_size):
                batch = tiles[start : start + self._encoder.batch_size]
                found = self._device.submit(self._encoded, batch, n_variants).result()
                features[:, filled : filled + len(batch)] = found
                filled += len(batch)
        assert filled == len(opened.coords)
        return Bag(
            features=features[0], coords=opened.coords, info=opened.info,
            variants=features[1:] if n_variants > 1 else None,
        )  # fmt: skip

    def _encoded(
        self, batch: UInt8[np.ndarray, "tile row col 3"], n_variants: int
    ) -> Float16[np.ndarray, "variant tile dim"]:
        assert self._encoder is not None
        found = [
            as_stored(self._encoder.encode(batch, variant=variant))
            for variant in range(n_variants)
        ]  # fmt: skip
        with self._lock:
            self._n_tiles += len(batch)
        return np.stack(found)


def _parcels(stream: Any) -> Iterator[Parcel]:
    """What a decoder sends, as it comes.

    Raises:
        SlideError: the slide cannot be used.
        MachineError: the machine is at fault.
        RayError: the decoder was lost.
    """
    for ref in stream:
        parcel = ray.get(ref)
        if isinstance(parcel, (SlideError, MachineError)):
            raise parcel
        yield parcel
