"""The scoreboard: a worker's handler calls, in memory shared with its supervisor.

The supervisor must know the running handlers of a worker that died, and their duration even while a
handler blocks the interpreter. Writing to shared memory costs no system call, and the memory
outlives the worker.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import time
from collections.abc import Iterator
from enum import IntEnum
from typing import Final, NamedTuple

from durableq.model.message import Receipt

#: Number of handler calls in the scoreboard; any beyond are not recorded.
SLOTS: Final = 1024
#: The memory consists of words of 8 bytes. One is written at once, so no reader sees half of it.
_WORD: Final = 8
_HEAD_WORDS: Final = 4
_BEAT, _INTERVAL, _STAGE, _OWNER_ID = range(_HEAD_WORDS)
#: The words at the start of a slot; the name follows: the token and the message's id.
_BEGAN, _DEADLINE, _GROUP, _LENGTH, _NAME = range(5)
_NAME_BYTES: Final = 128
_SLOT_WORDS: Final = _NAME + _NAME_BYTES // _WORD
_SIZE: Final = _WORD * (_HEAD_WORDS + SLOTS * _SLOT_WORDS)


class Stage(IntEnum):
    """The stage of a worker's life."""

    #: Its application is being imported.
    STARTING = 0
    #: Only durableq's own code runs: it opens the file, registers and receives, and waits if the
    #: file is busy.
    OPENING = 1
    #: It has made its first receive.
    READY = 2
    #: Ended: the queues were empty.
    DRAINED = 3
    #: Ended: it was asked to stop.
    STOPPED = 4
    #: Ended: it has handled `max_messages`.
    USED_UP = 5

    @property
    def ended(self) -> bool:
        """Whether the worker ended in an orderly way."""
        return self > Stage.READY


class HandlerCall(NamedTuple):
    """A handler's call with a message or a batch that is not settled."""

    #: On the monotonic clock, which all processes share.
    began_ns: int
    #: Time limit of the handler; 0 for none, -1 after it has returned.
    deadline_ns: int
    #: Process group of the command that handles it; 0 for a function, or after the return.
    group: int
    token: str
    #: Empty for a batch: all messages received under the token.
    message_id: str

    @property
    def has_returned(self) -> bool:
        """Whether the handler has returned, and only the commit is missing."""
        return self.deadline_ns < 0

    def matches(self, receipt: Receipt) -> bool:
        """Return whether this call has the delivery with that receipt."""
        return self.token == receipt.token and self.message_id in {"", receipt.message_id}


class Scoreboard:
    """The shared memory of one worker. The worker writes, the supervisor reads.

    Args:
        fileno: descriptor of the memory; None for private memory, without a supervisor.
    """

    def __init__(self, fileno: int | None = None) -> None:
        self._memory = mmap.mmap(-1 if fileno is None else fileno, _SIZE)
        self._words = memoryview(self._memory).cast("q")
        #: First words of the free slots. Threads pop and append, each one atomic step.
        self._free: list[int] = [*range(_HEAD_WORDS, _SIZE // _WORD, _SLOT_WORDS)]

    # ---- the worker's side

    def beat(self, again_ms: int) -> None:
        """Record that the worker runs, and the time until its next beat."""
        self._words[_INTERVAL] = again_ms
        self._words[_BEAT] = time.monotonic_ns()

    def reach(self, stage: Stage) -> None:
        """Record the stage."""
        self._words[_STAGE] = stage

    def register(self, owner_id: int) -> None:
        """Record the worker's owner id."""
        self._words[_OWNER_ID] = owner_id

    def begin(
        self, token: str, message_id: str, began_ns: int, *, timeout_ns: int = 0
    ) -> int | None:
        """Record a handler call; return its slot, or None if there is no room."""
        try:
            slot = self._free.pop()
        except IndexError:
            return None
        words, at = self._words, _WORD * (slot + _NAME)
        name = f"{token}:{message_id}".encode()[:_NAME_BYTES]
        self._memory[at : at + len(name)] = name
        words[slot + _LENGTH] = len(name)
        words[slot + _GROUP] = 0
        words[slot + _DEADLINE] = began_ns + timeout_ns if timeout_ns else 0
        words[slot + _BEGAN] = began_ns  # the last: a slot without a time is empty
        return slot

    def set_process_group(self, slot: int, group: int) -> None:
        """Record the process group of the command that handles it."""
        self._words[slot + _GROUP] = group

    def mark_returned(self, slot: int) -> None:
        """Record that the handler has returned; the message is not settled yet.

        Its command has ended, so the number of its process group may be reused.
        """
        self._words[slot + _DEADLINE] = -1
        self._words[slot + _GROUP] = 0

    def end(self, slot: int) -> None:
        """Free the slot of a settled message."""
        self._words[slot + _BEGAN] = 0
        self._free.append(slot)

    def began_ns(self, slot: int) -> int:
        """Return the start of the handler call in a slot; 0 if the slot is free."""
        return self._words[slot + _BEGAN]

    # ---- the supervisor's side

    @property
    def beat_interval_ms(self) -> int:
        """Interval of the worker's beats; 0 before the first."""
        return self._words[_INTERVAL]

    @property
    def is_late(self) -> bool:
        """Whether a beat is overdue."""
        rhythm_ns = self.beat_interval_ms * 1_000_000
        return rhythm_ns > 0 and time.monotonic_ns() - self._words[_BEAT] > 1.5 * rhythm_ns

    @property
    def stage(self) -> Stage:
        """Stage of the worker."""
        return Stage(self._words[_STAGE])

    @property
    def owner_id(self) -> int:
        """Owner id of the worker; 0 before it is registered."""
        return self._words[_OWNER_ID]

    def calls(self) -> Iterator[HandlerCall]:
        """Return the handler calls whose messages are not settled."""
        words = self._words
        for slot in range(_HEAD_WORDS, len(words), _SLOT_WORDS):
            began, deadline, group, length = words[slot : slot + _NAME]
            if began:
                at = _WORD * (slot + _NAME)
                name = self._memory[at : at + length].decode(errors="replace")
                token, _, message_id = name.partition(":")
                yield HandlerCall(began, deadline, group, token, message_id)

    def close(self) -> None:
        """Unmap the memory."""
        self._words.release()
        self._memory.close()


def shared_memory() -> int:
    """Return a descriptor of new memory for a Scoreboard, to be inherited by a worker."""
    return anonymous_file("durableq-scoreboard", _SIZE)


def anonymous_file(name: str, size: int) -> int:
    """Return a descriptor of new memory of `size` bytes, all of them 0."""
    if hasattr(os, "memfd_create"):
        fileno = os.memfd_create(name)
    else:
        fileno, path = tempfile.mkstemp(prefix=f"{name}-")
        os.unlink(path)
    os.ftruncate(fileno, size)
    return fileno
