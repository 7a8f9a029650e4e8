"""Cancel, reschedule and run_now of a queue: their arguments, and the errors for the refused."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from durableq import Conflict, DurableQ, InvalidInput, Queue, Refused, UnknownMessage
from durableq.model.message import Refusal
from durableq.testing import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def orders(clock: FakeClock) -> Iterator[Queue]:
    with DurableQ("memory://", clock=clock) as dq:
        yield dq.queue("orders")


def due(clock: FakeClock, seconds: float, zone: timezone = UTC) -> datetime:
    return datetime.fromtimestamp(clock.wall_ms() / 1000, zone) + timedelta(seconds=seconds)


def test_messages_are_cancelled_by_their_ids(orders: Queue) -> None:
    first, second, third = orders.send_many([1, 2, 3])
    orders.cancel(first)
    orders.cancel(*[second])
    assert [message.id for message in orders.receive(10)] == [third]
    assert orders.info().counters.cancelled == 2


def test_a_refusal_says_why_and_how_many_were_changed(orders: Queue) -> None:
    leased, *others = orders.send_many([1, 2, 3])
    _ = orders.receive()
    with pytest.raises(Refused) as refused:
        orders.cancel(leased, *others, "77")
    assert str(refused.value) == (
        f"Message {leased} is in flight: its receiver settles it, or its lease ends first. Message "
        "77 is not in this database: it has ended, or it never existed. 2 of 4 were changed."
    )
    assert refused.value.refusals == {leased: Refusal.IN_FLIGHT, "77": Refusal.UNKNOWN}
    assert isinstance(refused.value, Conflict)
    assert orders.receive() == []


def test_a_long_list_of_refusals_is_cut(orders: Queue) -> None:
    with pytest.raises(Refused, match=r"Message 4 is .*existed\. 3 others were refused too\.$"):
        orders.cancel(*map(str, range(8)))


@pytest.mark.parametrize("verb", ["cancel", "run_now"])
def test_one_message_that_is_not_there_is_unknown(verb: str, orders: Queue) -> None:
    with pytest.raises(UnknownMessage, match="There is no message 77"):
        getattr(orders, verb)("77")


def test_a_message_of_another_queue_is_refused(orders: Queue) -> None:
    other = orders._app.queue("mail").send("a")
    with pytest.raises(Refused, match=f"Message {other} is in another queue"):
        orders.cancel(other)


@pytest.mark.parametrize("seconds", [90, 0.25])
def test_a_message_is_delayed_by_seconds(seconds: float, orders: Queue, clock: FakeClock) -> None:
    message_id = orders.send("a")
    orders.reschedule(message_id, delay=seconds)
    clock.advance(seconds - 0.001)
    assert orders.receive() == []
    clock.advance(0.001)
    assert [message.id for message in orders.receive()] == [message_id]


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=5, minutes=30))])
def test_a_message_is_delayed_until_a_date_in_any_zone(
    zone: timezone, orders: Queue, clock: FakeClock
) -> None:
    message_id = orders.send("a")
    orders.reschedule(message_id, at=due(clock, 60, zone))
    clock.advance(59.999)
    assert orders.receive() == []
    clock.advance(0.001)
    assert [message.id for message in orders.receive()] == [message_id]


@pytest.mark.parametrize("seconds", [0, -86_400])
def test_a_date_that_has_passed_means_now(seconds: float, orders: Queue, clock: FakeClock) -> None:
    message_id = orders.send("a", delay=60)
    orders.reschedule(message_id, at=due(clock, seconds))
    assert [message.id for message in orders.receive()] == [message_id]


def test_a_message_that_waits_for_its_retry_runs_now(orders: Queue) -> None:
    message_id = orders.send("a")
    orders.receive()[0].fail("boom", retry_in=60)
    assert orders.receive() == []
    orders.run_now(message_id)
    assert [message.receive_count for message in orders.receive()] == [2]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({}, "either delay (seconds from now) or at (a datetime), got neither"),
        ({"delay": 1, "at": datetime(2027, 1, 1, tzinfo=UTC)}, "(a datetime), got both"),
        ({"delay": -1}, "delay is a number of seconds of at least 0, got -1"),
        ({"delay": float("nan")}, "delay is a number of seconds of at least 0, got nan"),
        ({"delay": "60"}, "delay is a number of seconds of at least 0, got '60'"),
        ({"delay": 367 * 86_400}, "delay is at most 31622400 seconds"),
        ({"at": 1_800_000_000}, "A time is a datetime with a time zone, got 1800000000"),
        ({"at": datetime(2027, 1, 1)}, "A time is a datetime with a time zone"),  # noqa: DTZ001
        ({"at": datetime(9999, 12, 31, tzinfo=UTC)}, "at most 366 days: give an earlier time"),
    ],
)
def test_a_time_that_cannot_be_meant_is_refused(
    arguments: dict[str, Any], why: str, orders: Queue
) -> None:
    message_id = orders.send("a")
    with pytest.raises(InvalidInput) as refused:
        orders.reschedule(message_id, **arguments)
    assert why in str(refused.value)
    assert [message.id for message in orders.receive()] == [message_id]


@pytest.mark.parametrize("given", [7, None, b"8", ["9"]])
def test_an_id_that_is_no_string_is_refused(given: Any, orders: Queue) -> None:
    with pytest.raises(InvalidInput, match="The id of a message is a string"):
        orders.cancel("1", given)
