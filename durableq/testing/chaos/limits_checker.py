"""The invariants of limits after any faults, one function each.

Rates and numbers in flight are judged by the receives that the file has recorded, so also those of
killed workers count, at exact times. The times of handlers are a second witness, with a tolerance.
Only attempts whose effect was committed are: these had the lease from their begin to their commit.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, TypeVar

from durableq.demo.checker import more_than_once, naming
from durableq.testing.chaos.ledger import Line, Step
from durableq.testing.chaos.limited import CALLS, PARCELS, SETTINGS, STEPS
from durableq.testing.chaos.recording import CLOSED, HALF_OPEN, OPEN, Receive, Recording, Stand

C = TypeVar("C")
#: Names of invariants, each with the functions that yield a sentence for each violation.
Invariants = tuple[tuple[str, tuple[Callable[[C], Iterator[str]], ...]], ...]

_RATE: Final = {name: settings.get("rate") or 0 for name, settings in SETTINGS.items()}
_BURST: Final = {name: settings.get("burst") or 0 for name, settings in SETTINGS.items()}
_GROUP_RATE: Final = {name: each.get("group_rate") or 0 for name, each in SETTINGS.items()}
_GROUP_BURST: Final = {name: each.get("group_burst") or 0 for name, each in SETTINGS.items()}
_PLACES: Final = {name: settings.get("max_in_flight") or 0 for name, settings in SETTINGS.items()}
_BACKLOG: Final = {name: each.get("max_backlog") or 0 for name, each in SETTINGS.items()}
#: Accepted sends after which the backlog must have been full: workers may keep up with a few.
_ENOUGH: Final = 20
_SHARE: Final = {name: each.get("retry_share") or 0 for name, each in SETTINGS.items()}
_PROBES: Final = SETTINGS[CALLS].get("breaker_probes", 0)
#: The lease clock has whole milliseconds, a ledger nanoseconds.
_ROUNDING_MS: Final = 1
#: The retries that a queue may save up, and the pause after which one needs no credit.
_SAVED: Final = 10
_IDLE_MS: Final = 100
_NS_PER_MS: Final = 1_000_000


@dataclass(frozen=True)
class LimitsCase:
    """The evidence about the queues with limits."""

    recording: Recording
    #: The lines of all ledgers, oldest first.
    lines: Sequence[Line]
    #: Each look at each queue during the run.
    stands: Sequence[Stand] = ()
    #: The findings of `durableq audit` at the end.
    audited: Sequence[str] = ()
    #: The number of injected faults, by kind.
    happened: Mapping[str, int] = field(default_factory=dict)

    @cached_property
    def places(self) -> dict[str, tuple[str, int]]:
        """The group and the number in it of each answered send, by message."""
        found = {}
        for line in self.lines:
            if line.operation.startswith("send_") and line.step == Step.OK:
                group, _, number = line.key.partition(":")
                found[line.message_id] = (group, int(number))
        return found

    @cached_property
    def spans(self) -> dict[str, dict[str, tuple[int, int]]]:
        """Begin and end in ns of the attempts that committed, by queue and message.

        The end is that of the handler's own work, just before its commit.
        """
        committed = {(effect.message_id, effect.receipt) for effect in self.recording.effects}
        begun: dict[tuple[str, str], int] = {}
        found: dict[str, dict[str, tuple[int, int]]] = defaultdict(dict)
        for line in self.lines:
            at = line.message_id, line.receipt
            if line.operation in SETTINGS and at in committed:
                if line.step == Step.INVOKE:
                    begun[at] = line.at_ns
                elif line.step == Step.PASSED:
                    found[line.operation][line.message_id] = (begun[at], line.at_ns)
        return found

    def receives(self, queue: str) -> list[Receive]:
        """Return the receives of a queue, oldest first."""
        return [one for one in self.recording.receives if one.queue == queue]

    def noted(self, queue: str, step: Step) -> int:
        """Return the number of such lines of a queue's handler."""
        return sum(line.operation == queue and line.step == step for line in self.lines)


