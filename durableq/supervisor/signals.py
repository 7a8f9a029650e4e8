"""The signals of a supervisor as requests, which its loop takes one at a time."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from types import FrameType

from durableq.runtime import startup
from durableq.runtime.signals import StopRequests, has_terminal
from durableq.runtime.wakeup import WakeupEvent


class Request(Enum):
    """A request that signals express."""

    STOP = "stop"
    STOP_AT_ONCE = "stop at once"
    RELOAD = "reload"
    #: The terminal has gone, and the fleet goes on without it.
    GO_ON = "go on"


class SupervisorSignals:
    """Turns SIGTERM, SIGINT, SIGHUP and SIGCHLD into requests, and wakes the loop for each."""

    def __init__(self) -> None:
        self.woken = WakeupEvent()
        self._stop = StopRequests()
        self._taken = 0
        self._hung_up = False
        self._terminal = has_terminal()
        self._outlives_terminal = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN  # nohup

    @property
    def stopping(self) -> signal.Signals | None:
        """The newest signal that asked to stop; None for none."""
        return self._stop.last

    def take(self) -> Request | None:
        """Return the request since the last call; None for none."""
        hung_up, self._hung_up = self._hung_up, False
        if hung_up and self._terminal and not has_terminal():
            self._terminal = hung_up = False  # it is no request to reload
            if self._outlives_terminal:
                return Request.GO_ON
            if self._stop.last is None:
                self._stop.note(signal.SIGHUP)
        before, self._taken = self._taken, self._stop.count
        if self._taken > before:
            return Request.STOP if self._taken == 1 else Request.STOP_AT_ONCE
        return Request.RELOAD if hung_up and not self._taken else None

    def stop(self) -> None:
        """Request a stop, as SIGTERM does."""
        self._on_stop(signal.SIGTERM, None)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle the signals inside the block."""
        handlers = {
            signal.SIGTERM: self._on_stop,
            signal.SIGINT: self._on_stop,
            signal.SIGHUP: self._on_hang_up,
            signal.SIGCHLD: self._on_child,
        }
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        startup.finish()
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_stop(self, number: int, _frame: FrameType | None) -> None:
        self._stop.note(number)
        self.woken.set()

    def _on_hang_up(self, _number: int, _frame: FrameType | None) -> None:
        self._hung_up = True
        self.woken.set()

    def _on_child(self, _number: int, _frame: FrameType | None) -> None:
        self.woken.set()
