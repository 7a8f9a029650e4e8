"""What the fleet's tests send, and what they look for in the file and in the ledger."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from durableq import DurableQ
from durableq.model.message import draft
from tests.engine import plain
from tests.process.app import Ledger
from tests.support import scaled

STATES = "SELECT state, receive_count FROM durableq_message ORDER BY id"
REASONS = "SELECT reason FROM durableq_history ORDER BY id"
FIVE = ("k0", "k1", "k2", "k3", "k4")


@contextmanager
def at_once() -> Iterator[None]:
    """What is inside takes its time, but nowhere near the lease of 30 seconds."""
    started = time.monotonic()
    yield
    allowed = min(scaled(12), 25)
    assert time.monotonic() - started < allowed, "the lease of 30 seconds was waited for"


def send(dq: DurableQ, queue: str, acts: Mapping[str, str]) -> list[str]:
    """Send messages by key, each with the act that is to handle it, in one batch."""
    drafts = [draft({"do": act}, key=key) for key, act in acts.items()]
    return dq.store.send(queue, drafts)


def send_five(dq: DurableQ, first: str) -> None:
    """Send what one worker receives together; only the first has something to do."""
    send(dq, "bulk", {key: first if key == "k0" else "nothing" for key in FIVE})


def receives(ledger: Ledger) -> list[str]:
    """Each call of a handler: the message's key and its receive count."""
    return sorted(line.of for line in ledger.lines("receive"))


def completed(db: Path, queue: str) -> int:
    """How many of a queue's messages have ended in success."""
    return plain.counters(db, queue)["completed"]


def events_of(db: Path, message_id: str) -> list[tuple[str, str]]:
    """A message's history: events with their reasons."""
    sql = "SELECT event, reason FROM durableq_history WHERE message_id = ? ORDER BY id"
    return [tuple(row) for row in plain.rows(db, sql, message_id)]
