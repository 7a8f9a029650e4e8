"""`durableq queue`: create, change, list, pause, purge and delete queues."""

from __future__ import annotations

import dataclasses
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, Final

from durableq.cli import output
from durableq.cli.help import argument, option
from durableq.cli.options import Session, Yes
from durableq.cli.rendering import limit_words, messages, queue_document, setting_words
from durableq.cli.screen import YELLOW
from durableq.cli.totals import say_total
from durableq.model.errors import Conflict, UnknownQueue
from durableq.model.queues import DEAD_LETTER_QUEUE, settings_of_changes
from durableq.model.settings import SETTINGS, Kind, QueueSettings, changes_from
from durableq.model.text import shown
from durableq.store.core import Capability, QueueInfo

Name = Annotated[str, argument("QUEUE", "Name of the queue.")]


def _setting(field: str, text: str, placeholder: str = "SECONDS") -> Any:
    """Declare the option of a setting; its default is that of a new queue."""
    value = getattr(QueueSettings(), field)
    default = f"{value / 1000:.15g}" if field.endswith("_ms") else value
    return option(placeholder, text, None, show_default=f"{default} in a new queue")


def _limit(field: str, text: str, placeholder: str = "SECONDS") -> Any:
    """Declare the option of a limit; its default is that of a new queue."""
    setting = SETTINGS[field]
    if setting.kind is Kind.SWITCH:
        placeholder = "ON|OFF"
    if setting.kind is Kind.CHOICE:
        placeholder = "|".join(setting.names).upper()
    default = setting_words(QueueSettings())[field.removesuffix("_ms")]
    return option(placeholder, text, None, section="Limits", show_default=default)


@dataclass(frozen=True)
class Settings:
    """Settings of a queue; None leaves one as it is."""

    visibility_timeout: float | None = _setting(
        "visibility_timeout_ms", "Lease of a received message."
    )
    delay: float | None = _setting("delay_ms", "Wait before the first receive.")
    retention: float | None = _setting("retention_ms", "How long an undelivered message is kept.")
    max_receives: str | None = _setting(
        "max_receives", "Receives before the dead-letter queue, or off.", "N"
    )
    max_recoveries: int | None = _setting(
        "max_recoveries", "Recoveries before a dead letter is held for a person.", "N"
    )
    backoff_base: float | None = _setting(
        "backoff_base_ms", "Wait after the first failure; it doubles."
    )
    backoff_max: float | None = _setting("backoff_max_ms", "Longest wait after a failure.")
    idempotency_ttl: float | None = _setting(
        "idempotency_ttl_ms", "How long a completed key is kept."
    )
    max_body_bytes: int | None = _setting("max_body_bytes", "Largest body.", "BYTES")
    rate: str | None = _limit("rate", "Messages received in a second, by all workers.", "N")
    burst: str | None = _limit("burst", "Messages at once after a quiet time.", "N")
    max_in_flight: str | None = _limit("max_in_flight", "Messages in flight at once.", "N")
    group_concurrency: str | None = _limit(
        "group_concurrency", "In flight of one group; 1 keeps their order.", "N"
    )
    group_on_dead: str | None = _limit(
        "group_on_dead", "After a dead letter a group goes on, or waits."
    )
    group_rate: str | None = _limit("group_rate", "As --rate, for each group.", "N")
    group_burst: str | None = _limit("group_burst", "As --burst, for each group.", "N")
    breaker: str | None = _limit("breaker", "Stop the queue when what it calls fails.")
    breaker_share: str | None = _limit("breaker_share", "Share that opens it.", "SHARE")
    breaker_minimum: str | None = _limit(
        "breaker_minimum", "It stays closed with fewer messages.", "N"
    )
    breaker_window: str | None = _limit("breaker_window_ms", "Time that counts.")
    breaker_open: str | None = _limit("breaker_open_ms", "First time that it stays open.")
    breaker_open_max: str | None = _limit("breaker_open_max_ms", "Longest time; it doubles.")
    breaker_probes: str | None = _limit("breaker_probes", "In flight while it probes.", "N")
    slow_start: str | None = _limit("slow_start_ms", "Time to the whole rate after it closed.")
    retry_share: str | None = _limit(
        "retry_share", "Part of the deliveries that may be retries.", "SHARE"
    )
    max_backlog: str | None = _limit(
        "max_backlog", "Messages stored at most, those in flight included.", "N"
    )
    max_backlog_bytes: str | None = _limit(
        "max_backlog_bytes", "Bytes of bodies stored at most.", "BYTES"
    )
    on_full: str | None = _limit("on_full", "What a send to a full queue does.")
    block_timeout: str | None = _limit("block_timeout_ms", "How long it waits for room.")
    min_free_bytes: str | None = _limit(
        "min_free_bytes", "Free space below which sends are refused.", "BYTES"
    )
    deduplication_window: str | None = _limit(
        "deduplication_window_ms", "How long a deduplication id is known."
    )
    expires_in: str | None = _limit("expires_in_ms", "How long a message waits for success.")
    on_expiry: str | None = _limit("on_expiry", "What happens to it then.")
    priority_aging: str | None = _limit(
        "priority_aging_ms", "Waiting that is worth a level of priority."
    )
    bury_at: str | None = _limit(
        "bury_at", "When a message has had all its receives: at the last failure, or the next one."
    )
    dead_letter_queue: str | None = option(
        "QUEUE",
        "Where its dead letters go; its own is NAME-dlq.",
        None,
        show_default="NAME-dlq in a new queue",
    )

    def changes(self) -> dict[str, Any]:
        """Return the given settings by their names in the store."""
        given: Any = {
            option: value if option in _AS_GIVEN else _parsed(option, value)
            for option, value in vars(self).items()
            if value is not None
        }
        return changes_from(**given)


