"""Recovery: its processes, its breakers and decisions; and the breakers of queues."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from durableq.admin.status import Overview, QueueView
from durableq.cli import rendering
from durableq.dashboard.visit import Visit
from durableq.model.dead_letters import RECOVERY_ACTOR, DecisionCount
from durableq.model.flow.breaker import Phase
from durableq.model.limits import SEARCHED
from durableq.model.message import Event
from durableq.model.units import span
from durableq.recovery.circuit_breaker import BreakerState
from durableq.store.core import Capability

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
#: Different decisions of a queue that are read, the most frequent.
MAX_COUNTS: Final = 200
#: Rows of decisions in a page.
MAX_ROWS: Final = 100
#: A rule at the beginning of a reason; its text, or an error, follows.
_RULE: Final = re.compile(r'rule (?:"[^"]*"|[0-9]+)(?=: |\Z)')
_DONE: Final = {
    Event.DISCARDED: "discarded",
    Event.RETRIED: "retried, changed",
    Event.REQUEUED: "requeued",
    Event.HELD: "held",
}


class BreakerRow(NamedTuple):
    """The breaker of recovery for one queue."""

    queue: str
    state: BreakerState
    why: str


@dataclass
class Decisions:
    """The decisions of one kind by one rule about the dead letters of one queue."""

    queue: str
    #: The rule; without one the reason that a policy gave.
    by: str
    done: str
    hour: int = 0
    day: int = 0
    #: The wall-clock time of the last one.
    at_ms: int = 0


def values(visit: Visit) -> dict[str, Any]:
    """Return the values of the page."""
    seen, control = visit.look.overview(), visit.store.require(Capability.CONTROL)
    decided, partial = _decisions(visit, seen)
    return {
        "processes": [view for view in seen.workers if view.info.name.startswith(RECOVERY_ACTOR)],
        "breakers": [
            BreakerRow(queue, state, _why(state)) for queue, state in sorted(seen.breakers.items())
        ],
        "decisions": decided[:MAX_ROWS],
        "left": max(0, len(decided) - MAX_ROWS),
        "partial": partial,
        "searched": SEARCHED,
        "rules": visit.rules.source,
        "queue_breakers": [
            control.breaker(view.info.name) for view in seen.queues if view.info.settings.breaker
        ],
    }


def _why(state: BreakerState) -> str:
    """Return the reason of a breaker's phase as a sentence."""
    if state.phase is Phase.OPEN:
        return (
            f"{state.died:,} of {state.judged:,} messages that recovery sent back died again. It "
            f"probes in {span(state.left_ms(rendering.now_ms()))}."
        )
    if state.phase is Phase.HALF_OPEN:
        return f"A few messages go back as probes; {len(state.probes)} so far."
    if not state.seen:
        return "No message that was sent back since has ended."
    died = sum(result.died for result in state.seen)
    return f"{died} of the last {len(state.seen)} messages that were sent back died again."


def _decisions(visit: Visit, seen: Overview) -> tuple[list[Decisions], list[str]]:
    """Return the decisions of a day, and the queues with more events than are looked at."""
    found: dict[tuple[str, str, str], Decisions] = {}
    partial = []
    for view in filter(_was_decided, seen.queues):
        for window, counts, is_partial in _counts(visit, view.info.name):
            for count in counts:
                _add(found, view.info.name, window, count)
            if is_partial:
                partial.append(view.info.name)
    rows = sorted(found.values(), key=lambda row: (-row.day, row.queue, row.by, row.done))
    return rows, list(dict.fromkeys(partial))


def _was_decided(view: QueueView) -> bool:
    """Return whether a dead letter of a queue was ever decided about."""
    total = view.dead.counters
    return bool(total.moved_out or total.discarded or view.dead_letters.held)


def _counts(visit: Visit, queue: str) -> Iterator[tuple[str, list[DecisionCount], bool]]:
    dead_letters, now_ms = visit.store.require(Capability.DEAD_LETTERS), rendering.now_ms()
    for window, length_ms in (("hour", HOUR_MS), ("day", DAY_MS)):
        answer = dead_letters.recovery_decisions(queue, now_ms - length_ms, MAX_COUNTS)
        yield window, answer.counts, answer.is_partial


def _add(
    found: dict[tuple[str, str, str], Decisions], queue: str, window: str, count: DecisionCount
) -> None:
    rule = _RULE.match(count.reason)
    by, done = rule[0] if rule else count.reason, _DONE[count.event]
    row = found.setdefault((queue, by, done), Decisions(queue, by, done))
    setattr(row, window, getattr(row, window) + count.number)
    row.at_ms = max(row.at_ms, count.at_ms)
