"""Output of a worker whose supervisor has died: the worker shows it by itself."""

from __future__ import annotations

import atexit
import os
import select
import threading
import time
from contextlib import suppress
from typing import Final

from durableq.runtime.logs import LogFormat
from durableq.runtime.printable import LineFilter
from durableq.runtime.wakeup import wait_readable
from durableq.worker.options import WorkerOptions

READ_BYTES: Final = 64 << 10
LOOK_SECONDS: Final = 1.0
FINISH_SECONDS: Final = 1.0


class OutputTakeover:
    """A thread that waits for the supervisor's end, and then reads the pipe in its place.

    Without it the programs that handlers started would be killed by their next line (SIGPIPE).

    Args:
        options: with the pipe, the supervisor's stderr and its lifeline.
        encoding: of that stderr.
    """

    def __init__(self, options: WorkerOptions, encoding: str) -> None:
        self._options = options
        self._lines = LineFilter(options.name, LogFormat(options.log_format), encoding)
        self._files = {each: os.fstat(each) for each in (options.output, options.terminal)}
        self._showing = threading.Lock()
        for fileno in self._files:
            os.set_inheritable(fileno, False)

    def start(self) -> None:
        """Start the thread."""
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
