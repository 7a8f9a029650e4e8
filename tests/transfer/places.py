"""The source and the target of a transfer, with plain connections that are no code of durableq."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

import psycopg

from durableq.engines import open_store
from durableq.model.dead_letters import DeadLetterFilter
from durableq.model.decisions import Requeue
from durableq.model.message import Completion, Reason, State
from durableq.model.once import OnceRequest
from durableq.model.schedules import schedule_of
from durableq.model.wire_message import TypedAttribute, to_draft
from durableq.store.core import Store
from durableq.testing.contract.case import (
    ORDERS,
    FullStore,
    complete,
    fail,
    kill,
    look,
    receive,
    send,
    take,
)
from tests.engine import plain

KINDS = ("file to schema", "schema to file", "schema to schema", "file to file")


class Places(NamedTuple):
    """The URLs of a source and of a target."""

    source: str
    target: str


def sql(url: str, text: str) -> list[tuple[Any, ...]]:
    """Run a statement on a plain connection, and return its rows."""
    if "://" not in url:
        return [tuple(row) for row in plain.rows(Path(url), text)]
    server, _, schema = url.rpartition("schema=")
    with psycopg.connect(server.rstrip("&?"), autocommit=True) as connection:
        connection.execute(f"SET search_path TO {schema}".encode())
        cursor = connection.execute(text.encode())
        return cursor.fetchall() if cursor.description else []


def tables(url: str) -> set[str]:
    """Return the names of all tables of durableq but that of the revision."""
    if "://" not in url:
        text = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name LIKE 'durableq%'"
    else:
        text = "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
    return {name for (name,) in sql(url, text)} - {"durableq_version"}


def revision(url: str) -> str:
    """Return the revision, or the mark in its place."""
    ((found,),) = sql(url, "SELECT version_num FROM durableq_version")
    return str(found)


def rows(url: str) -> int:
    """Return the number of messages."""
    ((number,),) = sql(url, "SELECT count(*) FROM durableq_message")
    return int(number)


@contextmanager
def opened(url: str, **options: Any) -> Iterator[FullStore]:
    """Open a store for a block."""
    with closing(open_store(url, **options)) as store:
        yield cast(FullStore, store)


def fill(store: Store, number: int = 8) -> None:
    """Store messages in every state, with all that belongs to them."""
    full = cast(FullStore, store)
    full.declare_queue(ORDERS, {"backoff_base_ms": 0, "max_receives": 3})
    full.declare_schedules([schedule_of("tick", ORDERS, "0 3 * * *", "Europe/Berlin")])
    full.declare_queue("bulk", {"paused": 1, "group_concurrency": 1, "rate": 5.0})
    kill(full, {"dead": "letter"})
    kill(full, b"\x00bytes\xff")
    send(full, "done", key="done")
    complete(full, take(full), result='"result"')
    send(full, "again")
    fail(full, take(full), reason=Reason.HANDLER_ERROR)
    for count in range(number):
        options: dict[str, Any] = {"priority": count % 3, "attributes": {"n": str(count)}}
        send(full, {"n": count, "ü": "\U0001f600"}, key=f"k{count}", **options)
    send(full, "later", delay=3600)
    for group in ("a", "a", "b"):
        send(full, "grouped", queue="bulk", group=group, expires_in=7200)
    send(full, "once", deduplication_id="d")
    full.once_get_or_lease("rate", OnceRequest(b"1" * 16, 30_000, "first"))
    assert full.once_store("rate", b"1" * 16, "1.5", ttl_ms=60_000, stale_ms=0, compute_ms=5)
    full.start_redrive(DeadLetterFilter(ORDERS), Requeue("calm"), rate=2.5)
    full.send(ORDERS, [to_draft("text", {"b": TypedAttribute("Binary", b"x")}, group="g")])
    full.store_queue_document(ORDERS, '{"Policy":"{}"}', '{"team":"a"}', expected=0)
    full.declare_queue("gone", {})
    full.remove_queue("gone")
    full.database_id()
    [held, *_] = receive(full, 2)
    assert look(full, held.id).state is State.IN_FLIGHT
    full.compare_and_set("breaker:orders", '{"phase": "closed"}', expected=None)


def all_there_is(store: FullStore) -> list[Any]:
    """Return the visible state of a store whose leases are given back."""
    names = [info.name for info in store.queues()]
    messages = [message for name in names for message in store.peek(name, 1_000)]
    return [
        store.queues(recount=True),
        messages,
        [store.history(message.id) for message in messages],
        [store.records(name, 1_000) for name in names],
        store.dead_letter_groups(),
        store.redrive_tasks(),
        store.once_entries(10),
        store.get_metadata("breaker:orders"),
        [store.ready_in_ms([name]) for name in names],
        store.database_id(),
        [store.envelopes([message.id for message in messages])],
        [store.queue_document(name) for name in names],
        store.deleted_ms_ago("gone") is None,
    ]


def settle_all(store: FullStore) -> int:
    """Complete all ready messages of a queue; return their number."""
    done = 0
    while messages := receive(store, 100):
        completions = [Completion(m.receipt) for m in messages if m.receipt]
        done += len(store.complete(completions))
    return done
