"""`durableq queue`: create, change, list, pause, purge and delete queues."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from durableq.cli import output, tables
from durableq.cli.help import option
from durableq.cli.options import Db, Json, Yes, opened
from durableq.cli.rendering import queue_document, setting_words
from durableq.model.errors import Conflict, UnknownQueue
from durableq.model.queues import OPTIONS, QueueSettings, changes_from
from durableq.store.core import Capability, QueueInfo, Store

Name = Annotated[str, typer.Argument(metavar="QUEUE", help="Name of the queue.")]


def _setting(text: str, field: str, placeholder: str = "SECONDS") -> Any:
    """Return the option of a setting; its default is that of a new queue."""
    value = getattr(QueueSettings(), field)
    shown = f"{value / 1000:.15g}" if field.endswith("_ms") else value
    return option(placeholder=placeholder, show_default=f"{shown} in a new queue", help=text)


VisibilityTimeout = Annotated[
    float | None, _setting("Lease of a received message.", "visibility_timeout_ms")
]
Delay = Annotated[float | None, _setting("Wait before the first receive.", "delay_ms")]
Retention = Annotated[
    float | None, _setting("How long an undelivered message is kept.", "retention_ms")
]
MaxReceives = Annotated[
    int | None, _setting("Receives before the dead-letter queue.", "max_receives", "N")
]
MaxRecoveries = Annotated[
    int | None,
    _setting("Recoveries before a dead letter is held for a person.", "max_recoveries", "N"),
]
BackoffBase = Annotated[
    float | None, _setting("Wait after the first failure; it doubles.", "backoff_base_ms")
]
BackoffMax = Annotated[float | None, _setting("Longest wait after a failure.", "backoff_max_ms")]
IdempotencyTtl = Annotated[
    float | None, _setting("How long a completed key is kept.", "idempotency_ttl_ms")
]
MaxBodyBytes = Annotated[int | None, _setting("Largest body.", "max_body_bytes", "BYTES")]
Force = Annotated[bool, option("--force", help="Delete the queue even if it has messages.")]


def create(
    ctx: typer.Context,
    name: Name,
    visibility_timeout: VisibilityTimeout = None,
    delay: Delay = None,
    retention: Retention = None,
    max_receives: MaxReceives = None,
    max_recoveries: MaxRecoveries = None,
    backoff_base: BackoffBase = None,
    backoff_max: BackoffMax = None,
    idempotency_ttl: IdempotencyTtl = None,
    max_body_bytes: MaxBodyBytes = None,
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Create a queue and its dead-letter queue.

    An existing queue with these settings is left as it is; one with other settings is a conflict
    (exit code 5).

    Example: durableq queue create orders --visibility-timeout 60 --max-receives 5
    """
    changes = _changes(ctx)
    with opened(db, create=True) as store:
        found = _find(store, name)
        if found is not None and found.settings.changed(changes) != found.settings:
            raise Conflict(
                f"Queue {name!r} exists already with other settings. "
                f"Change them with `durableq queue set {name}`."
            )
        info = found or store.declare_queue(name, changes)
        done = "exists already" if found else f"created, with {info.dead_letter_queue}"
        _tell(info, done, as_json)


def set_(
    ctx: typer.Context,
    name: Name,
    visibility_timeout: VisibilityTimeout = None,
    delay: Delay = None,
    retention: Retention = None,
    max_receives: MaxReceives = None,
    max_recoveries: MaxRecoveries = None,
    backoff_base: BackoffBase = None,
    backoff_max: BackoffMax = None,
    idempotency_ttl: IdempotencyTtl = None,
    max_body_bytes: MaxBodyBytes = None,
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Change settings of a queue.

    Settings that are not given stay as they are. A change applies from the next message on. An
    application writes the settings that it declares again when it starts.

    Example: durableq queue set orders --max-receives 5
    """
    changes = _changes(ctx)
    if not changes:
        raise output.Misuse("Give a setting to change, such as --max-receives 5.")
    with opened(db) as store:
        store.require(Capability.INSPECT).queue(name)
        _tell(store.declare_queue(name, changes), "changed", as_json)


def list_(db: Db = None, as_json: Json = False) -> None:
    """List all queues, dead-letter queues too, with their settings.

    Example: durableq queue list
    """
    with opened(db) as store:
        infos = store.require(Capability.INSPECT).queues()
    if as_json:
        output.document([queue_document(info) for info in infos])
        return
    settings = [setting_words(info.settings) for info in infos]
    names = list(settings[0]) if settings else []
    tables.table(
        ("QUEUE", "MESSAGES", *(name.upper() for name in names)),
        [
            (info.name, info.counts.present, *words.values())
            for info, words in zip(infos, settings, strict=True)
        ],
    )


def purge(name: Name, yes: Yes = False, db: Db = None, as_json: Json = False) -> None:
    """Remove all messages of a queue, in flight too. Asks first.

    Example: durableq queue purge orders-dlq --yes
    """
    with opened(db) as store:
        present = store.require(Capability.INSPECT).queue(name).counts.present
        output.confirm(f"Remove all {present} messages of queue {name}, for good?", yes=yes)
        purged = store.require(Capability.CONTROL).purge(name)
    if as_json:
        output.document({"queue": name, "purged": purged})
    else:
        output.line(f"Purged {purged} messages of {name}.")


def delete(
    name: Name, force: Force = False, yes: Yes = False, db: Db = None, as_json: Json = False
) -> None:
    """Delete a queue and its dead-letter queue. Asks first.

    Its idempotency keys and history are deleted too. A queue with messages is not deleted (exit
    code 5) unless --force is given.

    Example: durableq queue delete orders --yes
    """
    with opened(db) as store:
        store.require(Capability.INSPECT).queue(name)
        output.confirm(f"Delete queue {name} and all that belongs to it, for good?", yes=yes)
        store.require(Capability.CONTROL).delete_queue(name, force=force)
    if as_json:
        output.document({"queue": name, "deleted": True})
    else:
        output.line(f"Deleted {name}.")


def pause(name: Name, db: Db = None, as_json: Json = False) -> None:
    """Stop deliveries from a queue.

    Sends are still accepted, and messages in flight are finished.

    Example: durableq queue pause orders
    """
    _set_paused(name, 1, "paused", db, as_json)


def resume(name: Name, db: Db = None, as_json: Json = False) -> None:
    """Resume deliveries from a paused queue.

    Example: durableq queue resume orders
    """
    _set_paused(name, 0, "resumed", db, as_json)


COMMANDS: Final = (create, set_, list_, purge, delete, pause, resume)


def _set_paused(name: str, paused: int, done: str, db: str | None, as_json: bool) -> None:
    with opened(db) as store:
        was = store.require(Capability.INSPECT).queue(name).settings.paused
        info = store.declare_queue(name, {"paused": paused})
    if as_json:
        output.document(queue_document(info))
    else:
        output.line(f"{name}: {done if was != paused else f'was {done} already'}.")


def _changes(ctx: typer.Context) -> dict[str, int]:
    """Return the given settings by their names in the store."""
    given: Any = {
        name: value for name, value in ctx.params.items() if name in OPTIONS and value is not None
    }
    return changes_from(**given)


def _find(store: Store, name: str) -> QueueInfo | None:
    try:
        return store.require(Capability.INSPECT).queue(name)
    except UnknownQueue:
        return None


def _tell(info: QueueInfo, done: str, as_json: bool) -> None:
    if as_json:
        output.document(queue_document(info))
    else:
        output.line(f"{info.name}: {done}.")
        tables.fields(list(setting_words(info.settings).items()))
