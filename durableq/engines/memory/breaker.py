"""The circuit breakers of queues."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from durableq.engines.memory.tables import Row, Tables
from durableq.model.flow.breaker import Phase
from durableq.model.flow.queue_breaker import (
    COUNTED,
    NEW,
    At,
    QueueBreaker,
    judge,
    on_receive,
    settings_of,
)
from durableq.model.message import Event, Failure, HistoryEvent, State


class Now(NamedTuple):
    """The moment of an operation."""

    #: Steady time.
    now_ms: int
    #: Lease time.
    lease_ms: int


def subject(queue: str) -> str:
    """Return the name under which the history keeps the events of a queue."""
    return f"-{queue}"


def state_of(tables: Tables, queue: str) -> QueueBreaker:
    """Return the state of a queue's breaker."""
    return tables.breakers.get(queue, NEW)


def closed_at_ms(tables: Tables, queue: str) -> int:
    """Return when a breaker that is on closed; 0 if it is not closed, or never opened."""
    state = state_of(tables, queue)
    is_closed = tables.queues[queue].settings.breaker and state.phase is Phase.CLOSED
    return state.since_ms if is_closed else 0


def at(tables: Tables, queue: str, now: Now, rng: float = 0.0) -> At:
    """Return the moment as the rules of the breaker know it."""
    return At(now.lease_ms, tables.queues[queue].counters.completed, rng)


def save(tables: Tables, queue: str, after: QueueBreaker, now: Now, actor: str = "") -> None:
    """Store a state; record a change of phase."""
    before = state_of(tables, queue)
    tables.breakers[queue] = after
    if (after.phase, after.since_ms) != (before.phase, before.since_ms):
        name, event = subject(queue), Event.BREAKER
        told = HistoryEvent(name, queue, event, now.now_ms, actor, detail=after.transition)
        tables.add_event(told)


def judge_failure(
    tables: Tables, row: Row, failure: Failure, now: Now, rng: Callable[[], float]
) -> bool:
    """Apply the effect of a failure; return whether the receive is not counted."""
    if failure.reason not in COUNTED:
        return False
    state, of = state_of(tables, row.queue), (row.queue, row.id)
    known, options = tables.failures.get(of), tables.queues[row.queue].settings
    judged = judge(state, known, row.id, failure, at(tables, row.queue, now, rng()), options)
    if judged.record is not None:
        tables.failures[of] = judged.record
    save(tables, row.queue, judged.state, now)
    return judged.is_uncounted


def admitted(
    tables: Tables, queue: str, limit: int, ready: list[Row], now: Now
) -> tuple[int, list[Row]]:
    """Return the number of messages that a receive may lease, and the ready ones it looks at.

    An open breaker begins to probe when its time is over, and one that probes may close.
    """
    state = _now(tables, queue, now)
    save(tables, queue, state, now)
    places = state.places(_taken(tables, queue), settings_of(tables.queues[queue].settings))
    return (limit, ready) if places is None else (min(limit, places), probes(tables, queue, ready))


def probes(tables: Tables, queue: str, ready: Sequence[Row]) -> list[Row]:
    """Return the ready messages of a half-open queue that may be probes, in order.

    Messages that have not raised Unavailable; or if none is ready and none is in flight, those that
    have, the one that raised it longest ago first.
    """
    raised = {
        row.id: record.at_ms
        for row in ready
        if (record := tables.failures.get((queue, row.id))) is not None and record.uncounted
    }
    fresh = [row for row in ready if row.id not in raised]
    if fresh or _taken(tables, queue):
        return fresh
    return sorted(ready, key=lambda row: raised[row.id])


def wait_ms(tables: Tables, row: Row, due_ms: int, ready: Sequence[Row], now: Now) -> int | None:
    """Return the time until the breaker lets a message through; None: not before a lease ends.

    Args:
        tables: the tables.
        row: the message.
        due_ms: the time until it is due; 0 if it is ready.
        ready: the ready messages of its queue.
        now: the moment.
    """
    state = _now(tables, row.queue, now)
    if state.phase is Phase.CLOSED:
        return due_ms
    if state.phase is Phase.OPEN:
        return max(due_ms, state.left_ms(now.lease_ms))
    settings = settings_of(tables.queues[row.queue].settings)
    if not state.places(_taken(tables, row.queue), settings):
        return None
    is_probe = row.state is not State.READY or row in probes(tables, row.queue, ready)
    return due_ms if is_probe else None


def _now(tables: Tables, queue: str, now: Now) -> QueueBreaker:
    """Return the state that a receive would find."""
    options = tables.queues[queue].settings
    return on_receive(state_of(tables, queue), at(tables, queue, now), options)


def _taken(tables: Tables, queue: str) -> int:
    return sum(row.state is State.IN_FLIGHT for row in tables.in_queue(queue))