def fullest(times_ms: Iterable[float], rate: float) -> float:
    """Return the most events that any window of time has beyond rate x window."""
    most, least = 0.0, float("inf")
    for number, at_ms in enumerate(sorted(times_ms)):
        least = min(least, number - rate * at_ms / 1000)
        most = max(most, number + 1 - rate * at_ms / 1000 - least)
    return round(most, 6)


def rates_hold(case: LimitsCase) -> Iterator[str]:
    """No window has more than burst + rate x window."""
    for queue, rate in _RATE.items():
        if not rate:
            continue
        burst, places = _BURST[queue], _PLACES[queue]
        most = fullest((one.at_ms for one in case.receives(queue)), rate)
        if most > burst:
            yield f"A window had {most:g} receives of {queue} beyond its rate; {burst} are allowed."
        # What begins in a window was received in it, or was in flight when it began.
        allowed = burst + places + rate * _ROUNDING_MS / 1000
        begins = (begin / _NS_PER_MS for begin, _ in case.spans[queue].values())
        most = fullest(begins, rate)
        if most > allowed:
            yield f"A window had {most:g} calls of {queue} beyond its rate; {allowed:g} may begin."


def rates_of_groups_hold(case: LimitsCase) -> Iterator[str]:
    """No window of a group has more than group_burst + group_rate x window."""
    for queue, rate in _GROUP_RATE.items():
        times: dict[str, list[int]] = defaultdict(list)
        for receive in case.receives(queue) if rate else ():
            if receive.group is not None:
                times[receive.group].append(receive.at_ms)
        burst = _GROUP_BURST[queue]
        for group, at_ms in times.items():
            if (most := fullest(at_ms, rate)) > burst:
                yield f"A window had {most:g} receives of {group} beyond its rate; {burst} may be."


def in_flight_is_limited(case: LimitsCase) -> Iterator[str]:
    """Never more than max_in_flight, by file and handlers; the counter agrees with the leases."""
    for queue, places in _PLACES.items():
        if not places:
            continue
        received = (one.in_flight for one in case.receives(queue))
        seen = (stand.in_flight for stand in case.stands if stand.queue == queue)
        if (most := max((*received, *seen), default=0)) > places:
            yield f"{most} messages of {queue} were in flight; {places} are allowed."
        if (most := _overlapping(case.spans[queue].values())) > places:
            yield f"{most} handlers of {queue} ran at once; {places} are allowed."
        for stand in case.stands:
            if stand.queue == queue and stand.counter not in (None, stand.in_flight):
                yield f"{queue} counted {stand.counter} in flight, but had {stand.in_flight}."


def _overlapping(spans: Iterable[tuple[int, int]]) -> int:
    """Return the most spans that overlap."""
    most = now = 0
    changes = [(at, change) for begin, end in spans for at, change in ((begin, 1), (end, -1))]
    for _, change in sorted(changes):
        now += change
        most = max(most, now)
    return most


def groups_are_in_order(case: LimitsCase) -> Iterator[str]:
    """One of a group at a time, strictly in the order of sending: received, begun, committed."""
    for receive in case.receives(STEPS):
        if receive.in_group > 1:
            yield f"{receive.in_group} of the group of message {receive.message_id} were in flight."
    received = [case.places[of.message_id] for of in case.receives(STEPS) if _is_known(case, of)]
    yield from _backwards(received, "received")
    committed = [e.place.partition(":") for e in case.recording.effects if e.queue == STEPS]
    yield from _backwards([(group, int(number)) for group, _, number in committed], "committed")
    spans = {case.places[of]: span for of, span in case.spans[STEPS].items() if of in case.places}
    for line in case.lines:
        if line.operation == STEPS and line.step == Step.INVOKE and line.message_id in case.places:
            group, number = case.places[line.message_id]
            before = spans.get((group, number - 1))
            if before is not None and line.at_ns < before[1]:
                yield f"Step {group}:{number} began before step {group}:{number - 1} had ended."


