"""Hot verbs of PostgreSQL: they run beside each other, and answer as the shared operations do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from threading import Thread
from typing import Any

import psycopg
import pytest

from durableq.engines import open_store
from durableq.engines.postgres import calls, installing
from durableq.engines.postgres.arrays import whole
from durableq.engines.postgres.calls import FOLD_IDS
from durableq.engines.postgres.database import TURN_MS
from durableq.engines.postgres.driver import Link
from durableq.engines.postgres.store import PostgresStore
from durableq.model.errors import (
    Busy,
    Conflict,
    DatabaseUnusable,
    InvalidBody,
    InvalidInput,
    OutcomeUnknown,
    UnknownQueue,
)
from durableq.model.message import (
    Completion,
    Draft,
    IdempotencyRecord,
    Message,
    Outcome,
    Receipt,
    Received,
    Served,
    draft,
)
from durableq.model.wire_message import BINARY, TypedAttribute, to_draft
from durableq.store.core import Receive, Send, Settle
from durableq.testing.contract.case import DEAD, ORDERS, FullStore
from tests.postgres import empty
from tests.support import wait_for

DRAFTS = [
    draft({"n": 1}),
    draft(b"\x00\xff", key="ключ"),
    draft("text", attributes={"a": "b", "n": 1}),
    draft([], delay=5),
    draft(None, priority=7, key="second", delay=0),
    to_draft('text, "no" JSON'),
    to_draft("7", {"file": TypedAttribute(BINARY, b"\0\xff")}, {"SenderId": "1"}, delay=0),
]


def opened(url: str, *, hot: bool = True) -> PostgresStore:
    store = open_store(url)
    assert isinstance(store, PostgresStore)
    store._database.is_hot &= hot
    store.declare_queue(ORDERS, {})
    return store


@pytest.fixture
def store(postgres_tables_url: str) -> Iterator[PostgresStore]:
    with closing(opened(postgres_tables_url)) as store:
        yield store


@contextmanager
def plain(url: str) -> Iterator[psycopg.Connection]:
    """Yield a connection beside durableq's, which finds its tables."""
    server, _, schema = url.rpartition("schema=")
    with closing(psycopg.connect(server.rstrip("&?"), autocommit=True)) as connection:
        connection.execute(f"SET search_path TO {schema}".encode())
        yield connection


def deltas(url: str) -> list[tuple[int, int]]:
    """Return the numbers sent and completed by hot verbs that are not folded yet."""
    with plain(url) as connection:
        return connection.execute("SELECT sent, completed FROM durableq_counter_delta").fetchall()


def without_ids(store: FullStore) -> list[object]:
    found = store.peek(ORDERS, 100)
    return [message._replace(id="", sent_at_ms=0, enqueued_at_ms=0) for message in found]


def test_a_hot_send_and_a_shared_one_store_the_same(postgres_tables_url: str) -> None:
    stored: list[list[object]] = []
    for hot in (True, False):
        with closing(opened(postgres_tables_url, hot=hot)) as store:
            ids = store.send(ORDERS, DRAFTS)
            assert [message.id for message in store.peek(ORDERS, 100)] == ids
            envelopes = store.envelopes(ids)
            assert [envelopes[id_].sequence for id_ in ids] == [*map(int, ids)]
            stored.append([envelopes[id_]._replace(sequence=0) for id_ in ids])
            stored.append(
                [
                    message._replace(
                        id="",
                        sent_at_ms=0,
                        enqueued_at_ms=0,
                        delayed_until_ms=message.delayed_until_ms - message.sent_at_ms
                        if message.delayed_until_ms
                        else 0,
                    )
                    for message in store.peek(ORDERS, 100)
                ]
            )
            assert store.queue(ORDERS).counters.sent == len(DRAFTS)
            store.delete_queue(ORDERS, force=True)
    assert stored[:2] == stored[2:]
    assert deltas(postgres_tables_url) == [(len(DRAFTS), 0)]


