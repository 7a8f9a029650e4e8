"""The place where a receive begins to look: no message behind it waits for long."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing

import pytest

from durableq.engines import open_store
from durableq.engines.postgres import looks
from durableq.engines.postgres.looks import FROM_THE_START, Look, Looks
from durableq.engines.postgres.store import PostgresStore
from durableq.model.message import Completion, draft
from durableq.testing.contract.case import ORDERS
from durableq.testing.fakes import FakeClock
from tests.engine.test_postgres_hot import plain

#: A look from the start comes at the latest after this time, where looks take no time themselves.
RULE_SECONDS = 0.25
PLACE = Look(0, 7, 1_000, 2_000)
AHEAD = Look(0, 9, 1_500, 2_500)


class Time:
    """The time that looks are remembered by."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    monkeypatch.setattr(looks, "time", time)
    return time


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store(
    postgres_tables_url: str, clock: FakeClock, time: Time, monkeypatch: pytest.MonkeyPatch
) -> Iterator[PostgresStore]:
    """A store where each look from the start counts as slow."""
    monkeypatch.setattr(looks, "SLOW_PAGES", -1)
    with closing(open_store(postgres_tables_url, clock=clock)) as store:
        assert isinstance(store, PostgresStore)
        store.declare_queue(ORDERS, {"backoff_base_ms": 0})
        yield store


def bodies(store: PostgresStore, limit: int = 1) -> list[object]:
    return [json.loads(message.body) for message in store.receive(ORDERS, limit).messages]


def send(store: PostgresStore, body: str, priority: int = 0, delay: float | None = None) -> None:
    store.send(ORDERS, [draft(body, priority=priority, delay=delay)])


def test_a_slow_look_is_remembered_until_the_next_one_from_the_start(time: Time) -> None:
    known = Looks()
    known.note(ORDERS, FROM_THE_START, PLACE, looks.SLOW_PAGES, 9.0)
    assert known.next(ORDERS) == FROM_THE_START
    for seconds, pause in ((0.0, RULE_SECONDS), (0.5, 10.0)):
        known.note(ORDERS, FROM_THE_START, PLACE, looks.SLOW_PAGES + 1, seconds)
        assert known.next(ORDERS) == PLACE
        assert known.next("mail") == FROM_THE_START
        time.seconds += pause * 0.9
        known.note(ORDERS, PLACE, AHEAD, 0, 0.0)  # it puts nothing off
        assert known.next(ORDERS) == AHEAD
        time.seconds += pause * 0.2
        assert known.next(ORDERS) == FROM_THE_START
    known.note(ORDERS, FROM_THE_START, PLACE, looks.SLOW_PAGES + 1, 0.0)
    known.forget(ORDERS)
    assert known.next(ORDERS) == FROM_THE_START


def test_a_message_behind_the_place_comes_at_the_next_look_from_the_start(
    store: PostgresStore, time: Time
) -> None:
    for body in "abcde":
        send(store, body)
    assert bodies(store, 2) == ["a", "b"]
    send(store, "urgent", priority=9)
    time.seconds += RULE_SECONDS * 0.9
    assert bodies(store) == ["c"]  # from the place on, and in order
    time.seconds += RULE_SECONDS * 0.2
    assert bodies(store, 2) == ["urgent", "d"]


def test_a_message_behind_the_place_comes_at_once_where_no_other_is_ready(
    store: PostgresStore,
) -> None:
    send(store, "a")
    assert bodies(store) == ["a"]
    send(store, "urgent", priority=9)
    assert store._looks.next(ORDERS) != FROM_THE_START
    assert bodies(store, 5) == ["urgent"]
    assert bodies(store, 5) == []


def test_a_message_that_becomes_due_behind_the_place_is_seen_at_once(
    store: PostgresStore, clock: FakeClock
) -> None:
    for body in "abcd":
        send(store, body)
    send(store, "delayed", priority=9, delay=5)
    (message,) = store.receive(ORDERS, 1, visibility_ms=8_000).messages
    assert json.loads(message.body) == "a"
    clock.advance(4.9)
    assert bodies(store) == ["b"]
    clock.advance(0.1)
    assert bodies(store) == ["delayed"]
    clock.advance(3)  # the end of the lease of a
    assert bodies(store) == ["a"]


def test_a_look_from_the_place_passes_over_messages_that_are_gone(
    store: PostgresStore, postgres_tables_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a long transaction runs, the index keeps the entries of messages that are gone."""
    monkeypatch.setattr(looks, "SLOW_PAGES", 8)
    looked: list[tuple[bool, int]] = []
    note = store._looks.note

    def noted(queue: str, begun: Look, found: Look, pages: int, seconds: float) -> None:
        looked.append((begun == FROM_THE_START, pages))
        note(queue, begun, found, pages, seconds)

    monkeypatch.setattr(store._looks, "note", noted)
    with plain(postgres_tables_url) as other, other.transaction():
        other.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        other.execute("SELECT txid_current()")
        for _ in range(50):
            store.send(ORDERS, [draft("x") for _ in range(100)])
        for _ in range(49):
            messages = store.receive(ORDERS, 100).messages
            store.complete([Completion(one.receipt) for one in messages if one.receipt])
        looked.clear()
        store._looks.forget(ORDERS)
        for _ in range(3):
            bodies(store)
    (_, slow), *quick = looked
    assert slow > 8
    assert [(begun, read <= 8) for begun, read in quick] == [(False, True)] * 2
