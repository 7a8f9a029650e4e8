"""The way of a message through the states, from its history."""

import re
from collections.abc import Sequence
from typing import Any

import pytest

from durableq import DurableQ
from durableq.dashboard import diagram
from durableq.dashboard.path import Stop, times, way
from durableq.model.message import Event, HistoryEvent, Reason
from durableq.store.core import Capability
from tests.dashboard.client import Client
from tests.dashboard.test_actions import bury
from tests.dashboard.test_escaping import check


def event(kind: Event, reason: str = "", **detail: Any) -> HistoryEvent:
    return HistoryEvent("1", "orders", kind, 0, "ada", reason, detail=detail)


FAILED, BURIED = event(Event.FAILED), event(Event.BURIED)
LATER, NOW = event(Event.RESCHEDULED, delay_ms=5), event(Event.RESCHEDULED, delay_ms=0)
CONFLICT = event(Event.BURIED, Reason.IDEMPOTENCY_CONFLICT)


@pytest.mark.parametrize(
    ("history", "words"),
    [
        ([LATER, NOW, event(Event.CANCELLED)], "sent, delayed, ready, cancelled"),
        ([FAILED], "sent, ready, in flight, delayed, ended"),
        (
            [FAILED, FAILED, BURIED, event(Event.DISCARDED)],
            "sent, ready, in flight, delayed, ready, in flight, dead, discarded",
        ),
        ([event(Event.LEASE_EXPIRED), FAILED, BURIED, event(Event.HELD), event(Event.RELEASED),
          event(Event.RETRIED), FAILED, event(Event.EXPIRED)],
         "sent, ready, in flight, ready, in flight, dead, held, dead, ready, in flight, expired"),
        ([CONFLICT, event(Event.EXPIRED)], "sent, ready, dead, expired"),
        ([event(Event.REPLACED)], "sent, replaced"),
        ([FAILED, event(Event.CANCELLED)], "sent, ready, in flight, delayed, cancelled"),
        ([FAILED, BURIED, FAILED, event(Event.HELD), event(Event.REQUEUED)],
         "sent, ready, in flight, dead, held, ready, ended"),
    ],
)  # fmt: skip
def test_a_history_is_a_way(history: Sequence[HistoryEvent], words: str) -> None:
    stops = way(history, None)
    assert ", ".join(stop.value for stop in stops) == words
    drawn = diagram.draw(stops)
    assert [box.label for box in drawn.boxes if box.is_now] == [stops[-1].value]
    assert sum(line.passes for line in drawn.lines) == len(stops) - 1
    assert sum(box.visits for box in drawn.boxes) == len(stops)
    assert not re.search("nan|inf", str(drawn.lines))


def test_the_present_state_is_the_end(dq: DurableQ) -> None:
    def stops(message_id: str) -> str:
        found = dq.store.require(Capability.INSPECT).message(message_id)
        history = dq.store.require(Capability.DEAD_LETTERS).history(message_id)
        return ", ".join(stop.value for stop in way(history, found))

    queue = dq.queue("orders", max_receives=1, backoff_base=60, group_concurrency=1)
    assert stops(queue.send(1)) == "sent, ready"
    dq.store.receive("orders", 1)
    assert stops("1") == "sent, ready, in flight"
    assert stops(queue.send(2, delay=60)) == "sent, delayed"
    queue.send(3, group="g")
    assert stops(queue.send(4, group="g")) == "sent, blocked"
    dq.store.require(Capability.CONTROL).purge("orders")
    dq.queue("orders", max_receives=2)
    (one,) = bury(dq)
    assert stops(one) == "sent, ready, in flight, delayed"


def test_visits_are_counted_in_their_order() -> None:
    stops = [Stop.SENT, Stop.READY, Stop.IN_FLIGHT, Stop.READY, Stop.IN_FLIGHT]
    assert times(stops) == [(Stop.SENT, 1), (Stop.READY, 2), (Stop.IN_FLIGHT, 2)]


def test_the_page_of_a_message_draws_its_way(either: DurableQ) -> None:
    (one,) = bury(either)
    with Client.of(either) as client:
        client.act("/dead-letters/redrive", id=one)
        page = client.page(f"/messages/{one}")
    assert "sent, ready 2 times, in flight, dead. It is ready now." in page.text
    assert page.values("svg", "aria-labelledby") == ["path-words"]
    groups = page.values("g", "class")
    assert groups.count("box now visited") == 1
    assert sum("visited" in name for name in groups) == 4
    assert groups.count("passed") == 4
    check(page)