def test_maintenance_folds_the_counts_of_hot_verbs(
    store: PostgresStore, postgres_tables_url: str
) -> None:
    for _ in range(3):
        store.send(ORDERS, DRAFTS)
    assert store.queue(ORDERS).counters.sent == 3 * len(DRAFTS)
    store.maintain()
    assert deltas(postgres_tables_url) == []
    assert store.queue(ORDERS).counters.sent == 3 * len(DRAFTS)


def test_without_maintenance_sends_fold_their_counts(
    store: PostgresStore, postgres_tables_url: str
) -> None:
    with plain(postgres_tables_url) as connection:
        connection.execute("SELECT setval('durableq_message_id_seq', %s)", [FOLD_IDS - 4])
    store.send(ORDERS, DRAFTS[:3])
    assert deltas(postgres_tables_url) == [(3, 0)]
    store.send(ORDERS, DRAFTS[:1])  # has the id of FOLD_IDS
    assert deltas(postgres_tables_url) == []
    store.send(ORDERS, DRAFTS)
    assert deltas(postgres_tables_url) == [(len(DRAFTS), 0)]
    assert store.queue(ORDERS).counters.sent == 4 + len(DRAFTS)


def test_a_send_whose_fold_fails_is_stored(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise OutcomeUnknown("lost")

    monkeypatch.setattr(calls, "fold", fail)
    monkeypatch.setattr(calls, "FOLD_IDS", 1)
    assert len(store.send(ORDERS, DRAFTS)) == len(DRAFTS)


def waits_alone(connection: psycopg.Connection) -> bool:
    """Return whether a session waits for the lock of those that write alone."""
    (number,) = connection.execute(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' "
        "AND NOT granted"
    ).fetchone() or (0,)
    return bool(number)


def test_maintenance_gets_its_turn_among_hot_verbs_that_always_hold_the_lock(
    store: PostgresStore, postgres_tables_url: str
) -> None:
    """Those that come later wait behind it, so it waits for those that have begun alone."""
    database = store._database
    with (
        ThreadPoolExecutor(2) as pool,
        plain(postgres_tables_url) as looking,
        plain(postgres_tables_url) as other,
    ):
        with other.transaction():
            other.execute("SELECT pg_advisory_xact_lock_shared(%s)", [database.key])
            assert not store.maintain().due  # it gives up after a while
            database.begin_in_turn = database.begin_in_turn.replace(f"= {TURN_MS};", "= 60000;")
            maintaining = pool.submit(store.maintain)
            wait_for(lambda: waits_alone(looking))
            sending = pool.submit(store.send, ORDERS, DRAFTS)
        assert maintaining.result().due
        assert len(sending.result()) == len(DRAFTS)


def test_a_limit_that_is_switched_on_counts_the_sends_of_hot_verbs(
    store: PostgresStore,
) -> None:
    store.send(ORDERS, DRAFTS)
    store.declare_queue(ORDERS, {"max_backlog": len(DRAFTS) + 1, "on_full": 2})
    ids = store.send(ORDERS, [draft(1), draft(2)])
    assert [bool(message_id) for message_id in ids] == [True, False]


@pytest.mark.parametrize(
    ("queue", "drafts", "error"),
    [
        ("unknown", DRAFTS, UnknownQueue),
        (DEAD, DRAFTS, Conflict),
        (ORDERS, [draft("x" * 2**20)], InvalidBody),
        (ORDERS, [draft(1, key="k\0")], InvalidInput),
    ],
    ids=["queue", "dead letters", "size", "nul"],
)
def test_a_send_that_is_refused_stores_nothing(
    store: PostgresStore,
    queue: str,
    drafts: list[Draft],
    error: type[Exception],
    postgres_tables_url: str,
) -> None:
    with pytest.raises(error):
        store.send(queue, drafts)
    assert store.queue(ORDERS).counters.sent == 0
    assert store.peek(ORDERS, 10) == []
    assert deltas(postgres_tables_url) == []


def test_hot_verbs_wait_for_an_operation_that_runs_alone(
    store: PostgresStore, postgres_tables_url: str
) -> None:
    thread = Thread(target=store.send, args=(ORDERS, DRAFTS))
    with store._database.write():
        thread.start()
        thread.join(0.3)
        assert deltas(postgres_tables_url) == []
        assert thread.is_alive()
    thread.join(30)
    assert deltas(postgres_tables_url) == [(len(DRAFTS), 0)]


def test_a_hot_verb_that_waits_for_too_long_is_busy(store: PostgresStore) -> None:
    store._database.wait_ms = whole(50)
    errors: list[Exception] = []

    def send() -> None:
        try:
            store.send(ORDERS, DRAFTS)
        except Busy as error:
            errors.append(error)

    with store._database.write():
        thread = Thread(target=send)
        thread.start()
        thread.join(30)
    assert len(errors) == 1
    assert store.peek(ORDERS, 10) == []


def test_hot_verbs_run_beside_each_other(store: PostgresStore, postgres_tables_url: str) -> None:
    """One that has not committed holds up no other."""
    key = store._database.key
    with plain(postgres_tables_url) as connection, connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock_shared(%s)", [key])
        store.send(ORDERS, DRAFTS)
        assert deltas(postgres_tables_url) == [(len(DRAFTS), 0)]


def test_a_connection_that_ended_between_two_verbs_is_replaced(
    store: PostgresStore, postgres_tables_url: str
) -> None:
    store.send(ORDERS, DRAFTS)
    with plain(postgres_tables_url) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity "
            "WHERE application_name = 'durableq' AND query LIKE %s",
            [f"%{postgres_tables_url.rpartition('=')[2]}%"],
        )
    store.send(ORDERS, DRAFTS)
    assert deltas(postgres_tables_url) == [(len(DRAFTS), 0)] * 2


