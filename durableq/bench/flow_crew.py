"""Parts of the rows of exactness: processes on one file, facts, and windows of time."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Final, NamedTuple, Protocol

from durableq.bench.figures import Figure, Row, Spread
from durableq.bench.piped import PipedProcess
from durableq.client.app import DurableQ


class Measured(NamedTuple):
    """A figure, and others beside it."""

    value: float
    details: Mapping[str, float]

    def figure(self, row: Row, synchronous: str) -> Figure:
        """Return it as the figure of a row, of one round."""
        details = {name: Spread.of([detail]) for name, detail in self.details.items()}
        return Figure(row, synchronous, Spread.of([self.value]), details)


class Crew:
    """Processes on one file, which start their work together.

    Args:
        path: of the file.
        url: the same, with options.
    """

    def __init__(self, path: str, url: str) -> None:
        self.path: Final = path
        self._url = url
        self._stack = ExitStack()

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start(self, number: int, role: str, seconds: float, **arguments: Any) -> list[PipedProcess]:
        """Start processes of a role, which work from now on."""
        words = ("-m", "durableq.bench.flow_process", role, self._url, str(seconds))
        found = [
            self._stack.enter_context(PipedProcess(role, *words, json.dumps(arguments)))
            for _ in range(number)
        ]
        for process in found:
            process.answer()
        for process in found:
            process.tell()
        return found


class Measure(Protocol):
    """Measures the rows of a fact, in their order."""

    def __call__(self, app: DurableQ, crew: Crew, *, quick: bool) -> Sequence[Measured]:
        """Measure them on a file of their own."""
        ...


class Fact(NamedTuple):
    """Rows that one measurement has the figures of."""

    rows: tuple[Row, ...]
    measure: Measure


def row(name: str, unit: str, target: float, seconds: int, *, at_least: bool = False) -> Row:
    """Return a row of exactness."""
    return Row(name, unit, target, at_least=at_least, seconds=seconds, is_large=True)


def fact(
    measure: Callable[..., Measured], name: str, unit: str, target: float, seconds: int
) -> Fact:
    """Return a fact of one row."""

    def measured(app: DurableQ, crew: Crew, *, quick: bool) -> Sequence[Measured]:
        return [measure(app, crew, quick=quick)]

    return Fact((row(name, unit, target, seconds),), measured)


def kill(process: PipedProcess) -> None:
    """Kill a process with SIGKILL."""
    os.kill(process.pid, signal.SIGKILL)


def beyond_rate(times: Sequence[float], rate: float) -> float:
    """Return the most that any window has beyond rate x window, in messages.

    Args:
        times: of messages, in seconds and in order.
        rate: messages a second.
    """
    most, lowest = 0.0, float("inf")
    for number, at in enumerate(times):
        lowest = min(lowest, number - rate * at)
        most = max(most, number + 1 - rate * at - lowest)
    return most


def most_in(times: Sequence[float], seconds: float) -> int:
    """Return the most events in any window.

    Args:
        times: of events, in seconds and in order.
        seconds: the length of the window.
    """
    most = first = 0
    for last, at in enumerate(times):
        while at - times[first] >= seconds:
            first += 1
        most = max(most, last + 1 - first)
    return most


def beyond_share(events: Sequence[tuple[float, bool]], share: float, seconds: float) -> float:
    """Return the most marked events beyond a share in any window that begins with an event.

    Args:
        events: their times, in seconds and in order, and whether each is marked; they last for
            longer than a window.
        share: of the events of a window.
        seconds: the length of the window.
    """
    most, end, marked = -math.inf, 0, 0
    for first, (at, is_marked) in enumerate(events):
        if at + seconds > events[-1][0]:
            break
        while events[end][0] < at + seconds:
            marked += events[end][1]
            end += 1
        most = max(most, marked - share * (end - first))
        marked -= is_marked
    return most
