"""The way of one message through the states, as its history and its present state tell it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Final

from durableq.model.lifecycle import Node, node_of
from durableq.model.message import Event, HistoryEvent, Message, Reason


class Stop(StrEnum):
    """A stop on the way: a state, or one of the ends."""

    SENT = "sent"
    READY = "ready"
    DELAYED = "delayed"
    BLOCKED = "blocked"
    IN_FLIGHT = "in flight"
    DEAD = "dead"
    HELD = "held"
    DISCARDED = "discarded"
    CANCELLED = "cancelled"
    REPLACED = "replaced"
    EXPIRED = "expired"
    #: Completed, a duplicate, or purged: none of them leaves an event.
    ENDED = "ended"


_STATES: Final = {
    Node.READY: Stop.READY,
    Node.DELAYED: Stop.DELAYED,
    Node.BLOCKED: Stop.BLOCKED,
    Node.IN_FLIGHT: Stop.IN_FLIGHT,
    Node.DEAD: Stop.DEAD,
}
_ENDS: Final = {
    Event.DISCARDED: Stop.DISCARDED,
    Event.CANCELLED: Stop.CANCELLED,
    Event.REPLACED: Stop.REPLACED,
    Event.EXPIRED: Stop.EXPIRED,
}
#: Where a message waits after a failure, unless the next event says something else.
_AFTER: Final = {
    Event.FAILED: Stop.DELAYED,
    Event.LEASE_EXPIRED: Stop.READY,
    Event.UNAVAILABLE: Stop.READY,
}
_GRAVE: Final = (Stop.DEAD, Stop.HELD)
#: A message comes to these from where it waits.
_LEAVES: Final = (Stop.CANCELLED, Stop.REPLACED, Stop.ENDED)


def way(history: Sequence[HistoryEvent], found: Message | None) -> list[Stop]:
    """Return the stops of a message, in order; the last one is the present.

    Args:
        history: its events, oldest first. Sends, receives and the ends of delays leave none: the
            stops between two events are filled in.
        found: the message; None once it has ended.
    """
    walk = _Walk()
    for event in history:
        walk.follow(event)
    if found is not None:
        walk.arrive(Stop.HELD if found.held else _STATES[node_of(found)])
    elif walk.stops[-1] not in _ENDS.values():
        walk.arrive(Stop.ENDED)
    return walk.stops


def times(stops: Iterable[Stop]) -> list[tuple[Stop, int]]:
    """Return the stops in the order of their first visits, each with the number of visits."""
    counts: dict[Stop, int] = {}
    for stop in stops:
        counts[stop] = counts.get(stop, 0) + 1
    return list(counts.items())


class _Walk:
    def __init__(self) -> None:
        self.stops = [Stop.SENT]
        #: Where the message waits, as far as is known, until the next event tells; None: here.
        self._waits: Stop | None = None

    def follow(self, event: HistoryEvent) -> None:
        """Go on to where an event has left the message."""
        if event.event in _AFTER:
            self._fail(event)
        elif event.event is Event.BURIED:
            if event.reason == Reason.IDEMPOTENCY_CONFLICT:  # a receive met a ready message
                self.arrive(Stop.READY)
            self.arrive(Stop.DEAD)
        elif event.event is Event.HELD:
            self.arrive(Stop.HELD)
        elif event.event is Event.RELEASED:
            self.arrive(Stop.DEAD)
        elif event.event is Event.RESCHEDULED:
            self.arrive(Stop.DELAYED if event.detail.get("delay_ms") else Stop.READY)
        elif event.event in {Event.RETRIED, Event.REQUEUED}:
            self._waits = Stop.READY
        elif event.event in _ENDS:
            self.arrive(_ENDS[event.event])

    def arrive(self, stop: Stop) -> None:
        """Go to a stop, unless the message is there."""
        if stop in _LEAVES:
            self._wait()
        if stop is Stop.IN_FLIGHT:
            self._receive()
        elif self.stops[-1] is not stop:
            self.stops.append(stop)
        self._waits = None

    def _fail(self, event: HistoryEvent) -> None:
        if self.stops[-1] in _GRAVE and self._waits is None:
            return  # of a handler of the dead-letter queue: it stays there
        self._receive()
        self._waits = _AFTER[event.event]

    def _receive(self) -> None:
        """Go to the next receive: every message is ready before it."""
        self._wait()
        if self.stops[-1] is not Stop.READY:
            self.stops.append(Stop.READY)
        self.stops.append(Stop.IN_FLIGHT)

    def _wait(self) -> None:
        if self._waits is not None and self._waits is not self.stops[-1]:
            self.stops.append(self._waits)