def plainly(message: Message) -> Message:
    """Return a message without what differs between two stores."""
    return message._replace(receipt=None, sent_at_ms=0, enqueued_at_ms=0)


def life(store: PostgresStore) -> list[object]:
    """Return the answers of a store in the life of some messages."""
    seen: list[object] = []
    store.send(ORDERS, [draft("a", key="a"), draft(b"b"), draft("c", key="c"), draft("d", key="a")])
    received = store.receive(ORDERS, 3, visibility_ms=60_000)
    a, b, c = received.messages
    of_c = Completion(receipt(c), '{"paid":1}', "c")
    seen += [plainly(a), plainly(b), plainly(c), received.more, received.wait_ms]
    seen += store.extend([receipt(a), receipt(b)._replace(token="00")], 90_000)
    seen += store.complete([of_c, Completion(receipt(b)), Completion(receipt(b))])
    seen += store.complete([of_c, of_c._replace(key="a"), Completion(Receipt("no", "1", "00"))])
    behind = store.receive(ORDERS, 3)
    seen += [behind.messages, behind.set_aside, behind.wait_ms is not None]
    store.send(ORDERS, [draft("e", priority=1), draft("f", key="c"), draft("g")])
    seen += [
        [*map(plainly, part.messages)]
        for part in (store.receive(ORDERS, 2), store.receive(ORDERS, 5))
    ]
    seen += store.complete([Completion(receipt(a), None, "a")])
    last = store.receive(ORDERS, 5)
    seen += [(one.key, one.result) for one in last.duplicates]
    record = store.record(ORDERS, "c")
    assert record is not None
    seen += [record.result, record.status, store.queue(ORDERS).counters, store.record(ORDERS, "a")]
    return [
        one if not isinstance(one, IdempotencyRecord) else (one.status, one.result) for one in seen
    ]


def receipt(message: Message) -> Receipt:
    assert message.receipt is not None
    return message.receipt


def test_hot_verbs_and_shared_operations_give_the_same_answers(
    postgres_tables_url: str,
) -> None:
    answers = []
    for hot in (True, False):
        empty(postgres_tables_url)
        with closing(opened(postgres_tables_url, hot=hot)) as store:
            answers.append(life(store))
    assert answers[0] == answers[1]


