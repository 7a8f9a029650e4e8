"""Messages for the fleet's tests, and facts to read from the file and the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from durableq import DurableQ
from durableq.model.message import draft
from tests.engine import plain
from tests.process.app import Ledger

#: The tests of a module run on a file, and on a schema of PostgreSQL.
on_both_engines = pytest.mark.parametrize("db", ["sqlite", "postgres"], indirect=True)
STATES = "SELECT state, receive_count FROM durableq_message ORDER BY id"
REASONS = "SELECT reason FROM durableq_history ORDER BY id"
FIVE = ("k0", "k1", "k2", "k3", "k4")


def send(dq: DurableQ, queue: str, acts: Mapping[str, str]) -> list[str]:
    """Send messages by key, each with the act that is to handle it, in one batch."""
    drafts = [draft({"do": act}, key=key) for key, act in acts.items()]
    return dq.store.send(queue, drafts)


def send_five(dq: DurableQ, first: str) -> None:
    """Send five messages that one worker receives together; only the first has an act to do."""
    send(dq, "bulk", {key: first if key == "k0" else "nothing" for key in FIVE})


def receives(ledger: Ledger) -> list[str]:
    """Return the key and the receive count of each call of a handler."""
    return sorted(line.of for line in ledger.lines("receive"))


def completed(db: Path | str, queue: str) -> int:
    """Return the number of messages of a queue that were completed."""
    return plain.counters(db, queue)["completed"]


def events_of(db: Path | str, message_id: str) -> list[tuple[str, str]]:
    """A message's history: events with their reasons."""
    sql = "SELECT event, reason FROM durableq_history WHERE message_id = ? ORDER BY id"
    return [tuple(row) for row in plain.rows(db, sql, message_id)]
