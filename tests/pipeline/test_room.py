"""Room: never more in use than there is, given out in order."""

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gigassl.pipeline.room import Room, StoppedError


@settings(max_examples=40)
@given(
    sizes=st.lists(st.integers(0, 10), min_size=1, max_size=12),
    limit=st.integers(10, 25),
)
def test_all_are_served_in_order_and_within_the_bound(sizes: list[int], limit: int) -> None:
    room, never = Room(limit), threading.Event()
    tickets = [room.ticket() for _ in sizes]
    served: list[int] = []
    most = 0

    def take(number: int) -> None:
        nonlocal most
        room.take(tickets[number], sizes[number], stop=never)
        served.append(number)
        most = max(most, room.used)
        threading.Timer(0.0005, room.give_back, [sizes[number]]).start()

    # those that come last ask first
    threads = [threading.Thread(target=take, args=(k,)) for k in reversed(range(len(sizes)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    assert sorted(served) == list(range(len(sizes)))
    assert most <= limit


def test_a_later_ticket_does_not_overtake_one_that_waits() -> None:
    room, stop = Room(10), threading.Event()
    first, second, third = room.ticket(), room.ticket(), room.ticket()
    room.take(first, 8, stop=stop)
    served: list[str] = []

    def take(ticket: int, n_bytes: int, name: str) -> None:
        room.take(ticket, n_bytes, stop=stop)
        served.append(name)

    small = threading.Thread(target=take, args=(third, 1, "small"))
    large = threading.Thread(target=take, args=(second, 9, "large"))
    small.start()
    large.start()
    small.join(timeout=0.05)
    assert served == []
    room.give_back(8)
    large.join(timeout=10)
    small.join(timeout=10)
    assert served == ["large", "small"]


def test_a_ticket_that_is_given_up_holds_nobody_back() -> None:
    room, stop = Room(1), threading.Event()
    gone, mine = room.ticket(), room.ticket()
    room.leave(gone)
    room.take(mine, 1, stop=stop)
    assert room.used == 1


def test_waiting_ends_with_the_run() -> None:
    room, stop = Room(1), threading.Event()
    room.take(room.ticket(), 1, stop=stop)
    caught: list[StoppedError] = []

    def take() -> None:
        with pytest.raises(StoppedError) as error:
            room.take(room.ticket(), 1, stop=stop)
        caught.append(error.value)

    waiting = threading.Thread(target=take)
    waiting.start()
    room.stop_waiting(stop)
    waiting.join(timeout=10)
    assert len(caught) == 1
