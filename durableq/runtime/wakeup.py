"""Waiting without polling: for file descriptors, for an event, for messages.

A signal handler cannot set a threading.Event, whose lock the interrupted thread may hold, and a
poll of file descriptors does not see one. A WakeupEvent is a pipe: both can use it.
"""

from __future__ import annotations

import math
import os
import select
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from durableq.store.core import HasFileno, Store

#: Exit code of a process whose file descriptors were closed or replaced by other code.
CLOSED_DESCRIPTORS: Final = 71
#: Pause after a write, of those who look after each: the writes of a busy file are looked at
#: together.
WRITES_SECONDS: Final = 0.01


def wait_readable(seconds: float, *files: int | HasFileno) -> bool:
    """Wait until one of the files is readable or at its end; return whether one is."""
    poller = select.poll()  # select() cannot take a descriptor beyond 1023
    for file in files:
        poller.register(file, select.POLLIN)
    # Rounded up: rounding down would wake the caller early, to wait again.
    return bool(poller.poll(math.ceil(max(0.0, seconds) * 1000)))


class WakeupEvent:
    """An event that threads and signal handlers set; its descriptor is readable while it is set.

    Its pipe is closed with its last reference, if not before.
    """

    _read = _write = -1

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        self._was = os.fstat(self._write)
        for end in (self._read, self._write):
            os.set_blocking(end, False)
        #: Whether it has been set, and not cleared since. `set` and `clear` change it.
        self.is_set = False

    @property
    def is_intact(self) -> bool:
        """Whether its descriptors are open and still refer to its pipe."""
        try:
            return all(
                os.path.samestat(os.fstat(end), self._was) for end in (self._read, self._write)
            )
        except OSError:
            return False

    def exit_unless_intact(self) -> None:
        """Exit at once with CLOSED_DESCRIPTORS if other code has closed its descriptors.

        That code has probably closed the database's as well: SQLite would go on writing to numbers
        that may be other files by now. Nothing is logged, because stderr may be another file too.
        """
        if self._read >= 0 and not self.is_intact:
            os._exit(CLOSED_DESCRIPTORS)

    def exit_if_closed(self) -> None:
        """Exit as `exit_unless_intact` does, after a check that is quick enough for each message.

        `fstat` and `fcntl` release the GIL; this check does not, and takes a tenth of their time.
        It misses other files under the same numbers if neither of them blocks.
        """
        try:
            if not (os.get_blocking(self._read) or os.get_blocking(self._write)):
                return
        except OSError:
            pass
        self.exit_unless_intact()  # other code may have changed the flags only

    def set(self) -> None:
        """Set the event and end all waits for it. Never blocks."""
        self.is_set = True
        if self.is_intact:  # otherwise the byte could land in another file, even the database
            with suppress(BlockingIOError):  # a full pipe is readable
                os.write(self._write, b"\0")

    def clear(self) -> None:
        """Clear the event. A `set` during this call is not lost."""
        self.is_set = False
        with suppress(BlockingIOError):
            while os.read(self._read, 512):
                pass

    def wait(self, seconds: float) -> bool:
        """Wait until the event is set, for at most `seconds`; return whether it is set."""
        return self.is_set or wait_readable(seconds, self) or self.is_set

    def fileno(self) -> int:
        """Return the descriptor that is readable while the event is set."""
        return self._read

    def close(self) -> None:
        """Close the descriptors, unless that was done; a later `set` wakes nobody.

        A number that other code has closed, and that is another file by now, is left open.
        """
        ends = self._read, self._write
        self._read = self._write = -1
        for end in ends:
            with suppress(OSError):
                if os.path.samestat(os.fstat(end), self._was):
                    os.close(end)

    def __del__(self) -> None:
        self.close()


class MessageWaiter:
    """Waits until a receive may return messages. Workers and recovery use it.

    `receive(wait_ms=…)` waits for one queue, and to the end. These processes receive from several
    queues and end a wait at a signal, after which they lease nothing more.

    Args:
        store: the store that holds the queues.
        stopping: ends a wait early.
        pauses_seconds: first and longest pause after a write that made no message ready.
    """

    def __init__(
        self, store: Store, stopping: WakeupEvent, pauses_seconds: tuple[float, float]
    ) -> None:
        self._store = store
        self._pauses = pauses_seconds
        self._stopping = stopping
        self._watch = store.watch()
        self._pause = 0.0

    def wait(self, queues: Sequence[str], seconds: float) -> bool:
        """Wait for a message; return True if one is ready, or if a write came after a silence.

        Such a write has probably sent a message, so the caller receives at once, without a look.

        Args:
            queues: queues to look at; none waits for any write.
            seconds: longest wait.

        Raises:
            UnknownQueue: one of the queues does not exist.
        """
        left_ms = self._store.ready_in_ms(queues) if queues else None
        if left_ms == 0:
            return True
        if self._pause and self._stopping.wait(self._pause):
            return False
        if left_ms is not None:
            seconds = min(seconds, left_ms / 1000)
        began_at = time.monotonic()
        if not self._watch.wait(seconds, self._stopping):
            self._pause = 0.0  # no process has written: the next write gets an answer at once
            return False
        first, longest = self._pauses
        if time.monotonic() - began_at > longest:
            self._pause = first
            return bool(queues)
        self._pause = min(max(2 * self._pause, first), longest)
        return False

    def reset(self) -> None:
        """Drop the pause, after a receive that returned messages."""
        self._pause = 0.0

    def close(self) -> None:
        """Stop watching the store."""
        self._watch.close()
