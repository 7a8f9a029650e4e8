"""A dump of each revision that PostgreSQL has had: it is upgraded, and everything in it works."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from durableq import DurableQ
from durableq.engines.sql.migrating import FIRST_ON_POSTGRES
from durableq.engines.sql.schema import REVISIONS
from durableq.model.dead_letters import DeadLetterFilter
from durableq.model.decisions import Requeue
from durableq.store.core import Capability
from durableq.testing import FakeClock
from tests.migrations.catalog import connected, described, split
from tests.migrations.test_released import HISTORY, MESSAGES, RELEASED
from tests.postgres import new_schema

FILES = sorted(RELEASED.glob("*.sql"))
#: A dump has its leases given back, for it is no longer where it was made; the message that waited
#: behind the key of one is ready too.
RESTORED = {
    (*message[:3], "ready", 0, message[5]) if message[2] == "held" else message
    for message in MESSAGES
}


def restore(dump: Path, url: str) -> None:
    """Restore a kept dump to the schema of a URL."""
    _, schema = split(url)
    with connected(url) as connection:
        connection.execute(re.sub(r"\bkept\b", schema, dump.read_text("utf-8")).encode())


def test_every_revision_has_a_dump() -> None:
    first = REVISIONS.index(FIRST_ON_POSTGRES)
    assert [path.stem for path in FILES] == list(REVISIONS[first:])


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def url(request: pytest.FixtureRequest, postgres_url: str) -> str:
    restore(request.param, postgres_url)
    return postgres_url


@pytest.fixture
def dq(url: str) -> Iterator[DurableQ]:
    """The application, a second after the dump was made."""
    clock = FakeClock()
    clock.advance(1)
    with DurableQ(url, clock=clock) as dq:
        dq.migrate()
        yield dq


def test_an_upgraded_dump_has_the_tables_of_the_code(
    dq: DurableQ, url: str, postgres_server: str
) -> None:
    """While a revision is not released: if this fails, run scripts/keep_revision.py."""
    with new_schema(postgres_server) as new:
        with DurableQ(new) as other:
            other.init()
        assert described(url) == described(new)


def test_every_message_and_record_survives_the_restore_and_the_upgrade(
    dq: DurableQ, url: str
) -> None:
    inspect = dq.store.require(Capability.INSPECT)
    found = {
        (m.queue, m.body, m.key, m.state.label, m.receive_count, m.recovery_count)
        for info in inspect.queues()
        for m in inspect.peek(info.name, 100)
    }
    assert found == RESTORED
    letters = dq.store.require(Capability.DEAD_LETTERS)
    for message_id, events in HISTORY.items():
        assert [event.event.value for event in letters.history(message_id)] == events
    paid = dq.store.require(Capability.IDEMPOTENCY).record("orders", "paid")
    assert paid is not None
    assert paid.result == '{"paid":120}'
    assert dq.store.require(Capability.METADATA).get_metadata("breaker") == "closed"
    with connected(url) as connection:
        view = "SELECT id, queue, reason, error_type FROM durableq_dead_letter ORDER BY id"
        assert connection.execute(view).fetchall() == [
            (1, "mail", "handler_error", "ValueError"),
            (4, "mail", "handler_error", "ValueError"),
        ]


def test_the_workers_of_a_dump_are_forgotten_and_their_messages_ready(dq: DurableQ) -> None:
    assert dq.store.require(Capability.FLEET).workers() == []
    assert dq.store.require(Capability.PROGRESS).progress_in(None, 10) == []
    bodies = [message.body for message in dq.queue("orders").receive(10)]
    assert {"in": "flight"} in bodies
    assert dq.queue("orders").info().counts.in_flight == len(bodies) == 3


def test_an_upgraded_dump_can_be_worked(dq: DurableQ) -> None:
    orders = dq.queue("orders")
    for message in orders.receive(10):
        message.complete()
    orders.send({"amount": 120}, key="paid")
    assert orders.receive() == [], "its key was forgotten"
    assert orders.send("new") == "15", "an id was given twice, or skipped"
    redrive = dq.store.require(Capability.REDRIVE)
    [started] = redrive.redrive_tasks()
    assert (started.total, started.wanted) == (2, DeadLetterFilter("mail"))
    assert started.actor == "person (ann)"
    assert redrive.continue_redrive(started.id, 10).moved == 2
    again = redrive.start_redrive(DeadLetterFilter(error_type="ValueError"), Requeue())
    assert int(again.id) > int(started.id)
