"""What a worker is doing, in memory it shares with its supervisor.

Who watches a worker must know what it had begun when it died, and how long a handler has been
running even while that handler lets no other line of Python run. So the worker keeps a note of it
in shared memory: a store of a few bytes, no system call, and it outlives the worker.
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
import threading
import time
from collections.abc import Iterator
from enum import IntEnum
from typing import Final, NamedTuple

from durableq.model.message import Receipt

#: Messages begun and not settled that are noted at a time; any beyond go unnoted.
SLOTS: Final = 1024
_HEAD: Final = struct.Struct("=5q")
_SLOT: Final = struct.Struct("=qqqH126s")
_SIZE: Final = _HEAD.size + SLOTS * _SLOT.size
_BEAT, _INTERVAL, _STAGE, _OWNER_ID, _SETTLED = range(5)
_FIELD: Final = struct.Struct("=q")


class Stage(IntEnum):
    """How far a worker has come."""

    #: Its application is being imported.
    STARTING = 0
    #: Only durableq's own code is left: it opens the file, registers, receives; and waits if the
    #: file is busy.
    OPENING = 1
    #: It has made its first receive.
    READY = 2
    #: Ended: nothing was left to do.
    DRAINED = 3
    #: Ended: it was told to.
    STOPPED = 4
    #: Ended: it has handled as many messages as it was to.
    USED_UP = 5

    @property
    def ended(self) -> bool:
        """Whether the worker came to its end by its own decision."""
        return self > Stage.READY


class HandlerCall(NamedTuple):
    """A message, or a batch, that a handler was given and that is not settled."""

    #: On the monotonic clock, which all processes share.
    began_ns: int
    #: When the handler has run too long; 0 where it may run for ever, -1 once it has returned.
    deadline_ns: int
    #: The process group of the command that handles it; 0 where a function does, or it returned.
    group: int
    token: str
    #: Empty for a batch: everything received under the token.
    message_id: str

    @property
    def has_returned(self) -> bool:
        """Whether only the settling is left."""
        return self.deadline_ns < 0

    def matches(self, receipt: Receipt) -> bool:
        """Whether this is about the delivery with that receipt."""
        return self.token == receipt.token and self.message_id in {"", receipt.message_id}


class Scoreboard:
    """The shared memory of one worker. One side writes, the other reads.

    Args:
        fileno: what it stands on; None means this process's own memory, for a worker alone.
    """

    def __init__(self, fileno: int | None = None) -> None:
        self._memory = mmap.mmap(-1 if fileno is None else fileno, _SIZE)
        self._free = list(range(SLOTS))
        self._changing = threading.Lock()

    # ---- the worker's side

    def beat(self, again_ms: int) -> None:
        """Note that the worker runs, and will note so again after this long."""
        self._set(_INTERVAL, again_ms)
        self._set(_BEAT, time.monotonic_ns())

    def reach(self, stage: Stage) -> None:
        """Note how far it has come."""
        self._set(_STAGE, stage)

    def register(self, owner_id: int) -> None:
        """Note the worker's mark in its receipts."""
        self._set(_OWNER_ID, owner_id)

    def begin(self, token: str, message_id: str, *, timeout_ms: int = 0) -> int | None:
        """Note that a handler is given a message, or a batch; return the slot to end it with."""
        with self._changing:
            slot = self._free.pop() if self._free else None
        if slot is not None:
            now = time.monotonic_ns()
            deadline = now + timeout_ms * 1_000_000 if timeout_ms else 0
            name = f"{token}:{message_id}".encode()
            # The time last: a slot without one is empty, whatever else stands in it.
            _SLOT.pack_into(self._memory, self._at(slot), 0, deadline, 0, len(name), name)
            _FIELD.pack_into(self._memory, self._at(slot), now)
        return slot

    def set_process_group(self, slot: int, group: int) -> None:
        """Note the process group of the command that handles it."""
        _FIELD.pack_into(self._memory, self._at(slot) + 2 * _FIELD.size, group)

    def mark_returned(self, slot: int) -> None:
        """Note that the handler has returned in time; the message is still to be settled.

        Its command has ended, so the number of its process group may be given to another.
        """
        _FIELD.pack_into(self._memory, self._at(slot) + _FIELD.size, -1)
        _FIELD.pack_into(self._memory, self._at(slot) + 2 * _FIELD.size, 0)

    def end(self, slot: int) -> None:
        """Note that it is settled."""
        _FIELD.pack_into(self._memory, self._at(slot), 0)
        with self._changing:
            self._free.append(slot)

    def count_settled(self, messages: int) -> None:
        """Add to the number of messages that this worker has settled."""
        with self._changing:
            self._set(_SETTLED, self.settled + messages)

    # ---- the supervisor's side

    @property
    def beat_interval_ms(self) -> int:
        """How often the worker means to note that it runs; 0: it has not begun to."""
        return self._get(_INTERVAL)

    @property
    def is_late(self) -> bool:
        """Whether the worker should have noted by now that it runs."""
        rhythm_ns = self.beat_interval_ms * 1_000_000
        return rhythm_ns > 0 and time.monotonic_ns() - self._get(_BEAT) > 1.5 * rhythm_ns

    @property
    def stage(self) -> Stage:
        """How far it has come."""
        return Stage(self._get(_STAGE))

    @property
    def owner_id(self) -> int:
        """Its mark in its receipts; 0 before it is registered."""
        return self._get(_OWNER_ID)

    @property
    def settled(self) -> int:
        """How many messages it has settled."""
        return self._get(_SETTLED)

    def calls(self) -> Iterator[HandlerCall]:
        """Return what handlers were given and is not settled."""
        for slot in range(SLOTS):
            began, deadline, group, length, name = _SLOT.unpack_from(self._memory, self._at(slot))
            if began:
                token, _, message_id = name[:length].decode(errors="replace").partition(":")
                yield HandlerCall(began, deadline, group, token, message_id)

    def close(self) -> None:
        """Let go of the memory."""
        self._memory.close()

    def _at(self, slot: int) -> int:
        return _HEAD.size + slot * _SLOT.size

    def _get(self, field: int) -> int:
        value: int = _FIELD.unpack_from(self._memory, field * _FIELD.size)[0]
        return value

    def _set(self, field: int, value: int) -> None:
        _FIELD.pack_into(self._memory, field * _FIELD.size, value)


def shared_memory() -> int:
    """Return a descriptor of new memory for a Board, to be given to a worker."""
    if hasattr(os, "memfd_create"):
        fileno = os.memfd_create("durableq-board")
    else:
        fileno, path = tempfile.mkstemp(prefix="durableq-board-")
        os.unlink(path)
    os.ftruncate(fileno, _SIZE)
    return fileno