def _is_known(case: LimitsCase, receive: Receive) -> bool:
    return receive.message_id in case.places


def _backwards(places: Iterable[tuple[str, int]], what: str) -> Iterator[str]:
    newest: dict[str, int] = {}
    for group, number in places:
        if number < newest.get(group, -1):
            yield f"Step {group}:{number} was {what} after step {group}:{newest[group]}."
        newest[group] = max(number, newest.get(group, -1))


def no_probe_is_lost(case: LimitsCase) -> Iterator[str]:
    """An open breaker lets nothing through, a half-open one its probes; at the end it is closed."""
    for receive in case.receives(CALLS):
        if receive.breaker == OPEN:
            yield f"Message {receive.message_id} was received while the breaker was open."
        if receive.breaker == HALF_OPEN and receive.in_flight > _PROBES:
            yield f"{receive.in_flight} messages were in flight while the breaker was half-open."
    phases = [phase for queue, phase, _ in case.recording.phases if queue == CALLS]
    for before, after in zip(("closed", *phases), phases, strict=False):
        if (before, after) not in _TRANSITIONS:
            yield f"The breaker was {after} after it was {before}."
    for stand in case.recording.stands:
        if stand.queue == CALLS and stand.breaker != CLOSED:
            yield "The breaker is not closed at the end."
    if case.happened.get("outage") and not {"open", "half_open", "closed"} <= {*phases}:
        yield f"In an outage the breaker was only {', '.join(phases) or 'closed'}."


_TRANSITIONS: Final = {
    ("closed", "open"),
    ("open", "half_open"),
    ("half_open", "open"),
    ("half_open", "closed"),
}


def an_outage_spends_no_receives(case: LimitsCase) -> Iterator[str]:
    """Each Unavailable that opened the breaker went back uncounted; none died of an outage."""
    opened = sum("raised Unavailable" in reason for _, _, reason in case.recording.phases)
    events = [event for event in case.recording.file.events if event.reason == "unavailable"]
    noted = case.noted(CALLS, Step.UNAVAILABLE)
    counted = sum(event.event == "failed" for event in events)
    if counted > noted - opened:
        yield f"{counted} of {noted} outage failures counted, and {opened} opened the breaker."
    dead = (event.message_id for event in events if event.event == "buried")
    yield from naming("message {} died of the outage", dead)


def limited_messages_end_once(case: LimitsCase) -> Iterator[str]:
    """Each accepted message was completed, once; counters and audit reconcile; none is left."""
    effects = Counter(effect.message_id for effect in case.recording.effects)
    yield from naming("message {} was accepted, and has no effect", case.places.keys() - effects)
    yield from naming("message {} has more than one effect", more_than_once(effects))
    for left in case.recording.file.left:
        yield f"Message {left.message_id} is left in {left.queue}, in state {left.state}."
    for counters in case.recording.file.counters:
        done = sum(effect.queue == counters.queue for effect in case.recording.effects)
        if counters.expected != counters.present or counters.completed != done:
            yield (
                f"{counters.queue} counts {counters.completed} completed and "
                f"{counters.expected} there; {done} have an effect, {counters.present} are there."
            )
    for stand in case.recording.stands:
        if stand.counter:
            yield f"{stand.queue} counts {stand.counter} in flight at the end."
    yield from naming("audit: {}", case.audited)


def old_receipts_are_refused(case: LimitsCase) -> Iterator[str]:
    """The newest receive of a message is the one that completed it."""
    newest = {one.message_id: one.receipt for one in case.recording.receives}
    effects = case.recording.effects
    stale = (e.message_id for e in effects if e.receipt != newest.get(e.message_id))
    yield from naming("message {} was completed with a stale receipt", stale)


