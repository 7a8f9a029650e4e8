"""`durableq idempotency`: look up, list, forget and prune idempotency keys."""

from __future__ import annotations

from typing import Annotated, Final

from durableq.cli.database import prune_all
from durableq.cli.help import argument, option
from durableq.cli.options import Limit, Queue, QueueArgument, Session, chosen_queue, named_once
from durableq.cli.output import fields
from durableq.cli.rendering import moment, moment_and_age, now_ms, record_document
from durableq.cli.totals import MOST_COUNTED, counted, say_total
from durableq.model.errors import NotFound
from durableq.model.message import IdempotencyRecord
from durableq.model.text import shown, visible
from durableq.model.units import span
from durableq.store.core import Capability

RESULT_COLUMNS: Final = 60

Key = Annotated[str, argument("KEY", "Idempotency key.")]


def get(session: Session, key: Key, queue: Queue = None) -> None:
    """Show the record of a key: status, message, expiry and result.

    Example: durableq idempotency get order-7 --queue orders
    """
    with session.opened() as store:
        name = chosen_queue(store, queue)
        record = store.require(Capability.IDEMPOTENCY).record(name, key)
    if record is None:
        raise _unknown(name, key)
    session.show(record_document(record), *fields(_facts(record)))


def list_(
    session: Session,
    name: QueueArgument = None,
    queue: Queue = None,
    limit: Limit = 50,
    after: str | None = option("--after KEY", "Start after this key, for the next page.", None),
) -> None:
    """List the records of a queue in order of their keys.

    Example: durableq idempotency list orders --limit 10
    """
    queue = named_once(name, queue)
    with session.opened() as store:
        name = chosen_queue(store, queue)
        idempotency = store.require(Capability.IDEMPOTENCY)
        records = idempotency.records(name, limit, after)
        number = 0 if session.as_json else idempotency.count_records(name, MOST_COUNTED + 1)
    keys = session.table(
        records,
        record_document,
        {
            "KEY": lambda record: record.key,
            "STATUS": lambda record: record.status.label,
            "MESSAGE": lambda record: record.message_id,
            "CREATED": lambda record: moment(record.created_at_ms),
            "EXPIRES": _expiry,
            "RESULT": lambda record: visible(record.result or "", RESULT_COLUMNS),
        },
    )
    say_total(session, keys, "key", limit, counted(number))


def forget(session: Session, key: Key, queue: Queue = None) -> None:
    """Forget a key, so that its next message is handled again.

    A key in progress is not forgotten (exit code 5).

    Example: durableq idempotency forget order-7 --queue orders
    """
    with session.opened() as store:
        name = chosen_queue(store, queue)
        if not store.require(Capability.IDEMPOTENCY).forget(name, key):
            raise _unknown(name, key)
    document = {"queue": name, "key": key, "forgotten": True}
    session.show(document, f"Forgot key {key} of queue {name}.")


def prune(session: Session) -> None:
    """Remove expired keys, messages and values, and old history.

    Example: durableq idempotency prune
    """
    prune_all(session)


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