@pytest.fixture
def noted(store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts of the calls, and of the statements of shared operations."""
    texts: list[str] = []
    call, execute = Link.call, Link.execute_next

    def note_call(self: Link, text: str, values: Sequence[bytes | None]) -> object:
        texts.append(text)
        return call(self, text, values)

    def note_statement(self: Link, text: str, values: Any = ()) -> object:
        texts.append(text)
        return execute(self, text, values)

    monkeypatch.setattr(Link, "call", note_call)
    monkeypatch.setattr(Link, "execute_next", note_statement)
    return texts


def test_verbs_of_the_endpoint_are_one_call_each(store: PostgresStore, noted: list[str]) -> None:
    """Its queues bury at a receive, so a message that was received before is not theirs."""
    store.declare_queue(ORDERS, {"max_receives": 2, "bury_at": 1})
    noted.clear()
    store.send(ORDERS, [to_draft('{"a": 1}')])
    store.send(ORDERS, [to_draft("text"), draft(1), to_draft("2", None, {"SenderId": "1"})])
    received = store.receive(ORDERS, 5, served=Served()).messages
    assert store.complete([Completion(receipt(one)) for one in received]) == [Outcome.DONE] * 4
    assert [text.partition("durableq_")[2].partition("_")[0] for text in noted] == [
        *("send", "send", "serve", "complete"),
    ]
    store.send(ORDERS, [to_draft("text", None, {"SenderId": "1"})])
    for count in (1, 2):
        (again,) = store.receive(ORDERS, 5, served=Served()).messages
        assert again.receive_count == count
        assert again.envelope == store.envelopes([again.id])[again.id]
        store.extend([receipt(again)], 0)
    assert store.receive(ORDERS, 5, served=Served()).set_aside == 1
    assert [message.source_queue for message in store.peek(DEAD, 9)] == [ORDERS]


def test_a_settlement_and_a_receive_are_one_call(store: PostgresStore, noted: list[str]) -> None:
    store.send(ORDERS, [draft(n, key=f"{n}") for n in range(4)])
    first = store.receive(ORDERS, 2).messages
    noted.clear()
    settle = Settle([Completion(receipt(one), None, one.key) for one in first], [])
    outcomes, received = store.together([settle, Receive(ORDERS, 2)])
    assert outcomes == [Outcome.DONE] * 2
    assert isinstance(received, Received)
    assert len(received.messages) == 2
    assert len(noted) == 1


def test_a_send_of_several_coroutines_is_one_call(store: PostgresStore) -> None:
    """They are one send of `together`, which runs beside others; a refused one runs alone."""
    run, alone = store._database.run, []

    def note(operation: Any, *arguments: Any) -> Any:
        alone.append(operation)
        return run(operation, *arguments)

    store._database.run = note  # type: ignore[method-assign]
    (ids,) = store.together([Send(ORDERS, DRAFTS)])
    assert isinstance(ids, list)
    assert (len(ids), alone) == (len(DRAFTS), [])
    (refused,) = store.together([Send("unknown", DRAFTS)])
    assert isinstance(refused, UnknownQueue)
    assert len(alone) == 1


def test_completions_of_several_receives_and_queues_are_one_call(store: PostgresStore) -> None:
    store.declare_queue("mail", {})
    completions: list[Completion] = []
    for queue in (ORDERS, "mail", ORDERS):
        store.send(queue, [draft(1, key=f"{len(completions)}")])
        (message,) = store.receive(queue, 1).messages
        completions.append(Completion(receipt(message), f"{len(completions)}", message.key))
    assert store.complete(completions[::-1]) == [Outcome.DONE] * 3
    results = [store.record(*where) for where in ((ORDERS, "0"), ("mail", "1"), (ORDERS, "2"))]
    assert [result and result.result for result in results] == ["0", "1", "2"]
    assert store.queue(ORDERS).counters.completed == 2
    assert store.queue("mail").counters.completed == 1


def test_without_a_right_to_make_functions_all_operations_run_alone(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise DatabaseUnusable("permission denied for schema")

    with monkeypatch.context() as patched:
        patched.setattr(installing, "_create", refuse)
        with closing(opened(postgres_url)) as store:
            assert not store._database.is_hot
            assert "may not create functions" in caplog.text
            store.send(ORDERS, DRAFTS)
            assert deltas(postgres_url) == []
    with closing(opened(postgres_url)) as store:
        store.send(ORDERS, DRAFTS)
        assert deltas(postgres_url) == [(len(DRAFTS), 0)]