def backlogs_are_limited(case: LimitsCase) -> Iterator[str]:
    """No send stores more than max_backlog, and each limit was met."""
    for queue, limit in _BACKLOG.items():
        stored = [one.present for one in case.recording.stored if one.queue == queue]
        if limit and max(stored, default=0) > limit:
            yield f"{max(stored)} messages were in {queue}; {limit} are allowed."
    sends = f"send_{PARCELS}"
    if case.noted(sends, Step.OK) >= _ENOUGH and not case.noted(sends, Step.FULL):
        yield f"No send to {PARCELS} met a full queue."


def refused_sends_store_nothing(case: LimitsCase) -> Iterator[str]:
    """Each stored message was accepted, and each accepted one stored."""
    for queue in SETTINGS:
        stored = {one.message_id for one in case.recording.stored if one.queue == queue}
        unknown = case.noted(f"send_{queue}", Step.UNSETTLED)
        if len(refused := stored - case.places.keys()) > unknown:
            yield from naming("message {} was stored, and its send was refused", refused)
    stored = {one.message_id for one in case.recording.stored}
    yield from naming("message {} was accepted, and never stored", case.places.keys() - stored)


def retries_beyond(receives: Iterable[Receive], share: float) -> tuple[float, float]:
    """Return the most retries beyond what first deliveries and pauses allow.

    Args:
        receives: of a queue, oldest first.
        share: of the deliveries that may be retries.

    Returns:
        Those since the first delivery, and those of any window.
    """
    most = window = beyond = 0.0
    least, before_ms = 0.0, -_IDLE_MS
    for one in receives:
        least = min(least, beyond)
        beyond -= one.at_ms - before_ms >= _IDLE_MS
        beyond += 1 if one.receive_count > 1 else -share / (1 - share)
        before_ms = one.at_ms
        most, window = max(most, beyond), max(window, beyond - least)
    return round(most, 6), round(window, 6)


def retries_are_within_their_share(case: LimitsCase) -> Iterator[str]:
    """A retry needs a share of first deliveries, of which ten may be saved, or a pause."""
    for queue, share in _SHARE.items():
        if not share:
            continue
        most, window = retries_beyond(case.receives(queue), share)
        if most > 0:
            yield f"{queue} had {most:g} retries beyond their share of the deliveries."
        if window > _SAVED:
            yield f"A window had {window:g} retries of {queue} beyond their share; {_SAVED} may be."


INVARIANTS: Final[Invariants[LimitsCase]] = (
    ("14 rate", (rates_hold, rates_of_groups_hold)),
    ("15 in flight", (in_flight_is_limited,)),
    ("16 groups in order", (groups_are_in_order,)),
    ("17 breaker", (no_probe_is_lost, an_outage_spends_no_receives)),
    ("18 limited messages end", (limited_messages_end_once, old_receipts_are_refused)),
    ("19 backlog", (backlogs_are_limited, refused_sends_store_nothing)),
    ("20 retries", (retries_are_within_their_share,)),
)


def figures(case: LimitsCase) -> dict[str, int]:
    """Count the events of the queues with limits."""
    calls = case.receives(CALLS)
    opened = sum(phase == "open" for _, phase, _ in case.recording.phases)
    return {
        "calls_completed": sum(effect.queue == CALLS for effect in case.recording.effects),
        "calls_in_flight_at_most": max((one.in_flight for one in calls), default=0),
        "calls_beyond_the_rate_at_most": math.ceil(
            fullest((one.at_ms for one in calls), _RATE[CALLS])
        ),
        "calls_during_the_outage": case.noted(CALLS, Step.UNAVAILABLE),
        "breaker_opened": opened,
        "steps_completed": sum(effect.queue == STEPS for effect in case.recording.effects),
        "parcels_completed": sum(effect.queue == PARCELS for effect in case.recording.effects),
        "parcels_retried": sum(one.receive_count > 1 for one in case.receives(PARCELS)),
        "sends_refused": case.noted(f"send_{PARCELS}", Step.FULL),
    }
