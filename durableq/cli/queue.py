"""`durableq queue`: queues as things."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from durableq.cli import output
from durableq.cli.options import Db, Json, Yes, opened
from durableq.cli.rendering import queue_document, setting_words
from durableq.model.errors import Conflict, UnknownQueue
from durableq.model.queues import OPTIONS, changes_from
from durableq.store.core import Capability, QueueInfo, Store

Name = Annotated[str, typer.Argument(help="The queue's name.")]


def _seconds(what: str) -> Any:
    return typer.Option(metavar="SECONDS", help=what)


VisibilityTimeout = Annotated[float | None, _seconds("How long a receive leases a message.")]
Delay = Annotated[float | None, _seconds("How long a message waits before its first receive.")]
Retention = Annotated[float | None, _seconds("How long an undelivered message is kept.")]
MaxReceives = Annotated[
    int | None, typer.Option(help="Receives without success, then the dead-letter queue.")
]
MaxRecoveries = Annotated[int | None, typer.Option(help="Recoveries, then held for a person.")]
BackoffBase = Annotated[float | None, _seconds("Wait after the first failure; it doubles.")]
BackoffMax = Annotated[float | None, _seconds("The longest wait after a failure.")]
IdempotencyTtl = Annotated[float | None, _seconds("How long a completed key is remembered.")]
MaxBodyBytes = Annotated[int | None, typer.Option(help="The largest body.")]
Force = Annotated[bool, typer.Option("--force", help="Even if messages are there.")]


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

    A queue that is there already with these settings is left as it is; with others, it is a
    conflict (exit code 5).

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
    """Change settings of a queue; those not given stay. They hold from the next message on.

    What an application declares in its code is written again when that starts.

    Example: durableq queue set orders --max-receives 5
    """
    changes = _changes(ctx)
    if not changes:
        raise output.Misuse("Give a setting to change, such as --max-receives 5.")
    with opened(db) as store:
        store.require(Capability.INSPECT).queue(name)
        _tell(store.declare_queue(name, changes), "changed", as_json)


def list_(db: Db = None, as_json: Json = False) -> None:
    """List all queues with their settings; each dead-letter queue is one too.

    Example: durableq queue list
    """
    with opened(db) as store:
        infos = store.require(Capability.INSPECT).queues()
    if as_json:
        output.document([queue_document(info) for info in infos])
        return
    settings = [setting_words(info.settings) for info in infos]
    names = list(settings[0]) if settings else []
    output.table(
        ("QUEUE", "MESSAGES", *(name.upper() for name in names)),
        [
            (info.name, info.counts.present, *words.values())
            for info, words in zip(infos, settings, strict=True)
        ],
    )


def purge(name: Name, yes: Yes = False, db: Db = None, as_json: Json = False) -> None:
    """Remove every message of a queue, leased ones too. Asks first.

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
    """Delete a queue with its dead-letter queue, records and history. Asks first.

    A queue with messages is not deleted (exit code 5) unless --force is given.

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
    """Let nothing more be received from a queue: sends are accepted, what is in hand is finished.

    Example: durableq queue pause orders
    """
    _set_paused(name, 1, "paused", db, as_json)


def resume(name: Name, db: Db = None, as_json: Json = False) -> None:
    """Let a paused queue be received from again.

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
    """Return the settings that were given, as the store names them."""
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
        output.fields(list(setting_words(info.settings).items()))
