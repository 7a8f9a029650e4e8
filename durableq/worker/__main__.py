"""`python -m durableq.worker OPTIONS`: one worker, started by a supervisor.

OPTIONS is a JSON object of WorkerOptions. Workers are started by exec, never by fork, so that they
inherit no SQLite connection.
"""

from __future__ import annotations

import atexit
import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, TextIO

from durableq.client.app import DurableQ
from durableq.client.handlers import load
from durableq.model.errors import DurableQError, NewerDatabase, OlderDatabase
from durableq.model.text import visible
from durableq.runtime import logs
from durableq.runtime.logs import LogFormat
from durableq.runtime.outage import MIGRATED, TEMPORARY, cause_of, describe
from durableq.runtime.printable import RECORD
from durableq.runtime.wakeup import WakeupEvent, wait_readable
from durableq.supervisor.scoreboard import Scoreboard
from durableq.worker import command
from durableq.worker.options import BLOCKED_AT_START, WorkerOptions
from durableq.worker.output import OutputTakeover
from durableq.worker.worker import Worker

log = logging.getLogger("durableq.worker")

#: Longest unfinished line of a handler's output that is kept; the tail of longer ones.
MAX_LINE_CHARS: Final = 64 << 10


def main() -> int:
    """Run one worker with the options in the first argument; return its exit code."""
    options = WorkerOptions.from_json(sys.argv[1])
    _keep_output_apart(options)
    scoreboard = None if options.scoreboard < 0 else Scoreboard(options.scoreboard)
    # Not SIG_IGN, which programs that handlers start would inherit.
    signal.signal(
        signal.SIGINT, _ignore
    )  # Ctrl-C reaches the whole group; the supervisor asks by SIGTERM
    signal.signal(signal.SIGHUP, _ignore)  # as does the end of a terminal
    signal.pthread_sigmask(signal.SIG_UNBLOCK, BLOCKED_AT_START)
    try:
        with _exiting_with_supervisor(options.lifeline):
            app, options = _application(options)
        worker = Worker(app, options, scoreboard)

        def stop(_signal: int, _frame: object) -> None:
            worker.stopping.set()

        signal.signal(signal.SIGTERM, stop)
        os.register_at_fork(after_in_child=_restore_default_signals)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # the kernel's stop, without Python
        try:
            worker.run()
        finally:
            # Threads left by handlers may run on for a while, even without a supervisor.
            signal.setitimer(signal.ITIMER_REAL, 2 * options.grace_ms / 1000)
    except (NewerDatabase, OlderDatabase) as error:
        log.warning("%s", error, extra=logs.facts("migrated"))
        return MIGRATED
    except DurableQError as error:
        cause = cause_of(error)
        if cause is None:
            log.error("%s", error)
            return 1
        log.warning("%s", describe(cause), extra=logs.facts("busy"))
        return TEMPORARY
    return 0


@contextmanager
def _exiting_with_supervisor(lifeline: int) -> Iterator[None]:
    """Exit if the supervisor dies during the block: an import may wait forever."""
    if lifeline < 0:
        yield
        return
    done = WakeupEvent()

    def watch() -> None:
        while not done.is_set:
            if wait_readable(60, done, lifeline) and wait_readable(0, lifeline):
                os._exit(1)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        done.close()


def _ignore(_signal: int, _frame: object) -> None:
    """Ignore a signal."""


def _restore_default_signals() -> None:
    """Restore the default signal handlers in a process that a handler forked."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def _application(options: WorkerOptions) -> tuple[DurableQ, WorkerOptions]:
    if not options.command:
        app = load(options.app, DurableQ)
        app.use(options.url)
        return app, options
    handler = command.Command(options.command, options.timeout_ms)
    app = command.application(options.queues, handler, options.url)
    return app, options.changed(timeout_ms=0)  # the command is stopped, not the worker


def _keep_output_apart(options: WorkerOptions) -> None:
    """Send the output of handlers to stderr, with control characters made visible."""
    encoding = "utf-8"
    if sys.stderr is None:  # it was closed before the fleet started
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    elif options.output < 0:
        encoding = sys.stderr.encoding
    os.dup2(2, 1)
    unbuffered: Any = _Unbuffered(b"" if options.output < 0 else RECORD)
    stream = io.TextIOWrapper(unbuffered, encoding, "backslashreplace", write_through=True)
    logs.configure(LogFormat(options.log_format), options.name, stream)
    as_json = options.log_format == LogFormat.JSON
    if options.output >= 0:
        takeover = OutputTakeover(options, sys.stderr.encoding or encoding)
        takeover.start()
    sys.stdout = sys.stderr = printed = _Printed(stream, options.name if as_json else None)
    atexit.register(printed.finish)


class _Unbuffered(io.RawIOBase):
    """Unbuffered stderr: a buffer has a lock, which the child of a fork may find taken forever."""

    def __init__(self, mark: bytes) -> None:
        super().__init__()
        #: Precedes each write, for the supervisor that reads the pipe.
        self._mark = mark

    def write(self, data: Any) -> int:
        left = memoryview(self._mark + data)
        while left:
            left = left[os.write(2, left) :]
        return len(data)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return 2


class _Printed(io.TextIOBase):
    """A text stream for handlers: writes whole lines, with control characters made visible.

    Errors of stderr are dropped: a message does not fail because its handler's output is unread.
    """

    def __init__(self, stream: TextIO, process: str | None) -> None:
        super().__init__()
        self._stream = stream
        #: Name in each line of JSON; None writes text.
        self._process = process
        self._unfinished = ""

    def write(self, text: str) -> int:
        *lines, self._unfinished = (self._unfinished + text).split("\n")
        self._unfinished = self._unfinished[-MAX_LINE_CHARS:]
        with suppress(OSError):
            for line in lines:
                self._stream.write(self._shown(line) + "\n")
            self._stream.flush()
        return len(text)

    def finish(self) -> None:
        """Write the last line, which has no end."""
        if self._unfinished:
            self.write("\n")

    def _shown(self, line: str) -> str:
        if self._process is None:
            return visible(line)
        return logs.json_line("printed", line, process=self._process)

    def close(self) -> None:
        """Stay open: other handlers and the log use the stream too."""

    def writable(self) -> bool:
        return True

    @property
    def buffer(self) -> _Bytes:
        """A binary stream, as on any standard stream."""
        return _Bytes(self)

    def fileno(self) -> int:
        return self._stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding


class _Bytes(io.RawIOBase):
    """A binary stream that writes to a text stream."""

    def __init__(self, printed: _Printed) -> None:
        super().__init__()
        self._printed = printed

    def write(self, data: Any) -> int:
        self._printed.write(bytes(data).decode("utf-8", "backslashreplace"))
        return len(data)

    def writable(self) -> bool:
        return True


if __name__ == "__main__":
    sys.exit(main())
