"""`durableq schedule`: list, show, pause, resume, run and remove schedules."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any, Final

from durableq.admin import schedules
from durableq.admin.schedules import LATE, ORPHANED, PAUSED, ScheduleView
from durableq.cli.help import argument
from durableq.cli.options import Session, person
from durableq.cli.output import fields
from durableq.cli.rendering import moment, moment_and_age
from durableq.cli.screen import RED, YELLOW
from durableq.cli.totals import say_total
from durableq.model.errors import InvalidInput
from durableq.model.schedules import Schedule
from durableq.model.units import span
from durableq.runtime.cron import in_zone, timing_of
from durableq.store.core import Capability

#: Slots that `show` lists.
NEXT: Final = 5
#: The colours of the states.
STATES: Final = {PAUSED: YELLOW, ORPHANED: YELLOW, LATE: RED}

Name = Annotated[str, argument("NAME", "Name of the schedule.")]


def list_(session: Session) -> None:
    """List the schedules: what they send, when, and what is next.

    STATE is waits, paused, late (its slot is due for more than a minute), orphaned (workers run,
    and none has it in its code) or no worker. Slots are shown in local time.

    Example: durableq schedule list
    """
    with session.opened() as store:
        store.require(Capability.SCHEDULES)
        found = schedules.look(store)
    columns: dict[str, Any] = {
        "SCHEDULE": lambda view: view.name,
        "QUEUE": lambda view: view.info.schedule.queue,
        "EVERY": lambda view: timing_words(view.info.schedule),
        "STATE": lambda view: view.state,
        "NEXT": lambda view: _slot(view.info.next_ms),
        "LAST": lambda view: _slot(view.info.last_ms),
        "SENT": lambda view: view.info.sent,
        "SKIPPED": lambda view: view.info.skipped,
    }
    colours: dict[str, Any] = {"STATE": lambda view: STATES.get(view.state, "")}
    say_total(session, session.table(found, ScheduleView.document, columns, colours), "schedule")


def show(session: Session, name: Name) -> None:
    """Show a schedule, its message and its next slots.

    Example: durableq schedule show nightly
    """
    with session.opened() as store:
        view = schedules.find(store, name)
    session.show(_document(view), *fields(_facts(view)))


def pause(session: Session, name: Name) -> None:
    """Pause a schedule: it sends nothing until it is resumed.

    The slots of the pause are not sent later.

    Example: durableq schedule pause nightly
    """
    _pause(session, name, paused=True)


def resume(session: Session, name: Name) -> None:
    """Let a paused schedule go on, with its next slot.

    Example: durableq schedule resume nightly
    """
    _pause(session, name, paused=False)


def run(session: Session, name: Name) -> None:
    """Send one message of a schedule now; its slots stay as they are.

    Example: durableq schedule run nightly
    """
    with session.opened() as store:
        queue, message_id = schedules.run_now(store, name, person())
    document = {"name": name, "queue": queue, "message_id": message_id}
    session.show(document, f"Sent message {message_id} of {queue}.")


def remove(session: Session, name: Name) -> None:
    """Remove a schedule; the messages that it has sent stay.

    An application that still has it in its code stores it again when it opens the database.

    Example: durableq schedule remove nightly
    """
    with session.opened() as store:
        view = schedules.find(store, name)
        store.require(Capability.SCHEDULES).remove_schedule(name, actor=person())
    again = ""
    if view.firing:
        again = " A running worker has it in its code: the next start of one stores it again."
    session.show({"name": name, "removed": True}, f"Removed schedule {name}.{again}")


COMMANDS: Final = (list_, show, pause, resume, run, remove)


def timing_words(schedule: Schedule) -> str:
    """Return when a schedule sends: the expression, and its zone unless that is UTC."""
    zone = "" if schedule.tz == "UTC" else f" {schedule.tz}"
    return f"{schedule.timing}{zone}"


def _pause(session: Session, name: str, *, paused: bool) -> None:
    with session.opened() as store:
        of = store.require(Capability.SCHEDULES)
        of.pause_schedule(name, paused=paused, actor=person())
        view = schedules.find(store, name)
    told = (
        f"{name} is paused." if paused else f"{name}: the next slot is {_slot(view.info.next_ms)}."
    )
    session.show(_document(view), told)


def _slot(slot_ms: int | None) -> str:
    return "-" if slot_ms is None else moment(slot_ms)


def next_slots(view: ScheduleView) -> list[datetime]:
    """Return the next slots in the zone of the schedule; none where this machine cannot tell."""
    schedule, slot_ms = view.info.schedule, view.info.next_ms
    found: list[datetime] = []
    try:
        timing = timing_of(schedule.timing, schedule.tz)
        while slot_ms is not None and len(found) < NEXT:
            found.append(in_zone(slot_ms, schedule.tz))
            slot_ms = timing.after(slot_ms)
    except InvalidInput:
        return found
    return found


def _facts(view: ScheduleView) -> list[tuple[str, str]]:
    info, schedule = view.info, view.info.schedule
    limit = f", at most {schedule.catch_up_limit}" if schedule.catch_up.value == "all" else ""
    last = "-" if info.last_ms is None else moment_and_age(info.last_ms)
    late = f", its slot is due for {span(info.late_ms)}" if info.late_ms else ""
    return [
        ("schedule", view.name),
        ("queue", schedule.queue),
        ("every", timing_words(schedule)),
        ("state", view.state + late),
        ("workers", f"{view.firing} of {view.running} that run have it in their code"),
        ("next slots", ", ".join(slot.isoformat() for slot in next_slots(view)) or "-"),
        ("last slot", last),
        ("sent", f"{info.sent}, skipped {info.skipped}"),
        ("catch up", f"{schedule.catch_up.value}{limit}"),
        ("body", schedule.body),
        ("attributes", schedule.attributes),
    ]


def _document(view: ScheduleView) -> dict[str, Any]:
    schedule = view.info.schedule
    return view.document() | {
        "next_slots": [slot.isoformat() for slot in next_slots(view)],
        "body": json.loads(schedule.body),
        "attributes": json.loads(schedule.attributes),
        "priority": schedule.priority,
        "group": schedule.group,
        "expires_in_ms": schedule.expires_in_ms,
    }
