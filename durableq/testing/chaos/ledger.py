"""The ledgers: the calls of each process and their answers, outside the file under test.

One file a process, one line a step, one write a line: a killed process leaves whole lines. A call
without an answer is unknown: it may or may not have happened.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Final, NamedTuple

from durableq.client.delivery import Delivery
from durableq.model.errors import NOT_ITS_FAULT, AppError, StaleReceipt, Unavailable

FOLDER_VARIABLE: Final = "DURABLEQ_CHAOS_LEDGERS"
#: In place of a missing key, message, receipt or attempt.
NONE: Final = "-"
_SUFFIX: Final = ".ledger"
#: More than the longest line.
_TAIL_BYTES: Final = 1024


class Step(StrEnum):
    """The progress of a process with an operation."""

    #: It begins.
    INVOKE = "invoke"
    #: The gateway has accepted; the charge is not written yet.
    PASSED = "passed"
    OK = "ok"
    #: Its receipt was stale; nothing was written.
    REFUSED = "refused"
    #: It raised, and the message fails.
    FAILED = "failed"
    #: The file was busy or full: the message is released, uncounted.
    UNSETTLED = "unsettled"
    #: The queue was full: the send stored nothing.
    FULL = "full"
    #: It raised Unavailable: the service that it calls is down.
    UNAVAILABLE = "unavailable"


#: The steps that leave open whether the operation happened.
UNANSWERED: Final = (Step.INVOKE, Step.PASSED)


class Line(NamedTuple):
    """One line of a ledger."""

    #: The monotonic clock, which all processes of a machine share.
    at_ns: int
    pid: int
    #: send, charge, or the name of a decision or a fault. For a queue with limits: send_ and its
    #: name, or its name for an attempt of its handler.
    operation: str
    step: str
    key: str = NONE
    message_id: str = NONE
    #: The token that this receive was given.
    receipt: str = NONE
    #: RECOVERIES.RECEIVES of the message, this one counted.
    attempt: str = NONE

    @property
    def order(self) -> tuple[int, int]:
        """The attempt as numbers: of two receives of a message, the later has the greater."""
        recoveries, receives = self.attempt.split(".")
        return int(recoveries), int(receives)


class Ledger:
    """The ledger of this process.

    Args:
        folder: the folder of all ledgers of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._handle: int | None = None

    @classmethod
    def of_this_run(cls) -> Ledger:
        """Return the ledger of a process that a chaos run started.

        Raises:
            AppError: no chaos run started this process.
        """
        folder = os.environ.get(FOLDER_VARIABLE)
        if not folder:
            raise AppError(f"This runs inside `durableq chaos` only: {FOLDER_VARIABLE} is not set.")
        return cls(Path(folder))

    def note(self, operation: str, step: str, *details: str | None) -> None:
        """Append a line; the details are a Line's last fields, in order."""
        if self._handle is None:
            path = self.folder / f"{os.getpid()}{_SUFFIX}"
            self._handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        line = Line(
            time.monotonic_ns(), os.getpid(), operation, step, *(d or NONE for d in details)
        )
        os.write(self._handle, (" ".join(map(str, line)) + "\n").encode())

    def close(self) -> None:
        """Close the file; the next line opens it again."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)

    @contextmanager
    def attempt(self, operation: str, message: Delivery) -> Iterator[Callable[[Step], None]]:
        """Log an attempt of a handler and its outcome; the value logs a step on the way."""
        counts = f"{message.recovery_count}.{message.receive_count}"
        details = (message.key, message.id, message.receipt.token, counts)

        def note(step: Step) -> None:
            self.note(operation, step, *details)

        note(Step.INVOKE)
        try:
            yield note
        except BaseException as error:
            note(_step_of(error))
            raise
        note(Step.OK)


def _step_of(error: BaseException) -> Step:
    match error:
        case StaleReceipt():
            return Step.REFUSED
        case Unavailable():
            return Step.UNAVAILABLE
        case _:
            return Step.UNSETTLED if isinstance(error, NOT_ITS_FAULT) else Step.FAILED


def read(folder: Path) -> list[Line]:
    """Return the lines of all ledgers in a folder, oldest first."""
    return sorted(line for path in folder.glob(f"*{_SUFFIX}") for line in _lines(path.read_bytes()))


def last(folder: Path, pid: int) -> Line | None:
    """Return the last whole line of a process, which may be writing the next."""
    try:
        with (folder / f"{pid}{_SUFFIX}").open("rb") as ledger:
            ledger.seek(max(0, ledger.seek(0, os.SEEK_END) - _TAIL_BYTES))
            tail = ledger.read()
    except FileNotFoundError:
        return None
    whole = tail[: tail.rfind(b"\n")]
    return next(_lines(whole[whole.rfind(b"\n") + 1 :] + b"\n"), None) if whole else None


def answer(folder: Path, asked: Line) -> Line | None:
    """Return the answer to an invocation; None as long as there is none."""
    path = folder / f"{asked.pid}{_SUFFIX}"
    answers = (
        line
        for line in _lines(path.read_bytes())
        if line.receipt == asked.receipt and line.step not in UNANSWERED
    )
    return next(answers, None)


def _lines(content: bytes) -> Iterator[Line]:
    """Read whole lines. A rest without a line end is being written, or was cut off."""
    for line in content[: content.rfind(b"\n") + 1].decode().splitlines():
        at_ns, pid, *words = line.split(" ")
        yield Line(int(at_ns), int(pid), *words)
