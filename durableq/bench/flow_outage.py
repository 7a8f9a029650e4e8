"""An outage of a downstream, with limits: the load of `durableq demo --spike`, at a higher rate.

One run has the figures of all rows. What is counted are the calls that the downstream has seen, and
the changes of the breaker in the history.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from durableq.bench.figures import Figure, Row, Setting, Theme
from durableq.bench.flow_crew import Measured, row
from durableq.demo.spike.load import Load
from durableq.demo.spike.recording import Recording
from durableq.demo.spike.run import run
from durableq.model.errors import DurableQError
from durableq.model.flow.breaker import Phase
from durableq.model.settings import QueueSettings
from durableq.model.units import to_ms

LOAD: Final = Load(messages=20_000, capacity=400, outage_seconds=10).with_limits()
QUICK: Final = Load(messages=200, procs=2, capacity=100, outage_seconds=1).with_limits()
#: The durability of the spike's file.
SYNCHRONOUS: Final = "full"


ROWS: Final = (
    row("breaker: dead letters of an outage", "messages", 0, 85),
    row("breaker: calls beyond in flight + probes", "calls", 0, 1),
    row("slow start: second openings", "openings", 0, 1),
    row("slow start: most calls in a second", "% of the rate", 100, 1),
)


def measure(rows: Sequence[Row], setting: Setting) -> Iterator[Figure]:
    """Run the load once, and return the figures of rows of this module."""

    def show(recording: Recording) -> None:
        setting.progress(f"{rows[0].name}: {recording.last.completed} completed")

    recording = run(QUICK if setting.quick else LOAD, show, setting.progress)
    for one, found in zip(ROWS, measured(recording), strict=True):
        if one in rows:
            yield found.figure(one, SYNCHRONOUS)


def measured(recording: Recording) -> list[Measured]:
    """Return the figures of a run, in the order of the rows.

    Raises:
        DurableQError: the run was interrupted, or did not get through an outage.
    """
    if recording.interruption:
        raise DurableQError(recording.interruption)
    load, last = recording.load, recording.last
    began, ended, closed = _outage(recording)
    slow_start_ms = to_ms(load.settings["slow_start"] or 0, "slow_start")
    opened = sum(one.at > closed and one.phase is Phase.OPEN for one in recording.changes)
    return [
        Measured(last.dead, {"completed": last.completed}),
        _calls(recording, began, ended),
        Measured(opened, {"closed after the outage, s": closed - ended}),
        _peak(recording, closed, closed + slow_start_ms / 1000),
    ]


def _outage(recording: Recording) -> tuple[float, float, float]:
    """Return when the outage began and ended, and when the breaker closed after it."""
    if recording.outage is not None:
        began, ended = recording.outage
        for change in recording.changes:
            if change.at >= ended and change.phase is Phase.CLOSED:
                return began, ended, change.at
    raise DurableQError("The breaker did not close after an outage.")


def _calls(recording: Recording, began: float, ended: float) -> Measured:
    """Return the calls in the outage that neither were in flight when it began nor are probes."""
    in_flight = recording.load.settings["max_in_flight"] or 0
    probing = sum(
        began <= one.at < ended and one.phase is Phase.HALF_OPEN for one in recording.changes
    )
    probes = probing * QueueSettings().breaker_probes
    down = recording.total.down
    details = {"calls in the outage": down, "in flight": in_flight, "places of probes": probes}
    return Measured(max(0, down - in_flight - probes), details)


def _peak(recording: Recording, since: float, until: float) -> Measured:
    """Return the most calls in a second of the slow start, beside those of the other times."""
    rate = recording.load.settings["rate"] or 0.0
    slow, later = 0, 0
    for at, calls in recording.seconds():
        if since < at <= until:
            slow = max(slow, calls.all)
        elif at > until:
            later = max(later, calls.all)
    return Measured(100 * slow / rate, {"rate": rate, "calls": slow, "calls, later": later})


FLOW_OUTAGE: Final = Theme("flow-outage", ROWS, measure, rounds=1, by_synchronous=False)
