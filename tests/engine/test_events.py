"""The history of all messages: none of its events is missed, however they are written."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from durableq import DurableQ, Queue
from durableq.engines.postgres import functions
from durableq.engines.sql import events
from durableq.model.info import HistoryFilter, HistoryPage
from durableq.model.message import Event
from tests.engine import plain
from tests.support import scaled, wait_for


def told(page: HistoryPage) -> list[tuple[str, str]]:
    return [(event.message_id, event.event.value) for event in page.events]


@plain.ON_BOTH
def test_a_reader_misses_no_event_of_an_open_transaction(orders: Queue, dq: DurableQ) -> None:
    """Another transaction, which begins later, would commit its event earlier if it could."""
    store: Any = dq.store
    mail = dq.queue("mail")  # with counters of its own, whose row no other writer has locked
    newest = orders.send(1, replace_key="k")
    other = mail.send(2)
    mark = store.mark_before(0)
    thread = threading.Thread(target=lambda: mail.cancel(other))
    with dq.engine.connect() as connection:
        transaction = connection.begin()
        orders.send(3, replace_key="k", connection=connection)  # it writes an event
        thread.start()
        seen = [store.events(mark)]
        thread.join(0.2)
        seen.append(store.events(seen[-1].mark))
        transaction.commit()
    thread.join(scaled(10))
    seen.append(store.events(seen[-1].mark))
    events_seen = [event for page in seen for event in told(page)]
    assert events_seen == [(newest, "replaced"), (other, "cancelled")]
    assert told(seen[0]) == told(seen[1]) == []


def test_only_a_writer_that_is_alone_writes_events_to_postgresql() -> None:
    """Hot verbs run beside each other: their events could be read in another order."""
    texts = "".join(map(str, functions.FUNCTIONS.values()))
    assert "INSERT INTO durableq_message" in texts
    assert "INTO durableq_history" not in texts


@plain.ON_BOTH
def test_a_search_for_a_rare_kind_looks_at_a_bounded_number_of_events(
    orders: Queue, dq: DurableQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    store: Any = dq.store
    dq.queue("orders", max_receives=2).info()
    for number in range(5):
        orders.send(number)
    for _ in range(2):
        for delivery in orders.receive(5):
            delivery.fail("no")
    assert [event for _, event in told(store.events())] == ["failed"] * 5 + ["failed", "buried"] * 5
    monkeypatch.setattr(events, "SEARCHED", 4)
    monkeypatch.setattr(events, "LOOKED_BACK", 6)
    wanted, pages = HistoryFilter(kinds=[Event.BURIED]), list[HistoryPage]()
    mark: str | None = None
    while mark is None or pages[-1].mark != mark:
        mark = pages[-1].mark if pages else ""
        pages.append(store.events(mark, 4, wanted))
    assert [len(page.events) for page in pages] == [0, 1, 2, 2, 0]
    last = store.mark_before(6, wanted)
    assert len(store.events(last, 4, wanted).events) == 2


def test_events_that_reuse_an_id_come_after_their_mark(
    orders: Queue, dq: DurableQ, db: Path
) -> None:
    store: Any = dq.store
    mail = dq.queue("mail")
    orders.cancel(orders.send(1))
    # A look at a mark repeats the events of its last millisecond.
    began_ms = time.time_ns() // 10**6
    wait_for(lambda: time.time_ns() // 10**6 > began_ms)
    for number in range(3):
        mail.cancel(mail.send(number))
    mark = store.mark_before(0)
    store.delete_queue("mail")
    ids = [orders.send(number) for number in range(2)]
    for message_id in ids:
        orders.cancel(message_id)
    highest = plain.one(db, "SELECT max(id) FROM durableq_history")
    assert highest < int(mark.partition(".")[0])
    assert told(store.events(mark)) == [(message_id, "cancelled") for message_id in ids]


@plain.ON_BOTH
def test_a_write_ends_the_wait_for_events(orders: Queue, dq: DurableQ) -> None:
    store: Any = dq.store
    message_id = orders.send(1)
    mark = store.mark_before(0)
    with closing(store.watch()) as watch:
        thread = threading.Thread(target=lambda: orders.cancel(message_id))
        thread.start()
        found = wait_for(lambda: watch.wait(0.5) and told(store.events(mark)))
        thread.join()
    assert found == [(message_id, "cancelled")]
