"""`durableq message`: cancel single messages, delay them until another time, or run them now."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Final

from durableq.cli import output, rendering
from durableq.cli.help import argument, option
from durableq.cli.options import Session, Yes, person
from durableq.cli.times import time_of
from durableq.model.control import check_refusals
from durableq.model.limits import MAX_DELAY_MS
from durableq.model.message import Refusal
from durableq.model.units import to_ms, wall_ms
from durableq.store.core import Capability

#: Messages in one transaction, so that other writers wait only briefly.
PAGE: Final = 100

Ids = Annotated[list[str], argument("ID", "Ids of messages.")]
Note = Annotated[str | None, option("--note TEXT", "Reason to record in the history.")]
#: Changes a page of messages and returns the refusals.
_Change = Callable[[Sequence[str]], list[Refusal | None]]


def cancel(session: Session, ids: Ids, note: Note = None, yes: Yes = False) -> None:
    """Remove messages that are not in flight. Asks first.

    They are counted as cancelled, and `durableq show` still tells who cancelled them. Messages that
    are in flight, dead letters, or not there are left alone, which is a conflict (exit code 5); a
    single message that is not there is not found (exit code 3).

    Example: durableq message cancel 17 18
    """
    ids = [*dict.fromkeys(ids)]
    named = f"message {ids[0]}" if len(ids) == 1 else rendering.messages(len(ids))
    with session.opened() as store:
        output.confirm(f"Cancel {named}, for good?", yes=yes)
        control = store.require(Capability.CONTROL)
        _change(session, ids, "cancelled", partial(control.cancel, actor=person(), note=note or ""))


def reschedule(
    session: Session,
    ids: Ids,
    delay: float | None = option("--delay SECONDS", "Wait from now.", None, min=0),
    at: str | None = option("--at TIME", "Time instead, such as 2027-01-31T09:00.", None),
    note: Note = None,
) -> None:
    """Delay messages that are ready or delayed until another time.

    TIME is in the local time zone unless it names another (2027-01-31T09:00+01:00). A message that
    waits behind another one with its key stays behind it. Refusals and exit codes are those of
    `durableq message cancel`.

    Example: durableq message reschedule 17 --delay 3600
    """
    if (delay is None) == (at is None):
        raise output.Misuse("Give either --delay or --at: the time from which to receive them.")
    delay_ms = 0 if delay is None else to_ms(delay, "--delay", MAX_DELAY_MS)
    at_ms = None if at is None else wall_ms(time_of(at, "--at"))
    with session.opened() as store:
        control = store.require(Capability.CONTROL)
        by = {"actor": person(), "note": note or ""}
        change = partial(control.reschedule, delay_ms=delay_ms, at_ms=at_ms, **by)
        _change(session, ids, "rescheduled", change)


def run_now(session: Session, ids: Ids, note: Note = None) -> None:
    """Make delayed messages ready at once, retries too.

    A message that is ready already does not change. One that waits behind another one with its key
    is refused: it is ready as soon as that one is settled. Other refusals and exit codes are those
    of `durableq message cancel`.

    Example: durableq message run-now 17
    """
    with session.opened() as store:
        control = store.require(Capability.CONTROL)
        _change(session, ids, "ready", partial(control.reschedule, actor=person(), note=note or ""))


COMMANDS: Final = (cancel, reschedule, run_now)


def _change(session: Session, ids: Sequence[str], done: str, change: _Change) -> None:
    """Change messages, a page at a time, and print which were changed.

    Raises:
        UnknownMessage, Refused: as `check_refusals` raises them.
    """
    ids, refusals = [*dict.fromkeys(ids)], list[Refusal | None]()
    for start in range(0, len(ids), PAGE):
        refusals += change(ids[start : start + PAGE])
    answers = dict(zip(ids, refusals, strict=True))
    changed = [one for one, why in answers.items() if why is None]
    refused = {one: str(why) for one, why in answers.items() if why is not None}
    text = f"{done.capitalize()}: {rendering.messages(len(changed))}."
    session.show({done: changed, "refused": refused}, text)
    check_refusals(ids, refusals)
