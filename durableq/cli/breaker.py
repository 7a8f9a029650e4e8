"""`durableq breaker`: the circuit breakers of queues, shown, opened and closed by hand."""

from __future__ import annotations

from typing import Annotated, Any, Final

from durableq.cli.help import argument, option
from durableq.cli.options import Session, person
from durableq.cli.screen import RED, YELLOW
from durableq.cli.totals import say_total
from durableq.model.flow.breaker import Phase
from durableq.model.info import BreakerInfo
from durableq.model.limits import MAX_DELAY_MS
from durableq.model.text import visible
from durableq.model.units import span, to_ms
from durableq.store.core import Capability

#: The colours of the phases.
PHASES: Final = {Phase.CLOSED: "", Phase.HALF_OPEN: YELLOW, Phase.OPEN: RED}

Name = Annotated[str, argument("QUEUE", "Name of the queue.")]
Names = Annotated[list[str] | None, argument("[QUEUE]", "Names of queues; all that have one.")]


def show(session: Session, names: Names = None) -> None:
    """Show circuit breakers: their phase, the reason, and the last changes.

    Without a name, those of all queues that have one. With --json there are all changes that are
    kept.

    Example: durableq breaker show orders
    """
    with session.opened() as store:
        control = store.require(Capability.CONTROL)
        wanted = names or [
            info.name
            for info in store.require(Capability.INSPECT).queues()
            if info.settings.breaker
        ]
        found = [control.breaker(name) for name in wanted]
    columns: dict[str, Any] = {
        "QUEUE": lambda info: info.queue,
        "BREAKER": _phase,
        "FOR": lambda info: span(info.age_ms) if info.reason else "",
        "PROBES IN": lambda info: span(info.left_ms) if info.left_ms else "",
        "TRIPS": lambda info: info.trips,
        "REASON": lambda info: visible(info.reason),
    }
    colours: dict[str, Any] = {"BREAKER": lambda info: PHASES[info.phase] if info.is_on else ""}
    say_total(session, session.table(found, _document, columns, colours), "breaker")


def open_(
    session: Session,
    name: Name,
    seconds: float | None = option(
        "--seconds SECONDS", "How long, before it probes.", None, min=0.001
    ),
) -> None:
    """Open the breaker of a queue: no process receives from it.

    Without --seconds it stays open as long as it would by itself: the queue's breaker-open, twice
    as long each time in a row. Then it probes. To stop a queue without an end, pause it.

    Example: durableq breaker open orders --seconds 600
    """
    open_ms = None if seconds is None else to_ms(seconds, "--seconds", MAX_DELAY_MS)
    with session.opened() as store:
        control = store.require(Capability.CONTROL)
        info = control.set_breaker(name, is_open=True, open_ms=open_ms, actor=person())
    session.show(
        _document(info), f"{name}: its breaker is open, and probes in {span(info.left_ms)}."
    )


def close(session: Session, name: Name) -> None:
    """Close the breaker of a queue, without waiting for probes.

    If what it protects is still down, it opens again by the same rules.

    Example: durableq breaker close orders
    """
    with session.opened() as store:
        control = store.require(Capability.CONTROL)
        info = control.set_breaker(name, is_open=False, actor=person())
    session.show(_document(info), f"{name}: its breaker is closed.")


COMMANDS: Final = (show, open_, close)


def _phase(info: BreakerInfo) -> str:
    return info.phase.label if info.is_on else "off"


def _document(info: BreakerInfo) -> dict[str, Any]:
    return {
        "queue": info.queue,
        "is_on": info.is_on,
        "phase": info.phase.value,
        "age_ms": info.age_ms,
        "left_ms": info.left_ms,
        "trips": info.trips,
        "failed": info.failed,
        "judged": info.judged,
        "reason": info.reason,
        "transitions": [
            {"at_ms": event.at_ms, "actor": event.actor, **event.detail}
            for event in info.transitions
        ],
    }
