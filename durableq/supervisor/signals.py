"""The signals of a supervisor as requests, and the reaping of orphans that it did not start."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from enum import Enum
from types import FrameType
from typing import Final

from durableq.runtime.signals import StopRequests, handling, has_terminal
from durableq.runtime.wakeup import WakeupEvent

_PR_GET_CHILD_SUBREAPER: Final = 37


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

    def listening(self) -> AbstractContextManager[None]:
        """Handle the signals inside the block."""
        handlers = {
            signal.SIGTERM: self._on_stop,
            signal.SIGINT: self._on_stop,
            signal.SIGHUP: self._on_hang_up,
            signal.SIGCHLD: self._on_child,
        }
        return handling(handlers)

    def _on_stop(self, number: int, _frame: FrameType | None) -> None:
        self._stop.note(number)
        self.woken.set()

    def _on_hang_up(self, _number: int, _frame: FrameType | None) -> None:
        self._hung_up = True
        self.woken.set()

    def _on_child(self, _number: int, _frame: FrameType | None) -> None:
        self.woken.set()


def adopts() -> bool:
    """Return whether orphans become children of this process: PID 1, or a subreaper (Linux)."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if os.getpid() == 1 or prctl is None:
        return os.getpid() == 1
    found, none = ctypes.c_int(0), ctypes.c_ulong(0)
    failed = prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(found), none, none, none)
    return not failed and bool(found.value)


def reap(is_worker: Callable[[int], bool]) -> int:
    """Reap the ended children up to the first that is a worker; return their number.

    A worker's end is left to its own wait: `waitid` does not reap with WNOWAIT.
    """
    reaped = 0
    with suppress(ChildProcessError):
        while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if is_worker(ended.si_pid):
                break
            os.waitpid(ended.si_pid, os.WNOHANG)
            reaped += 1
    return reaped
