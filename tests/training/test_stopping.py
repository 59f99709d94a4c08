"""Signals that ask to stop: noted, and answered when the step in hand is done."""

import os
import signal
import threading

import pytest

from gigassl.training.stopping import StopSignals


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


def test_the_first_signal_is_noted_and_nothing_is_interrupted() -> None:
    with StopSignals() as signals:
        assert signals.asked is None
        send(signal.SIGTERM)
        send(signal.SIGTERM)
        assert signals.asked == "SIGTERM"


def test_a_second_interrupt_interrupts_at_once() -> None:
    before = signal.getsignal(signal.SIGINT)
    with StopSignals() as signals:
        send(signal.SIGINT)
        assert signals.asked == "SIGINT"
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_outside_of_it_signals_are_as_they_were() -> None:
    with StopSignals():
        pass
    with pytest.raises(KeyboardInterrupt):
        send(signal.SIGINT)


def test_another_thread_cannot_be_asked() -> None:
    before, seen = signal.getsignal(signal.SIGTERM), []

    def work() -> None:
        with StopSignals() as signals:
            seen.append((signal.getsignal(signal.SIGTERM), signals.asked))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(before, None)]
