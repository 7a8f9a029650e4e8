"""Rows that belong to nothing: what no verb leaves behind, and no verb would ever find again."""

from __future__ import annotations

from typing import Any, Final

from durableq.model.health import Finding, Level
from durableq.model.message import RecordStatus, State

_QUEUES: Final = "(SELECT id FROM durableq_queue)"
_IN_FLIGHT: Final = int(State.IN_FLIGHT)
_IN_PROGRESS: Final = int(RecordStatus.IN_PROGRESS)

# Constants only; a name, what is counted, and what one of them is.
_CHECKS: Final = (
    (
        "messages_without_queue",
        "messages of a queue that is not there",
        f"SELECT count(*) FROM durableq_message WHERE queue_id NOT IN {_QUEUES} "  # noqa: S608
        f"OR source_queue_id NOT IN {_QUEUES}",
    ),
    (
        "queues_without_pair",
        "queues whose dead-letter queue is not there",
        "SELECT count(*) FROM durableq_queue "  # noqa: S608
        f"WHERE dead_letter_queue_id NOT IN {_QUEUES}",
    ),
    (
        "keys_without_owner",
        "keys in progress that no leased message holds",
        "SELECT count(*) FROM durableq_idempotency AS r "  # noqa: S608
        f"WHERE r.status = {_IN_PROGRESS} AND NOT EXISTS (SELECT 1 FROM durableq_message AS m "
        "WHERE m.id = r.owner_message_id AND m.receipt = r.owner_receipt "
        f"AND m.state = {_IN_FLIGHT})",
    ),
    (
        "leases_without_worker",
        "leases of a worker that is not registered",
        f"SELECT count(*) FROM durableq_message WHERE state = {_IN_FLIGHT} "  # noqa: S608
        "AND substr(receipt, 1, 4) <> x'00000000' AND hex(substr(receipt, 1, 4)) NOT IN "
        "(SELECT printf('%08X', id) FROM durableq_worker)",
    ),
    (
        "records_without_queue",
        "idempotency records of a queue that is not there",
        f"SELECT count(*) FROM durableq_idempotency WHERE queue_id NOT IN {_QUEUES}",  # noqa: S608
    ),
    (
        "history_without_queue",
        "events of a queue that is not there",
        f"SELECT count(*) FROM durableq_history WHERE queue_id NOT IN {_QUEUES}",  # noqa: S608
    ),
)
_ADVICE: Final = {
    "keys_without_owner": "The next message under such a key takes it over: nothing is stuck.",
    "leases_without_worker": "They come back when the lease ends. A worker that was thought dead "
    "and goes on is stopped best: durableq status.",
}
_OTHERWISE: Final = "No verb leaves these behind: something other than durableq wrote here."


def find(raw: Any) -> list[Finding]:
    """Count each kind; see Maintenance.orphans."""
    found = []
    for name, what, statement in _CHECKS:
        (number,) = raw.execute(statement).fetchone()
        level = Level.BAD if number else Level.OK
        advice = _ADVICE.get(name, _OTHERWISE) if number else ""
        found.append(Finding(name, level, f"{number or 'no'} {what}", advice))
    return found
