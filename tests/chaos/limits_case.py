"""A small honest case of the queues with limits, made by hand.

Three calls are received at once, as far as two places allow, and one each tenth of a second later.
The first fails in an outage. Each of the two steps of a group is received after the one before.
Two parcels fail, and are received again after pauses; a send finds their queue full.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from durableq.demo.reading import Event, File, Left, QueueCounters
from durableq.testing.chaos.ledger import Line, Step
from durableq.testing.chaos.limited import CALLS, PARCELS, STEPS
from durableq.testing.chaos.limits_checker import LimitsCase
from durableq.testing.chaos.recording import (
    CLOSED,
    HALF_OPEN,
    Effect,
    Receive,
    Recording,
    Stand,
    Stored,
)

MS = 1_000_000
GROUP_OF = {"20": "group-0", "21": "group-1", "22": "group-0", "23": "group-1"}


@dataclass
class Limited:
    """The parts of a case; a test changes some of them."""

    lines: list[Line] = field(default_factory=list)
    receives: list[Receive] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    phases: list[tuple[str, str, str]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    stands: list[Stand] = field(default_factory=list)
    at_the_end: list[Stand] = field(default_factory=list)
    stored: list[Stored] = field(default_factory=list)
    audited: list[str] = field(default_factory=list)
    completed: dict[str, int] = field(default_factory=lambda: {CALLS: 4, STEPS: 4, PARCELS: 4})

    def send(self, queue: str, of: str, place: str) -> None:
        """Note an answered send, which found an empty queue."""
        self.stored.append(Stored(queue, of, 1))
        self.lines.append(Line(0, 5, f"send_{queue}", Step.INVOKE, place))
        self.lines.append(Line(0, 5, f"send_{queue}", Step.OK, place, of))

    def refuse(self, queue: str, place: str) -> None:
        """Note a send that found its queue full."""
        self.lines.append(Line(0, 5, f"send_{queue}", Step.INVOKE, place))
        self.lines.append(Line(0, 5, f"send_{queue}", Step.FULL, place))

    def note(self, queue: str, of: str, step: Step, at_ms: float, receive: int = 1) -> None:
        """Note a step of an attempt."""
        receipt = f"{of}.{receive}"
        at_ns = int(at_ms * MS)
        self.lines.append(Line(at_ns, 7, queue, step, "-", of, receipt, f"0.{receive}"))

    def receive(self, queue: str, of: str, at_ms: int, receive: int = 1, **more: int) -> None:
        """Record a receive, and note the begin of its handler."""
        group = GROUP_OF.get(of) if queue == STEPS else None
        counts = {"in_flight": 1, "in_group": int(group is not None), "breaker": CLOSED} | more
        counts["receive_count"] = receive
        self.receives.append(Receive(queue, of, f"{of}.{receive}", at_ms, **counts, group=group))
        self.note(queue, of, Step.INVOKE, at_ms + 1, receive)

    def commit(self, queue: str, of: str, place: str, at_ms: int, receive: int = 1) -> None:
        """Note the end of a handler, and record its effect."""
        self.note(queue, of, Step.PASSED, at_ms, receive)
        self.effects.append(Effect(queue, of, f"{of}.{receive}", place))
        self.note(queue, of, Step.OK, at_ms + 1, receive)

    def case(self) -> LimitsCase:
        """Return the evidence."""
        none = dict.fromkeys(QueueCounters._fields[2:], 0)
        counters = [
            QueueCounters(queue, 9, **none | {"sent": 4, "completed": done})
            for queue, done in self.completed.items()
        ]
        file = File([], counters, self.left, [], [], self.events)
        recording = Recording(
            file, self.receives, self.effects, self.phases, self.at_the_end, self.stored
        )
        lines = sorted(self.lines, key=lambda line: line.at_ns)
        return LimitsCase(recording, lines, self.stands, self.audited, {"outage": 1})


def honest() -> Limited:
    """Return evidence of a run in which all limits held."""
    limited = Limited()
    for number in range(4):
        limited.send(CALLS, f"1{number}", f"0:{number}")
        limited.send(STEPS, f"2{number}", f"{number % 2}:{number // 2}")
        limited.send(PARCELS, f"3{number}", f"0:{number}")
    limited.refuse(PARCELS, "0:3")
    _calls(limited)
    _steps(limited)
    _parcels(limited)
    limited.stands = [Stand(CALLS, 2, CLOSED, 2), Stand(STEPS, 0, CLOSED, 3)]
    limited.at_the_end = [Stand(CALLS, 0, CLOSED, 0), Stand(STEPS, 0, CLOSED, 0)]
    return limited


def _calls(limited: Limited) -> None:
    limited.receive(CALLS, "10", 1000)
    limited.receive(CALLS, "11", 1000, in_flight=2)
    limited.note(CALLS, "10", Step.UNAVAILABLE, 1050)
    limited.commit(CALLS, "11", "0:1", 1060)
    limited.phases += [(CALLS, "open", "message 10 raised Unavailable: the service is down")]
    limited.phases += [(CALLS, "half_open", "its open time is over")]
    limited.receive(CALLS, "12", 1400, breaker=HALF_OPEN)
    limited.commit(CALLS, "12", "0:2", 1460)
    limited.phases += [(CALLS, "closed", "1 of 1 probes succeeded")]
    limited.receive(CALLS, "10", 1500, 2)
    limited.commit(CALLS, "10", "0:0", 1560, 2)
    limited.receive(CALLS, "13", 1600)
    limited.commit(CALLS, "13", "0:3", 1660)


def _steps(limited: Limited) -> None:
    limited.receive(STEPS, "20", 600)
    limited.receive(STEPS, "21", 601, in_flight=2)
    limited.note(STEPS, "20", Step.FAILED, 650)
    limited.receive(STEPS, "20", 1100, 2, in_flight=2)
    limited.commit(STEPS, "21", "1:0", 1110)
    limited.receive(STEPS, "23", 1112, in_flight=2)
    limited.commit(STEPS, "20", "0:0", 1160, 2)
    limited.commit(STEPS, "23", "1:1", 1170)
    limited.receive(STEPS, "22", 1600)
    limited.commit(STEPS, "22", "0:1", 1660)


def _parcels(limited: Limited) -> None:
    for number in range(4):
        limited.receive(PARCELS, f"3{number}", 2000 + number)
    for of in ("30", "31"):
        limited.note(PARCELS, of, Step.FAILED, 2010)
    for of in ("32", "33"):
        limited.commit(PARCELS, of, f"0:{of[1]}", 2060)
    for of, at_ms in (("30", 2150), ("31", 2300)):
        limited.receive(PARCELS, of, at_ms, 2)
        limited.commit(PARCELS, of, f"0:{of[1]}", at_ms + 60, 2)
