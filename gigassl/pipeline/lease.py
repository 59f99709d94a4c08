"""A lease on an output in a store: a small file there that a living run keeps renewing."""

import json
import logging
import secrets
import threading
from collections.abc import Collection
from dataclasses import dataclass

from gigassl.pipeline.output import BusyError
from gigassl.store_errors import StoreError
from gigassl.stores import Stores
from gigassl.urls import shown

log = logging.getLogger("gigassl")


@dataclass(frozen=True, kw_only=True)
class LeaseSettings:
    """How a run shows that it lives.

    No clocks are compared: a run is taken for dead when its lease has not changed while another one
    watched for ``patience_s``.

    Attributes:
        beat_s: seconds between renewals.
        patience_s: how long a lease is watched before it is taken over.
    """

    beat_s: float = 10.0
    patience_s: float = 45.0


class Lease:
    """Claims an output in a store, until ``release``.

    Stores know no locks: two runs that begin within the same second may both go on for a moment.
    Each asks for its lease before every commit, so that all but one of them stop; until then they
    commit the same rows under the same names.

    Args:
        url: of the lease, beside the output.
        of_the_dead: tokens of runs on this machine that are known to be dead.

    Raises:
        BusyError: another run renews its lease.
        StoreError: the store is out of reach, or takes nothing.
    """

    def __init__(
        self, stores: Stores, url: str, *, of_the_dead: Collection[str] = (),
        settings: LeaseSettings | None = None,
    ) -> None:  # fmt: skip
        self.token = secrets.token_hex(8)
        self._stores, self._url = stores, url
        self._settings = settings or LeaseSettings()
        self._ended = threading.Event()
        self._wait_for_others(of_the_dead)
        self._write(0)
        self._beating = threading.Thread(target=self._beat, daemon=True, name="lease")
        self._beating.start()

    def check(self) -> None:
        """Asks whether the lease is still this run's.

        Raises:
            BusyError: another run has taken it over.
            StoreError: the store is out of reach.
        """
        if self._holder()[0] != self.token:
            raise BusyError(
                f"another run has taken over (see {shown(self._url)}), since this one was not "
                "heard of for a while; what it committed is kept"
            )

    def release(self) -> None:
        """Ends the lease."""
        self._ended.set()
        self._beating.join()
        if self._holder()[0] == self.token:
            self._stores.remove([self._url])

    def _wait_for_others(self, of_the_dead: Collection[str]) -> None:
        first = self._holder()
        if not first[0] or first[0] in of_the_dead:
            return
        log.info("a run was writing here; watching for %g s whether it lives",
                 self._settings.patience_s)  # fmt: skip
        waited = 0.0
        while waited < self._settings.patience_s:
            self._ended.wait(self._settings.beat_s / 2)
            waited += self._settings.beat_s / 2
            now = self._holder()
            if not now[0]:
                return
            if now != first:
                raise BusyError(
                    f"another run is writing here (see {shown(self._url)}); wait for it, or choose "
                    "another -o (for several machines use --shard i/n and `gigassl merge`)"
                )
        log.info("it does not; going on from what it committed")

    def _beat(self) -> None:
        number = 0
        while not self._ended.wait(self._settings.beat_s):
            number += 1
            try:
                if self._holder()[0] != self.token:
                    return  # the next commit will say so
                self._write(number)
            except StoreError as error:
                log.debug("the lease could not be renewed: %s", error)

    def _holder(self) -> tuple[str, int]:
        """Token and beat in the store; an empty token where there is no lease."""
        try:
            said = json.loads(self._stores.read(self._url))
            return str(said["token"]), int(said["beat"])
        except StoreError as error:
            if error.absent:
                return "", 0
            raise
        except (ValueError, KeyError, TypeError):
            return "unreadable", 0

    def _write(self, beat: int) -> None:
        said = {"token": self.token, "beat": beat}
        self._stores.write(json.dumps(said).encode(), self._url)