#: Options that the command line parses as numbers, and the name of a queue.
_AS_GIVEN: Final = frozenset(
    each.name
    for each in dataclasses.fields(Settings)
    if "str" not in str(each.type) or each.name == DEAD_LETTER_QUEUE
)


def _parsed(option: str, text: str) -> Any:
    """Return the value of a limit as Python users write it."""
    setting = SETTINGS[option if option in SETTINGS else f"{option}_ms"]
    text = text.lower()
    if setting.kind is Kind.SWITCH and text in {"on", "off"}:
        return text == "on"
    if setting.can_be_off and text == "off":
        return None
    if setting.kind is Kind.CHOICE:
        return text
    with suppress(ValueError):
        return int(text) if setting.kind is Kind.WHOLE else float(text)
    takes = "on or off" if setting.kind is Kind.SWITCH else setting.kind.value
    off = ", or off" if setting.can_be_off else ""
    raise output.Misuse(f"--{option.replace('_', '-')} takes {takes}{off}, got {shown(text)}.")


def create(session: Session, settings: Settings, name: Name) -> None:
    """Create a queue and its dead-letter queue.

    An existing queue with these settings is left as it is; one with other settings is a conflict
    (exit code 5).

    Example: durableq queue create orders --visibility-timeout 60 --max-receives 5
    """
    changes = settings.changes()
    with session.opened(create=True) as store:
        found = None
        with suppress(UnknownQueue):
            found = store.require(Capability.INSPECT).queue(name)
        if found is not None and _differs(found, changes):
            raise Conflict(
                f"Queue {name!r} exists already with other settings. "
                f"Change them with `durableq queue set {name}`."
            )
        info = found or store.declare_queue(name, changes)
    _show(session, info, "exists already" if found else f"created, with {info.dead_letter_queue}")


def set_(session: Session, settings: Settings, name: Name) -> None:
    """Change settings of a queue.

    Settings that are not given stay as they are. A change applies from the next message on. An
    application writes the settings that it declares again when it starts.

    Example: durableq queue set orders --max-receives 5
    """
    changes = settings.changes()
    if not changes:
        raise output.Misuse("Give a setting to change, such as --max-receives 5.")
    with session.opened() as store:
        store.require(Capability.INSPECT).queue(name)
        info = store.declare_queue(name, changes)
    _show(session, info, "changed")


def list_(session: Session) -> None:
    """List all queues, dead-letter queues too, with their settings.

    Example: durableq queue list
    """
    with session.opened() as store:
        infos = store.require(Capability.INSPECT).queues()
    columns: dict[str, Any] = {
        "QUEUE": lambda info: info.name,
        "MESSAGES": lambda info: info.counts.present,
    }
    for setting in setting_words(QueueSettings(), limits=False):
        columns[setting.upper()] = lambda info, name=setting: setting_words(info.settings)[name]
    columns["LIMITS"] = lambda info: limit_words(info.settings)
    colours: dict[str, Any] = {"PAUSED": lambda info: YELLOW if info.settings.paused else ""}
    say_total(session, session.table(infos, queue_document, columns, colours), "queue")


def purge(session: Session, name: Name, yes: Yes = False) -> None:
    """Remove all messages of a queue, in flight too. Asks first.

    Example: durableq queue purge orders-dlq --yes
    """
    with session.opened() as store:
        present = store.require(Capability.INSPECT).queue(name).counts.present
        question = f"Remove all {messages(present)} of queue {name}, for good?"
        output.confirm(question, yes=yes)
        purged = store.require(Capability.CONTROL).purge(name)
    session.show({"queue": name, "purged": purged}, f"Purged {messages(purged)} of {name}.")


def delete(
    session: Session,
    name: Name,
    force: bool = option("--force", "Delete the queue even if it has messages.", False),
    yes: Yes = False,
) -> None:
    """Delete a queue and its private dead-letter queue. Asks first.

    Its idempotency keys and history are deleted too. A queue with messages, or one that is the
    dead-letter queue of others, is not deleted (exit code 5) unless --force is given.

    Example: durableq queue delete orders --yes
    """
    with session.opened() as store:
        store.require(Capability.INSPECT).queue(name)
        output.confirm(f"Delete queue {name} and all that belongs to it, for good?", yes=yes)
        store.require(Capability.CONTROL).delete_queue(name, force=force)
    session.show({"queue": name, "deleted": True}, f"Deleted {name}.")


def pause(session: Session, name: Name) -> None:
    """Stop deliveries from a queue.

    Sends are still accepted, and messages in flight are finished.

    Example: durableq queue pause orders
    """
    _set_paused(session, name, 1, "paused")


def resume(session: Session, name: Name) -> None:
    """Resume deliveries from a paused queue.

    Example: durableq queue resume orders
    """
    _set_paused(session, name, 0, "resumed")


COMMANDS: Final = (create, set_, list_, purge, delete, pause, resume)


def _differs(info: QueueInfo, changes: dict[str, Any]) -> bool:
    """Return whether changes would change a queue."""
    settings = settings_of_changes(changes)
    named = changes.get(DEAD_LETTER_QUEUE, info.dead_letter_queue)
    return info.settings.changed(settings) != info.settings or named != info.dead_letter_queue


def _set_paused(session: Session, name: str, paused: int, done: str) -> None:
    with session.opened() as store:
        was = store.require(Capability.INSPECT).queue(name).settings.paused
        info = store.declare_queue(name, {"paused": paused})
    done = done if was != paused else f"was {done} already"
    session.show(queue_document(info), f"{name}: {done}.")


def _show(session: Session, info: QueueInfo, done: str) -> None:
    settings = output.fields(list(setting_words(info.settings).items()))
    session.show(queue_document(info), f"{info.name}: {done}.", *settings)
