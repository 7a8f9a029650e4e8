"""Rows that refer to nothing, or contradict another. No operation leaves such rows."""

from __future__ import annotations

from typing import Final

from durableq.engines.sql.columns import OUTSIDE_BASE, OWNER_BASE
from durableq.engines.sql.transactions import Transaction
from durableq.model.health import Finding, Level

#: The noun for the rows of each kind.
_NOUNS: Final = {
    "messages_without_queue": "messages of a queue that is not there",
    "queues_without_pair": "queues whose dead-letter queue is not there",
    "queues_without_counters": "queues whose counters, or the state of whose limits, are not there",
    "keys_without_owner": "keys in progress that no leased message holds",
    "leases_without_worker": "leases of a worker that is not registered",
    "records_without_queue": "idempotency records of a queue that is not there",
    "schedules_without_queue": "schedules of a queue that is not there",
    "history_without_queue": "events of a queue that is not there",
    "documents_without_queue": "attributes and tags over SQS of a queue that is not there",
    "attempts_without_queue": "receives over SQS from a queue that is not there",
    "items_without_table": "items of a table that is not there",
    "dead_letters_misgrouped": "dead letters in another group than that of their last burial",
    "groups_stranded": "groups whose blocked messages wait for nothing",
    "messages_out_of_turn": "messages before which one of their group is blocked",
    "queues_with_other_bytes": "queues that store another number of bytes than their counters say",
    "groups_with_other_counts": "groups that have another number of messages than was counted",
}
_ADVICE: Final = {
    "keys_without_owner": "The next message under such a key takes it over: nothing is stuck.",
    "leases_without_worker": "They come back when the lease ends. A worker that was thought dead "
    "and goes on is stopped best: durableq status.",
    **dict.fromkeys(
        ("groups_with_other_counts", "groups_stranded", "messages_out_of_turn"),
        "Switch groups off and on, which counts and orders them again: durableq queue set QUEUE "
        "--group-concurrency off.",
    ),
    "queues_with_other_bytes": "Switch the limit off and on, which counts again: durableq queue "
    "set QUEUE --max-backlog-bytes off.",
}
_DEFAULT_ADVICE: Final = "No operation leaves such rows: a program other than durableq wrote here."


def find(tx: Transaction) -> list[Finding]:
    """Count the rows of each kind; see Maintenance.orphans."""
    sql = tx.sql

    def count(name: str, text: str) -> Finding:
        return _finding(name, tx.run(text).fetchone()[0])

    return [
        count("messages_without_queue", sql.MESSAGES_WITHOUT_QUEUE),
        count("queues_without_pair", sql.QUEUES_WITHOUT_PAIR),
        count("queues_without_counters", sql.QUEUES_WITHOUT_COUNTERS),
        count("keys_without_owner", sql.KEYS_WITHOUT_OWNER),
        _finding("leases_without_worker", _leases_without_worker(tx)),
        count("records_without_queue", sql.RECORDS_WITHOUT_QUEUE),
        count("schedules_without_queue", sql.SCHEDULES_WITHOUT_QUEUE),
        count("history_without_queue", sql.HISTORY_WITHOUT_QUEUE),
        count("documents_without_queue", sql.DOCUMENTS_WITHOUT_QUEUE),
        count("attempts_without_queue", sql.ATTEMPTS_WITHOUT_QUEUE),
        count("items_without_table", sql.ITEMS_WITHOUT_TABLE),
        count("dead_letters_misgrouped", sql.DEAD_LETTERS_MISGROUPED),
        count("queues_with_other_bytes", sql.QUEUES_WITH_OTHER_BYTES),
        count("groups_with_other_counts", sql.GROUPS_WITH_OTHER_COUNTS),
        count("groups_stranded", sql.GROUPS_STRANDED),
        count("messages_out_of_turn", sql.MESSAGES_OUT_OF_TURN),
    ]


def _leases_without_worker(tx: Transaction) -> int:
    """Count leases of unregistered workers; 0 is a receive outside one, before revision 0005."""
    known = {0, *(owner_id for (owner_id,) in tx.run(tx.sql.WORKER_IDS).fetchall())}
    return sum(
        number
        for owner, number in tx.run(tx.sql.LEASE_OWNERS).fetchall()
        if owner < OUTSIDE_BASE and owner - OWNER_BASE not in known
    )


def _finding(name: str, number: int) -> Finding:
    level = Level.BAD if number else Level.OK
    advice = _ADVICE.get(name, _DEFAULT_ADVICE) if number else ""
    return Finding(name, level, f"{number or 'no'} {_NOUNS[name]}", advice)
