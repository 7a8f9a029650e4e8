"""`durableq idempotency`: look up, list, forget and prune idempotency keys."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from durableq.cli import output, tables
from durableq.cli.database import SLICE, prune_all, report_pruned
from durableq.cli.help import option
from durableq.cli.options import Db, Json, Limit, Queue, chosen_queue, opened
from durableq.cli.rendering import moment, moment_and_age, now_ms, record_document
from durableq.model.errors import NotFound
from durableq.model.message import IdempotencyRecord
from durableq.model.text import shown, visible
from durableq.model.units import span
from durableq.store.core import Capability

RESULT_COLUMNS: Final = 60

Key = Annotated[str, typer.Argument(metavar="KEY", help="Idempotency key.")]
AfterKey = Annotated[
    str | None,
    option("--after", placeholder="KEY", help="Start after this key, for the next page."),
]


def get(key: Key, queue: Queue = None, db: Db = None, as_json: Json = False) -> None:
    """Show the record of a key: status, message, expiry and result.

    Example: durableq idempotency get order-7 --queue orders
    """
    with opened(db) as store:
        name = chosen_queue(store, queue)
        record = store.require(Capability.IDEMPOTENCY).record(name, key)
    if record is None:
        raise _unknown(name, key)
    if as_json:
        output.document(record_document(record))
    else:
        tables.fields(_facts(record))


def list_(
    queue: Queue = None,
    limit: Limit = 50,
    after: AfterKey = None,
    db: Db = None,
    as_json: Json = False,
) -> None:
    """List the records of a queue in order of their keys.

    Example: durableq idempotency list --queue orders --limit 10
    """
    with opened(db) as store:
        records = store.require(Capability.IDEMPOTENCY).records(
            chosen_queue(store, queue), limit, after
        )
    if as_json:
        output.document([record_document(record) for record in records])
        return
    tables.table(
        ("KEY", "STATUS", "MESSAGE", "CREATED", "EXPIRES", "RESULT"),
        [
            (
                record.key,
                record.status.label,
                record.message_id,
                moment(record.created_at_ms),
                _expiry(record),
                visible(record.result or "", RESULT_COLUMNS),
            )
            for record in records
        ],
    )


def forget(key: Key, queue: Queue = None, db: Db = None, as_json: Json = False) -> None:
    """Forget a key, so that its next message is handled again.

    A key in progress is not forgotten (exit code 5).

    Example: durableq idempotency forget order-7 --queue orders
    """
    with opened(db) as store:
        name = chosen_queue(store, queue)
        if not store.require(Capability.IDEMPOTENCY).forget(name, key):
            raise _unknown(name, key)
    if as_json:
        output.document({"queue": name, "key": key, "forgotten": True})
    else:
        output.line(f"Forgot key {key} of queue {name}.")


def prune(db: Db = None, as_json: Json = False) -> None:
    """Remove expired keys, expired messages and old history.

    Example: durableq idempotency prune
    """
    with opened(db) as store:
        report_pruned(prune_all(store, SLICE), as_json)


COMMANDS: Final = (get, list_, forget, prune)


def _facts(record: IdempotencyRecord) -> list[tuple[str, str]]:
    completed = record.completed_at_ms
    return [
        ("key", record.key),
        ("queue", record.queue),
        ("status", record.status.label),
        ("message", record.message_id),
        ("created", moment_and_age(record.created_at_ms)),
        ("completed", "-" if completed is None else moment_and_age(completed)),
        ("expires", _expiry(record)),
        ("payload", record.payload_hash.hex()),
        ("result", record.result or "-"),
    ]


def _expiry(record: IdempotencyRecord) -> str:
    if record.expires_at_ms is None:
        return "with its message's lease"
    return f"in {span(record.expires_at_ms - now_ms())}"


def _unknown(queue: str, key: str) -> NotFound:
    return NotFound(f"Nothing is remembered of key {shown(key)} in queue {shown(queue)}.")
