"""The messages in flight: each has one taker, and a slot of the scoreboard while it is handled."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from durableq import Delivery, DurableQ
from durableq.client.handlers import Handler
from durableq.supervisor.scoreboard import SLOTS, Scoreboard
from durableq.worker.in_flight import InFlight, Work

NUMBER = 5


@pytest.fixture
def scoreboard() -> Scoreboard:
    return Scoreboard()


@pytest.fixture
def in_flight(scoreboard: Scoreboard) -> Iterator[InFlight]:
    with closing(InFlight(scoreboard, timeout_ms=7)) as in_flight:
        yield in_flight


def received(number: int = NUMBER) -> Work:
    dq = DurableQ("memory://")
    orders = dq.queue("orders", visibility_timeout=30)
    orders.send_many(list(range(number)))
    return Work(Handler("orders", print, batch=None), orders.receive(number), time.monotonic())


def begin(in_flight: InFlight, work: Work) -> Delivery:
    delivery = work.take()
    assert delivery is not None
    in_flight.begin(work, [delivery], time.monotonic_ns())
    return delivery


def begun(in_flight: InFlight) -> tuple[Work, Delivery]:
    """Return a receive of one message, whose handler has been called."""
    work = received(1)
    in_flight.add(work)
    return work, begin(in_flight, work)


def test_a_message_is_recorded_from_the_call_until_it_is_settled(
    in_flight: InFlight, scoreboard: Scoreboard
) -> None:
    work, delivery = begun(in_flight)
    (call,) = scoreboard.calls()
    assert call.matches(delivery.receipt)
    assert call.deadline_ns == call.began_ns + 7_000_000
    in_flight.mark_returned(work, delivery)
    (call,) = scoreboard.calls()
    assert call.has_returned
    in_flight.finish([(work, delivery)])
    assert [*scoreboard.calls()] == []
    assert in_flight.works() == []
    assert (in_flight.started, in_flight.handled) == (1, 1)


def test_a_batch_is_recorded_as_one_call(in_flight: InFlight, scoreboard: Scoreboard) -> None:
    work = received()
    in_flight.add(work)
    batch = work.take_all()
    in_flight.begin(work, batch, time.monotonic_ns())
    (call,) = scoreboard.calls()
    assert all(call.matches(delivery.receipt) for delivery in batch)
    in_flight.finish([(work, delivery) for delivery in batch], failed=2)
    assert [*scoreboard.calls()] == []
    assert (in_flight.started, in_flight.handled, in_flight.failed) == (NUMBER, NUMBER, 2)


def test_released_messages_are_gone_and_count_nothing(
    in_flight: InFlight, scoreboard: Scoreboard
) -> None:
    work = received()
    in_flight.add(work)
    first = begin(in_flight, work)
    assert len(in_flight.take_waiting(work)) == NUMBER - 1
    assert work.take() is None
    assert [one.message_id for one in scoreboard.calls()] == [first.id]
    in_flight.finish([(work, first)])
    assert (in_flight.works(), in_flight.started, in_flight.handled) == ([], 1, 1)


def test_a_call_that_does_not_count_leaves_its_message_waiting(
    in_flight: InFlight, scoreboard: Scoreboard
) -> None:
    work, delivery = begun(in_flight)
    in_flight.reset(work, [delivery])
    assert [*scoreboard.calls()] == []
    assert in_flight.take_waiting(work) == [delivery]


def test_each_message_has_one_taker() -> None:
    """The executor of a receive, and the lease keeper that releases what waits."""
    number = 1_000
    for _ in range(20):
        work, taken = received(number), []
        released: list[Delivery] = []
        thread = threading.Thread(target=lambda: released.extend(work.take_all()))  # noqa: B023
        thread.start()
        while (delivery := work.take()) is not None:
            taken.append(delivery)
        thread.join()
        assert len(taken) + len(released) == number
        assert set(taken).isdisjoint(released)


def test_settled_and_lost_messages_are_not_extended() -> None:
    work = received()
    settled, lost, *others = work.open
    settled.settled = lost.lost = True
    assert work.to_extend() == others


def test_calls_without_a_slot_are_in_flight_like_others(
    in_flight: InFlight, scoreboard: Scoreboard
) -> None:
    slots = [scoreboard.begin("another token", "5", 1) for _ in range(SLOTS)]
    work, delivery = begun(in_flight)
    in_flight.set_process_group(delivery, 1234)
    in_flight.mark_returned(work, delivery)
    assert not any(one.group or one.has_returned for one in scoreboard.calls())
    in_flight.finish([(work, delivery)])
    assert in_flight.works() == []
    assert len([*scoreboard.calls()]) == len(slots)


def test_the_oldest_call_is_reported(in_flight: InFlight) -> None:
    work = received()
    assert in_flight.stats(draining=False).state == "idle"
    in_flight.add(work)
    assert in_flight.stats(draining=False).oldest_began_ms == 0
    for ago_ms in (5_000, 60_000):
        delivery = work.take()
        assert delivery is not None
        in_flight.begin(work, [delivery], time.monotonic_ns() - ago_ms * 1_000_000)
    stats = in_flight.stats(draining=True)
    assert (stats.state, stats.in_flight) == ("draining", NUMBER)
    assert abs(stats.oldest_began_ms - (time.time_ns() // 1_000_000 - 60_000)) < 10_000
