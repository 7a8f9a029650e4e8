"""The decorator `every`: a schedule with a handler, and one that only sends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from durableq import Delivery, DurableQ, InvalidInput
from durableq.model.slots import ScheduleInfo
from durableq.store.core import Capability
from durableq.testing import FakeClock
from durableq.worker.options import WorkerOptions
from durableq.worker.worker import Worker


@dataclass
class Report:
    of: str


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def dq(clock: FakeClock) -> Iterator[DurableQ]:
    with DurableQ("memory://", clock=clock) as dq:
        yield dq


def fire(dq: DurableQ, name: str) -> int:
    return len(dq.store.require(Capability.SCHEDULES).fire_schedule(name).slots)


def listed(dq: DurableQ) -> list[ScheduleInfo]:
    return dq.store.require(Capability.SCHEDULES).schedules()


def drain(dq: DurableQ) -> None:
    Worker(dq, WorkerOptions("", dq.url, "worker", drain=True)).run()


def test_a_decorated_function_handles_the_messages_of_a_queue_of_its_own(
    dq: DurableQ, clock: FakeClock
) -> None:
    seen = []

    @dq.every("@hourly", "report", body={"of": "sales"})
    def report(message: Delivery) -> None:
        seen.append((message.body, message.key, message.attributes))

    assert [info.schedule.queue for info in listed(dq)] == ["report"]
    clock.advance(3600)
    assert fire(dq, "report") == 1
    drain(dq)
    slot = "2023-11-14T23:00:00Z"
    attributes = {"schedule": "report", "slot": slot}
    assert seen == [({"of": "sales"}, f"report@{slot}", attributes)]


def test_without_a_function_the_handler_of_the_queue_is_meant(
    dq: DurableQ, clock: FakeClock
) -> None:
    seen = []

    @dq.handler("orders")
    def handle(message: Delivery) -> None:
        seen.append(message.body)

    dq.every(timedelta(minutes=5), "tidy", queue="orders", body="tidy")
    assert listed(dq)  # from then on it counts
    clock.advance(300)
    assert fire(dq, "tidy") == 1
    drain(dq)
    assert seen == ["tidy"]


def test_several_schedules_of_one_queue_have_handlers_by_type(
    dq: DurableQ, clock: FakeClock
) -> None:
    seen = []

    @dq.every("0 * * * *", "report", queue="nightly", type="report")
    def report(_message: Delivery) -> None:
        seen.append("report")

    @dq.every("0 * * * *", "tidy", queue="nightly", type="tidy")
    def tidy(_message: Delivery) -> None:
        seen.append("tidy")

    assert listed(dq)  # from then on it counts
    clock.advance(3600)
    assert fire(dq, "report") + fire(dq, "tidy") == 2
    drain(dq)
    assert sorted(seen) == ["report", "tidy"]


def test_a_handler_of_a_schedule_may_have_a_typed_body(dq: DurableQ, clock: FakeClock) -> None:
    seen = []

    @dq.every("0 * * * *", "report", body={"of": "sales"})
    def report(wanted: Report) -> None:
        seen.append(wanted)

    assert listed(dq)  # from then on it counts
    clock.advance(3600)
    fire(dq, "report")
    drain(dq)
    assert seen == [Report("sales")]


def test_a_schedule_that_is_made_after_the_first_use_is_stored_at_once(dq: DurableQ) -> None:
    assert listed(dq) == []
    dq.every("@daily", "report")
    assert [info.schedule.name for info in listed(dq)] == ["report"]


@pytest.mark.parametrize(
    ("arguments", "options", "says"),
    [
        ((print,), {}, "Say when, and name the schedule"),
        (("@daily",), {}, "The name of a schedule"),
        (("@daily", "a b"), {}, "The name of a schedule"),
        (("0 0 30 2 *", "a"), {}, "no cron expression"),
        (("@daily", "a"), {"tz": "Mars/Base"}, "no time zone"),
        (("@daily", "a"), {"catch_up": "sometimes"}, "catch_up is"),
        (("@daily", "a"), {"type": ""}, "type is the text"),
        (("@daily", "a"), {"type": 5}, "type is the text"),
        (("@daily", "a"), {"attributes": {"type": "x"}, "type": "y"}, "attribute 'type'"),
        (("@daily", "a"), {"attributes": 5}, "ttributes"),
        (("@daily", "a"), {"queue": "or/ders"}, "queue's name"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused_where_it_is_made(
    dq: DurableQ, arguments: tuple[Any, ...], options: dict[str, Any], says: str
) -> None:
    with pytest.raises(InvalidInput, match=says):
        dq.every(*arguments, **options)
    assert dq.schedules == {}


def test_a_name_is_given_once(dq: DurableQ) -> None:
    dq.every("@daily", "report")
    with pytest.raises(InvalidInput, match="already"):
        dq.every("@hourly", "report", queue="other")
