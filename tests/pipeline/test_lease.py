"""Lease: one run at a time writes an output in a store; a dead one's is taken over."""

import threading
import uuid
from pathlib import Path

import fsspec
import pytest

from gigassl.pipeline.lease import Lease, LeaseSettings
from gigassl.pipeline.output import BusyError
from gigassl.pipeline.outputs import claimed_output
from gigassl.pipeline.run_folder import RunFolder
from gigassl.stores import Stores, StoreSettings

QUICK = LeaseSettings(beat_s=0.02, patience_s=0.3)
NEVER = LeaseSettings(beat_s=1000, patience_s=0.05)


def new_url() -> str:
    return f"memory://{uuid.uuid4().hex}/v.parquet.lease"


def exists(url: str) -> bool:
    return bool(fsspec.filesystem("memory").exists(url))


def test_a_living_run_keeps_others_out() -> None:
    url = new_url()
    first = Lease(Stores(), url, settings=QUICK)
    with pytest.raises(BusyError, match=r"another run is writing here \(see memory://.*\); wait"):
        Lease(Stores(), url, settings=QUICK)
    first.check()
    first.release()
    assert not exists(url)
    Lease(Stores(), url, settings=QUICK).release()


def test_a_silent_run_is_taken_over_and_finds_out() -> None:
    url = new_url()
    silent = Lease(Stores(), url, settings=NEVER)
    second = Lease(Stores(), url, settings=LeaseSettings(beat_s=0.02, patience_s=0.05))
    with pytest.raises(BusyError, match="another run has taken over"):
        silent.check()
    second.check()
    silent.release()
    assert exists(url), "it does not remove the lease of the other"
    second.release()
    assert not exists(url)


def test_a_run_that_is_known_to_be_dead_is_not_waited_for() -> None:
    url = new_url()
    dead = Lease(Stores(), url, settings=NEVER)
    patient = LeaseSettings(beat_s=1000, patience_s=1000)
    Lease(Stores(), url, of_the_dead=[dead.token], settings=patient).release()


def test_a_renewal_never_overwrites_who_took_over() -> None:
    url = new_url()
    beats = LeaseSettings(beat_s=0.02, patience_s=0.05)
    slow = Lease(Stores(), url, settings=LeaseSettings(beat_s=0.2, patience_s=0.05))
    quick = Lease(Stores(), url, of_the_dead=[slow.token], settings=beats)
    threading.Event().wait(0.5)
    quick.check()
    quick.release()
    slow.release()


def test_the_next_run_on_a_machine_knows_the_killed_one(tmp_path: Path) -> None:
    killed = RunFolder(tmp_path)
    killed.note("token of the dead")
    killed._lock.release()  # as the system does when a process dies
    assert RunFolder(tmp_path).notes_of_the_dead == ["token of the dead"]
    assert not killed.path.exists()


def test_an_output_in_a_store_is_leased_while_it_is_written(tmp_path: Path) -> None:
    url = new_url().removesuffix(".lease")
    with claimed_output(url, StoreSettings(cache_dir=tmp_path)) as output:
        assert exists(f"{url}.lease")
        output.path.write_bytes(b"rows")
        output.place.keep(output.path)
        assert output.place.shown(output.path) == url
    memory = fsspec.filesystem("memory")
    assert memory.cat(url) == b"rows"
    assert not exists(f"{url}.lease")
    assert list(tmp_path.iterdir()) == []
