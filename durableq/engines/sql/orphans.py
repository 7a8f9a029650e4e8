"""Rows that refer to nothing. No operation leaves such rows, and none would find them again."""

from __future__ import annotations

from typing import Final

from sqlalchemy import func, select, text

from durableq.engines.sql.dialect import Statement
from durableq.engines.sql.tables import OUTSIDE_BASE, OWNER_BASE, is_state, message, worker
from durableq.engines.sql.transactions import Transaction
from durableq.model.health import Finding, Level
from durableq.model.message import RecordStatus, State

_QUEUES: Final = "(SELECT id FROM durableq_queue)"
_IN_FLIGHT: Final = int(State.IN_FLIGHT)
_owner = message.c.owner_id
_IN_PROGRESS: Final = int(RecordStatus.IN_PROGRESS)


def _count(table: str, condition: str) -> Statement:
    return Statement(select(func.count()).select_from(text(table)).where(text(condition)))


#: The name of a check, the noun for the rows that it counts, and the statement.
_CHECKS: Final = (
    (
        "messages_without_queue",
        "messages of a queue that is not there",
        _count(
            "durableq_message",
            f"queue_id NOT IN {_QUEUES} OR source_queue_id NOT IN {_QUEUES}",
        ),
    ),
    (
        "queues_without_pair",
        "queues whose dead-letter queue is not there",
        _count("durableq_queue", f"dead_letter_queue_id NOT IN {_QUEUES}"),
    ),
    (
        "queues_without_counters",
        "queues whose counters are not there",
        _count("durableq_queue", "id NOT IN (SELECT queue_id FROM durableq_counters)"),
    ),
    (
        "keys_without_owner",
        "keys in progress that no leased message holds",
        _count(
            "durableq_idempotency AS r",
            f"r.status = {_IN_PROGRESS} AND NOT EXISTS "  # noqa: S608 - constants
            "(SELECT 1 FROM durableq_message AS m WHERE "
            "m.id = r.owner_message_id AND m.receipt = r.owner_receipt "
            f"AND m.state = {_IN_FLIGHT})",
        ),
    ),
    (
        "records_without_queue",
        "idempotency records of a queue that is not there",
        _count("durableq_idempotency", f"queue_id NOT IN {_QUEUES}"),
    ),
    (
        "history_without_queue",
        "events of a queue that is not there",
        _count("durableq_history", f"queue_id NOT IN {_QUEUES}"),
    ),
)
_OWNERS = Statement(select(_owner, func.count()).where(is_state(State.IN_FLIGHT)).group_by(_owner))
_WORKERS = Statement(select(worker.c.id))
_ADVICE: Final = {
    "keys_without_owner": "The next message under such a key takes it over: nothing is stuck.",
    "leases_without_worker": "They come back when the lease ends. A worker that was thought dead "
    "and goes on is stopped best: durableq status.",
}
_DEFAULT_ADVICE: Final = "No operation leaves such rows: a program other than durableq wrote here."


def find(tx: Transaction) -> list[Finding]:
    """Count the rows of each kind; see Maintenance.orphans."""
    found = [
        _finding(name, noun, tx.run(statement).fetchone()[0]) for name, noun, statement in _CHECKS
    ]
    leases = _finding(
        "leases_without_worker",
        "leases of a worker that is not registered",
        _leases_without_worker(tx),
    )
    return [*found[:4], leases, *found[4:]]  # the order of release 0.1


def _leases_without_worker(tx: Transaction) -> int:
    """Count leases of unregistered workers; 0 is a receive outside one, before revision 0005."""
    known = {0, *(owner_id for (owner_id,) in tx.run(_WORKERS).fetchall())}
    return sum(
        number
        for owner, number in tx.run(_OWNERS).fetchall()
        if owner < OUTSIDE_BASE and owner - OWNER_BASE not in known
    )


def _finding(name: str, noun: str, number: int) -> Finding:
    level = Level.BAD if number else Level.OK
    advice = _ADVICE.get(name, _DEFAULT_ADVICE) if number else ""
    return Finding(name, level, f"{number or 'no'} {noun}", advice)
