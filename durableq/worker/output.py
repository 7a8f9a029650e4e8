"""Output of a worker: handlers' prints, made printable; shown by the supervisor while it lives."""

from __future__ import annotations

import atexit
import io
import os
import select
import sys
import threading
import time
from contextlib import suppress
from typing import Any, Final

from durableq.runtime import logs
from durableq.runtime.logs import LogFormat
from durableq.runtime.printable import RECORD, LineFilter
from durableq.runtime.wakeup import wait_readable
from durableq.worker.options import WorkerOptions

READ_BYTES: Final = 64 << 10
LOOK_SECONDS: Final = 1.0
FINISH_SECONDS: Final = 1.0


def keep_output_apart(options: WorkerOptions) -> None:
    """Send the output of handlers to stderr, with control characters made visible."""
    encoding, form = "utf-8", LogFormat(options.log_format)
    if sys.stderr is None:  # it was closed before the fleet started
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    elif options.output < 0:
        encoding = sys.stderr.encoding
    os.dup2(2, 1)
    mark = b"" if options.output < 0 else RECORD
    stream, level = _text(_Unbuffered(mark), encoding), logs.LogLevel(options.log_level)
    logs.configure(form, options.name, stream, level)
    if options.output >= 0:
        _OutputTakeover(options, sys.stderr.encoding or encoding).start()
    printed = _Printed(mark, LineFilter(options.name, form, encoding))
    sys.stdout = sys.stderr = _text(printed, "utf-8")
    atexit.register(printed.finish)


def _text(stream: Any, encoding: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(stream, encoding, "backslashreplace", write_through=True)


class _Unbuffered(io.RawIOBase):
    """Unbuffered stderr: a buffer has a lock, which the child of a fork may find taken forever."""

    def __init__(self, mark: bytes) -> None:
        super().__init__()
        #: Precedes each write, for the supervisor that reads the pipe.
        self._mark = mark

    def write(self, data: Any) -> int:
        write_all(2, self._mark + data)
        return len(data)

    def close(self) -> None:
        """Stay open: other handlers and the log use it too."""

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return 2


class _Printed(_Unbuffered):
    """The stdout and stderr of handlers: whole lines, with control characters made visible.

    Errors of stderr are dropped: a message does not fail because its handler's output is unread.
    """

    def __init__(self, mark: bytes, lines: LineFilter) -> None:
        super().__init__(mark)
        self._lines = lines

    def write(self, data: Any) -> int:
        self._show(self._lines.feed(bytes(data)))
        return len(data)

    def finish(self) -> None:
        """Write the last line, which has no end."""
        self._show(self._lines.rest())

    def _show(self, lines: bytes) -> None:
        with suppress(OSError):
            for line in lines.splitlines(keepends=True):
                super().write(line)


def write_all(fileno: int, data: bytes) -> None:
    """Write all of the data to a descriptor."""
    left = memoryview(data)
    while left:
        left = left[os.write(fileno, left) :]


class _OutputTakeover:
    """A thread that waits for the supervisor's end, and then reads the pipe in its place.

    Without it the programs that handlers started would be killed by their next line (SIGPIPE).
    """

    def __init__(self, options: WorkerOptions, encoding: str) -> None:
        self._options = options
        self._lines = LineFilter(options.name, LogFormat(options.log_format), encoding)
        self._files = {each: os.fstat(each) for each in (options.output, options.terminal)}
        self._showing = threading.Lock()
        for fileno in self._files:
            os.set_inheritable(fileno, False)

    def start(self) -> None:
        atexit.register(self._finish)
        threading.Thread(target=self._run, name="output", daemon=True).start()

    def _run(self) -> None:
        ended = select.poll()
        ended.register(self._options.lifeline, select.POLLIN)
        ended.poll()
        with suppress(OSError):  # a handler has closed them, or stderr has no reader
            while self._are_intact():
                if wait_readable(LOOK_SECONDS, self._options.output):
                    with self._showing:
                        self._show_some()

    def _show_some(self) -> None:
        left = memoryview(self._lines.feed(os.read(self._options.output, READ_BYTES)))
        while left and self._are_intact():
            left = left[os.write(self._options.terminal, left) :]

    def _finish(self) -> None:
        """Without a supervisor, wait up to FINISH_SECONDS until the last lines are shown."""
        end = time.monotonic() + FINISH_SECONDS
        with suppress(OSError):
            while wait_readable(0, self._options.lifeline) and time.monotonic() < end:
                if self._showing.acquire(timeout=FINISH_SECONDS):
                    self._showing.release()
                if not wait_readable(0, self._options.output):
                    return
                time.sleep(LOOK_SECONDS / 100)

    def _are_intact(self) -> bool:
        """Whether the descriptors still refer to the files that they referred to at the start."""
        return all(os.path.samestat(os.fstat(each), was) for each, was in self._files.items())
