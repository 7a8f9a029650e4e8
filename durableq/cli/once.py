"""`durableq once`: list, show and forget values that one process computes for all."""

from __future__ import annotations

from typing import Annotated, Any, Final

from durableq.cli.help import argument, option
from durableq.cli.options import Limit, Session
from durableq.cli.output import fields
from durableq.cli.rendering import moment, moment_and_age, now_ms
from durableq.cli.totals import MOST_COUNTED, counted, say_total
from durableq.client.computing import OWNER, owner_of
from durableq.model import codec
from durableq.model.drafts import check_key
from durableq.model.errors import InvalidBody, NotFound
from durableq.model.info import WorkerInfo
from durableq.model.once import OnceEntry
from durableq.model.text import shown, visible
from durableq.model.units import span
from durableq.store.core import Capability

VALUE_COLUMNS: Final = 60

Key = Annotated[str, argument("KEY", "Key of the value.")]


def get(session: Session, key: Key) -> None:
    """Show the value of a key, and the process that computes the next one.

    Example: durableq once get rates
    """
    check_key(key)
    with session.opened() as store:
        entry = store.require(Capability.ONCE).once_entry(key)
    if entry is None:
        raise _unknown(key)
    session.show(_document(entry), *fields(_facts(entry)))


def list_(
    session: Session,
    limit: Limit = 50,
    after: str | None = option("--after KEY", "Start after this key, for the next page.", None),
) -> None:
    """List the values in order of their keys.

    Example: durableq once list --limit 10
    """
    with session.opened() as store:
        once = store.require(Capability.ONCE)
        entries = once.once_entries(limit, after)
        number = 0 if session.as_json else once.count_once(MOST_COUNTED + 1)
    keys = session.table(
        entries,
        _document,
        {
            "KEY": lambda entry: entry.key,
            "STATE": state_of,
            "EXPIRES": lambda entry: moment(entry.expires_at_ms) if entry.value else "-",
            "COMPUTED_IN": lambda entry: span(entry.compute_ms) if entry.value else "-",
            "COMPUTED_BY": computed_by,
            "VALUE": lambda entry: visible(entry.value or "", VALUE_COLUMNS),
        },
    )
    say_total(session, keys, "value", limit, counted(number))


def forget(session: Session, key: Key) -> None:
    """Forget a value, so that the next call computes it.

    A value that is computed meanwhile is not stored.

    Example: durableq once forget rates
    """
    check_key(key)
    with session.opened() as store:
        if not store.require(Capability.ONCE).once_forget(key):
            raise _unknown(key)
    session.show({"key": key, "forgotten": True}, f"Forgot the value of {visible(key)}.")


COMMANDS: Final = (get, list_, forget)


def state_of(entry: OnceEntry) -> str:
    """Return `fresh`, `stale`, or `none` before the first value."""
    if not entry.has_value(now_ms()):
        return "none"
    return "fresh" if entry.is_fresh(now_ms()) else "stale"


def _owner(entry: OnceEntry) -> WorkerInfo | None:
    return owner_of(entry) if entry.is_leased else None


def computed_by(entry: OnceEntry) -> str:
    """Return the process that computes the next value, in words; `-` if none does."""
    owner = _owner(entry)
    if owner is None:
        return "another process" if entry.is_leased else "-"
    return f"pid {owner.pid}"


def _facts(entry: OnceEntry) -> list[tuple[str, str]]:
    told = [("key", entry.key), ("state", state_of(entry))]
    if entry.value is not None:
        told += [
            ("computed", f"{moment_and_age(entry.created_at_ms)}, in {span(entry.compute_ms)}"),
            ("expires", moment(entry.expires_at_ms)),
            ("stale until", moment(entry.stale_until_ms)),
        ]
    lease = f", lease {span(entry.lease_left_ms)}" if entry.is_leased else ""
    return [*told, ("computed by", computed_by(entry) + lease), ("value", entry.value or "-")]


def _document(entry: OnceEntry) -> dict[str, Any]:
    owner = _owner(entry)
    return {
        "key": entry.key,
        "state": state_of(entry),
        "value": _decoded(entry),
        "created_at_ms": entry.created_at_ms,
        "expires_at_ms": entry.expires_at_ms,
        "stale_until_ms": entry.stale_until_ms,
        "compute_ms": entry.compute_ms,
        "lease_left_ms": entry.lease_left_ms,
        "owner": None if owner is None else {name: getattr(owner, name) for name in OWNER},
    }


def _decoded(entry: OnceEntry) -> Any:
    """Return the value; its text if it is not JSON, which another program has written."""
    try:
        return None if entry.value is None else codec.decode(entry.value)
    except InvalidBody:
        return entry.value


def _unknown(key: str) -> NotFound:
    return NotFound(f"There is no value of {shown(key)}, and no process computes it.")
