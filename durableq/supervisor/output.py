"""Output of workers and of the programs that handlers start, made printable.

Each worker's stdout and stderr are a pipe. One thread reads all pipes, another writes to stderr, so
that a stopped or slow terminal blocks no handler: beyond a limit, lines are dropped.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Final, NamedTuple

from durableq.runtime import logs
from durableq.runtime.logs import LogFormat
from durableq.runtime.printable import LineFilter
from durableq.runtime.wakeup import WakeupEvent
from durableq.worker.output import write_all

#: Makes a context for writing to stderr.
Around = Callable[[], AbstractContextManager[object]]
READ_BYTES: Final = 64 << 10
#: Largest output that waits for stderr; lines beyond it are dropped.
MAX_WAITING_BYTES: Final = 4 << 20
#: Time that an event of the supervisor waits for the earlier output of its worker.
SHOWN_SECONDS: Final = 0.1
CLOSE_SECONDS: Final = 2.0
_LOOK_SECONDS: Final = 0.002


class Pipe(NamedTuple):
    """Both ends of a worker's output pipe, and the descriptor on which it is shown."""

    read: int
    write: int
    target: int


class HandlerOutput:
    """Shows the output of a fleet's workers on this process's stderr.

    Args:
        form: of the lines.
        around: makes a context for each write.
    """

    def __init__(self, form: LogFormat, around: Around = nullcontext) -> None:
        self._form = form
        self._around = around
        self._encoding = "utf-8" if sys.stderr is None else sys.stderr.encoding or "utf-8"
        # Without a stderr, 2 may be the number of any file.
        self._target = os.open(os.devnull, os.O_WRONLY) if sys.stderr is None else os.dup(2)
        self._filters: dict[int, LineFilter] = {}
        self._changed = WakeupEvent()
        self._done = False
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._left_out = 0
        self._shown = threading.Condition()
        self._reader = threading.Thread(target=self._read, name="output", daemon=True)
        self._writer = threading.Thread(target=self._write, name="stderr", daemon=True)
        self._reader.start()
        self._writer.start()

    def open(self, name: str) -> Pipe:
        """Return a new pipe for a worker; its write end is the caller's to close."""
        read, write = os.pipe()
        with self._shown:
            self._filters[read] = LineFilter(name, self._form, self._encoding)
        self._changed.set()
        return Pipe(read, write, self._target)

    def wait_until_shown(self, seconds: float = SHOWN_SECONDS) -> None:
        """Wait until the output of workers so far is shown, for at most `seconds`."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with self._shown:
                if not any(map(_has_output, self._filters)) and not self._waiting_bytes:
                    return
            time.sleep(_LOOK_SECONDS)

    def close(self) -> None:
        """Show the remaining output and end the threads."""
        self.wait_until_shown(CLOSE_SECONDS)
        self._done = True
        self._changed.set()
        self._reader.join()
        with self._shown:
            self._shown.notify_all()
        self._writer.join(CLOSE_SECONDS)
        if not self._writer.is_alive():  # otherwise it is inside a write that does not end
            os.close(self._target)
        self._changed.close()

    def _read(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # for the main thread
        while not self._done:
            poller = select.poll()
            with self._shown:
                watched = [self._changed.fileno(), *self._filters]
            for fileno in watched:
                poller.register(fileno, select.POLLIN)
            ready = {fileno for fileno, _ in poller.poll()}
            self._changed.clear()
            with self._shown:  # read and added in one step: wait_until_shown sees all or nothing
                for fileno in ready & set(self._filters):
                    data = os.read(fileno, READ_BYTES)
                    self._add(self._filters[fileno].feed(data))
                    if not data:  # the worker has ended, and all that it started
                        self._forget(fileno)
        with self._shown:
            for fileno in list(self._filters):
                self._forget(fileno)

    def _forget(self, fileno: int) -> None:
        self._add(self._filters.pop(fileno).rest())
        os.close(fileno)

    def _add(self, data: bytes) -> None:
        if self._waiting_bytes + len(data) > MAX_WAITING_BYTES:
            self._left_out += data.count(b"\n")
        elif data:
            self._waiting.append(data)
            self._waiting_bytes += len(data)
            self._shown.notify_all()

    def _write(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while True:
            with self._shown:
                self._shown.wait_for(lambda: self._waiting or self._done)
                if not self._waiting:
                    return
                data = self._waiting.popleft()
            with suppress(OSError), self._around():  # stderr has no reader
                write_all(self._target, data)
            with self._shown:
                self._waiting_bytes -= len(data)
                if self._left_out and not self._waiting:
                    self._say_left_out()
                self._shown.notify_all()

    def _say_left_out(self) -> None:
        text = f"{self._left_out} lines of handlers' output were left out: stderr took none"
        if self._form is LogFormat.JSON:
            text = logs.json_line("left_out", text, process="supervisor", level="warning")
        self._left_out = 0
        self._waiting.append(f"{text}\n".encode())
        self._waiting_bytes += len(self._waiting[-1])


def _has_output(fileno: int) -> bool:
    poller = select.poll()
    poller.register(fileno, select.POLLIN)
    return any(event & select.POLLIN for _, event in poller.poll(0))
