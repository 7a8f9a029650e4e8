"""Lengths of time as numbers of seconds and as timedelta; times at which a message is ready."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from durableq import DurableQ, Requeue, RetryLater, Unavailable
from durableq.cli.jsonl import BadLine, as_envelope
from durableq.client.failures import failure_of
from durableq.model.drafts import draft
from durableq.model.errors import InvalidInput
from durableq.model.settings import QueueOptions, changes_from
from durableq.model.units import to_ms

MINUTE = timedelta(minutes=1)


def test_a_timedelta_is_its_seconds() -> None:
    assert to_ms(timedelta(minutes=1, milliseconds=5), "A delay") == 60_005
    message = draft(1, delay=MINUTE, expires_in=2 * MINUTE, replace_key="k")
    assert (message.delay_ms, message.flow and message.flow.expires_in_ms) == (60_000, 120_000)
    assert draft(1, replace_key="k", debounce=MINUTE, max_wait=MINUTE) == draft(
        1, replace_key="k", debounce=60, max_wait=60
    )
    assert Requeue(delay=MINUTE).delay_ms == 60_000
    assert RetryLater(MINUTE).seconds == Unavailable(retry_after=MINUTE).retry_after == 60
    assert failure_of(ValueError(), retry_in=MINUTE).retry_in_ms == 60_000


def test_settings_of_queues_are_timedelta_too() -> None:
    names = [name for name, kind in QueueOptions.__annotations__.items() if "Seconds" in str(kind)]
    assert len(names) >= 14
    given: Any = dict.fromkeys(names, MINUTE)
    assert set(changes_from(**given).values()) == {60_000}


@pytest.mark.parametrize(
    "call",
    [
        lambda: draft(1, delay=-MINUTE),
        lambda: draft(1, delay=timedelta(days=100_000)),
        lambda: changes_from(expires_in=timedelta(0)),
        lambda: RetryLater(-MINUTE),
        lambda: DurableQ("memory://").once("k", lambda: 1, ttl=timedelta(0)),
    ],
    ids=["negative", "too long", "none", "wait", "ttl"],
)
def test_a_timedelta_out_of_bounds_is_refused(call: Callable[[], object]) -> None:
    with pytest.raises(InvalidInput, match=r"seconds|switches it off"):
        call()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"at": datetime(2027, 1, 31, 9)}, "a datetime with a time zone"),  # noqa: DTZ001
        ({"at": "2027-01-31"}, "a datetime with a time zone"),
        ({"at": datetime.now(UTC), "delay": 1}, "delay and at both say when a message is ready"),
        (
            {"at": datetime.now(UTC), "replace_key": "k", "debounce": 1},
            "debounce and at both say when a message is ready",
        ),
    ],
)
def test_a_time_that_says_nothing_or_too_much_is_refused(
    options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        draft(1, **options)


def test_an_envelope_has_a_time_as_text() -> None:
    _, options = as_envelope(b'{"body": 1, "at": "2027-01-31T09:00:00+01:00"}')
    assert options == {"at": datetime(2027, 1, 31, 8, tzinfo=UTC)}


@pytest.mark.parametrize("at", ['"2027-01-31T09:00"', '"soon"', "7", "{}"])
def test_an_envelope_with_another_time_is_refused(at: str) -> None:
    with pytest.raises(BadLine, match="at is a time with a time zone"):
        as_envelope(f'{{"body": 1, "at": {at}}}'.encode())


def test_every_kind_of_send_takes_a_time() -> None:
    with DurableQ("memory://") as dq:
        queue = dq.queue("orders")
        tomorrow = datetime.now(UTC) + timedelta(days=1)
        queue.send(1, at=tomorrow)
        queue.send_many([2, 3], at=tomorrow)
        with queue.producer() as producer:
            producer.send(4, at=tomorrow)
        queue.send(0, at=datetime.now(UTC) - timedelta(days=1))
        assert queue.info().counts.delayed == 4
        assert [message.body for message in queue.receive(10)] == [0]
