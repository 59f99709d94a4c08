"""The encoder actors of a run: started where there is room, replaced when they are lost."""

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from gigassl.errors import GigasslError, SettingsError
from gigassl.files import MachineError
from gigassl.pipeline.opening import RunFacts
from gigassl.pipeline.ray_cluster import Layout, lay_out, rooms
from gigassl.pipeline.ray_decoding import Decoding
from gigassl.pipeline.ray_encoding import ActorSettings, EncodedSlide, EncoderActor, ShippedEncoder
from gigassl.pipeline.ray_losses import why_lost
from gigassl.pipeline.ray_queue import SlideQueue
from gigassl.pipeline.ray_settings import RayEngine
from gigassl.slides.cohort import CohortSlide
from gigassl.tiles.engine import EncoderFacts

log = logging.getLogger("gigassl")

_SECONDS_BETWEEN_LOOKS = 5.0
_SECONDS_UNTIL_SAID = 20.0
_MOST_DEATHS_AT_START = 5


@dataclass(eq=False, kw_only=True)
class _Member:
    """An actor, what it and its decoders reserve, and how many slides it has in hand."""

    actor: Any
    group: Any
    decoders: int
    in_hand: int = 0
    asked: Any = None


class Crew:
    """Encoder actors with the slides that they have in hand."""

    def __init__(
        self, engine: RayEngine, *, shipped: ShippedEncoder, decoding: Decoding, variants: bool
    ) -> None:
        """Plans the crew; ``first`` starts it.

        Raises:
            SettingsError: the cluster has no room for an actor.
        """
        self._engine, self._decoding, self._variants = engine, decoding, variants
        self._layout = lay_out(engine, rooms())
        device = engine.device if self._layout.gpus else "cpu"
        self._shipped = replace(shipped, asked=replace(shipped.asked, device=device))
        self._encoder = ray.put(self._shipped)
        self._members: list[_Member] = []
        self._starting: dict[Any, _Member] = {}
        self._working: dict[Any, tuple[_Member, CohortSlide]] = {}
        self._deaths_at_start = 0
        self._looked = self._served = time.monotonic()
        self._said_to_wait = False

    def first(self) -> EncoderFacts:
        """Starts one actor: how it runs the encoder is how all of them will.

        Raises:
            GigasslError: the encoder cannot run there.
            MachineError: no room on the cluster, or actors die while they start.
        """
        facts = None
        while facts is None:
            if not self._starting:
                self._start(self._layout)
            for ref in _ready(self._starting, timeout_s=1.0):
                facts = self._welcome(ref)
            self._check_patience()
        if self._layout.gpus and facts.device == "cpu":
            log.warning("encoders hold GPUs, but PyTorch finds no CUDA device on their nodes")
        asked = replace(self._shipped.asked, precision=facts.settings.precision)
        self._encoder = ray.put(replace(self._shipped, asked=asked))
        self._looked = 0.0
        return facts

    def hand_out(self, queue: SlideQueue, facts: RunFacts) -> None:
        """Gives slides to actors that have room for more, and starts actors that are missing.

        Raises:
            MachineError: for too long there has been no actor.
        """
        self._recruit(n_slides=len(queue) + len(self._working))
        self._check_patience()
        for n_in_hand in range(max((m.decoders for m in self._members), default=0)):
            for member in self._members:
                if member.in_hand == n_in_hand < member.decoders:
                    source = queue.take(beside=n_in_hand)
                    if source is not None:
                        ref = member.actor.encode.remote(source, facts)
                        self._working[ref] = member, source
                        member.in_hand += 1

    @property
    def n_in_hand(self) -> int:
        """Slides that actors have in hand."""
        return len(self._working)

    def returned(self, *, timeout_s: float) -> Iterator[tuple[CohortSlide, EncodedSlide]]:
        """Slides that came back, with their bags or with the reason why there is none.

        Raises:
            GigasslError: the encoder does not run on a node.
            MachineError: actors die while they start.
        """
        for ref in _ready([*self._starting, *self._working], timeout_s=timeout_s):
            if ref in self._starting:
                self._welcome(ref)
            else:
                yield self._taken_back(ref)

    def tiles_done(self) -> int:
        """Tiles that actors have encoded since this was last asked; never waits for them."""
        total = 0
        for member in self._members:
            if member.asked is None:
                member.asked = member.actor.tiles_done.remote()
            elif _ready([member.asked], timeout_s=0):
                try:
                    total += ray.get(member.asked)
                except RayError:
                    continue  # it is lost, as the slides that it has in hand will tell
                member.asked = None
        return total

    def close(self) -> None:
        """Ends all actors, and with them their decoders."""
        for member in [*self._members, *self._starting.values()]:
            _end(member)
        self._members, self._starting, self._working = [], {}, {}

    def _recruit(self, *, n_slides: int) -> None:
        """Starts actors where the cluster has room for more, now and then."""
        now = time.monotonic()
        if now - self._looked < _SECONDS_BETWEEN_LOOKS:
            return
        self._looked = now
        try:
            self._layout = lay_out(self._engine, rooms())
        except SettingsError:
            return  # its nodes are gone; others may come
        wanted = min(self._layout.actors, n_slides)
        for _ in range(wanted - len(self._members) - len(self._starting)):
            self._start(self._layout)

    def _start(self, layout: Layout) -> None:
        group = placement_group(layout.bundles, strategy="PACK")
        strategy = PlacementGroupSchedulingStrategy(
            placement_group=group, placement_group_bundle_index=0
        )
        settings = ActorSettings(
            decoding=self._decoding,
            decoder_cpus=layout.decoder_cpus,
            variants=self._variants,
            threads=layout.threads,
        )
        kind: Any = ray.remote(EncoderActor)
        actor = (
            kind.options(
                num_cpus=layout.cpus, num_gpus=layout.gpus, scheduling_strategy=strategy,
                max_restarts=0, max_task_retries=0, max_concurrency=layout.decoders + 2,
                # waiting threads of the encoder must not spin beside the decoders
                runtime_env={"env_vars": {"OMP_WAIT_POLICY": "PASSIVE"}},
            )
            .remote(self._encoder, settings)
        )  # fmt: skip
        member = _Member(actor=actor, group=group, decoders=layout.decoders)
        self._starting[actor.load.remote()] = member

    def _welcome(self, ref: Any) -> EncoderFacts | None:
        """Takes an actor in that has started; None where it died."""
        member = self._starting.pop(ref)
        try:
            facts = ray.get(ref)
        except RayError as error:
            _end(member)
            self._deaths_at_start += 1
            why = why_lost(error, what="encoder")
            log.warning("an encoder could not start: %s", why)
            if self._deaths_at_start > _MOST_DEATHS_AT_START:
                raise MachineError(
                    f"encoders died {self._deaths_at_start} times while they started: {why}"
                ) from error
            return None
        if isinstance(facts, GigasslError):
            _end(member)
            raise facts
        self._deaths_at_start = 0
        self._members.append(member)
        assert isinstance(facts, EncoderFacts)
        return facts

    def _taken_back(self, ref: Any) -> tuple[CohortSlide, EncodedSlide]:
        member, source = self._working.pop(ref)
        member.in_hand -= 1
        try:
            done: EncodedSlide = ray.get(ref)
        except RayError as error:
            if _is_broken(error) and member in self._members:
                self._members.remove(member)
                _end(member)
                self._looked = 0.0
            done = EncodedSlide(lost=why_lost(error, what="encoder"))
        return source, done

    def _check_patience(self) -> None:
        now = time.monotonic()
        if self._members:
            self._served, self._said_to_wait = now, False
            return
        wanted = self._layout.bundles[0]
        if now - self._served > self._engine.patience_s:
            raise MachineError(
                f"no encoder could start on the cluster within {self._engine.patience_s:g} s; each "
                f"needs {_said(wanted)} on a node, and CPUs for its decoders; what was done is "
                "kept; see `ray status`"
            )
        if now - self._served > _SECONDS_UNTIL_SAID and not self._said_to_wait:
            log.warning("waiting for an encoder to start; it needs %s on a node", _said(wanted))
            self._said_to_wait = True


def _said(bundle: dict[str, float]) -> str:
    return ", ".join(f"{amount:g} {name}" for name, amount in bundle.items())


def _ready(refs: Any, *, timeout_s: float) -> list[Any]:
    if not refs:
        time.sleep(min(timeout_s, 0.2))
        return []
    waited_for = list(refs)
    ready, _ = ray.wait(waited_for, num_returns=1, timeout=timeout_s, fetch_local=False)
    return list(ready)


def _is_broken(error: RayError) -> bool:
    """Whether the actor cannot go on: it is dead, or its device may be in disorder."""
    return not isinstance(error, RayTaskError) or isinstance(error.cause, RuntimeError)


def _end(member: _Member) -> None:
    ray.kill(member.actor)
    remove_placement_group(member.group)
