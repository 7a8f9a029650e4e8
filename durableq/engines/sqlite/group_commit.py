"""One writer at a time in a process, and one commit for the operations that wait for it.

SQLite has one writer. A thread that writes alone takes the turn of its process and commits by
itself. Threads that come meanwhile wait in order. The first of them gets the turn next: it runs its
own operation and those of the threads behind it in one transaction, each in a savepoint, and
returns to each thread its own answer or error after COMMIT. So groups form while a commit is in
progress, and nothing waits for company. Sends of one short message each to one queue, next to each
other, are run as one send, which takes a third less time for each.

A thread serves one group, which its own operation begins, and then passes the turn on. The process
holds the database's lock for MAX_GROUP operations or MAX_GROUP_SECONDS, whichever comes first, and
for the rest of one operation. A transaction that user code holds open is served by itself.

Ctrl-C may come between any two steps. An operation is run by one thread at a time, which owns it
from `_take_next` on; a thread that stops on the way puts back those operations whose COMMIT was not
begun, and fails the others with OutcomeUnknown. A thread that waits looks from time to time, so
that no lost signal leaves it waiting.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final

from durableq.engines.sql import sending
from durableq.engines.sql.together import attempt
from durableq.engines.sql.transactions import WriteTransaction
from durableq.engines.sqlite.write_lock import IMPATIENT_SECONDS
from durableq.model.errors import DurableQError, OutcomeUnknown
from durableq.runtime.waits import add_wait

if TYPE_CHECKING:
    from durableq.engines.sqlite.database import Database

MAX_GROUP: Final = 100
#: From BEGIN on; an operation that has begun then is finished.
MAX_GROUP_SECONDS: Final = 0.02
#: Longest body, in characters, that is sent together with others: a hundred take a few ms.
SHORT_BODY: Final = 10_000
#: Between two looks of a waiting thread at its own state.
LOOK_EVERY_SECONDS: Final = 0.1

_Operation = Callable[..., Any]


class Waiting:
    """A thread that waits for the turn, to write a transaction of its own.

    Args:
        deadline: the end of its wait.
    """

    __slots__ = ("deadline", "is_done", "signal", "thread", "writer")

    def __init__(self, deadline: float) -> None:
        self.thread = get_ident()
        self.deadline = deadline
        #: The thread that has taken the operation into its group.
        self.writer: int | None = None
        #: Whether the operation has its answer.
        self.is_done = False
        self.signal = threading.Lock()
        self.signal.acquire()

    def wake(self) -> None:
        """Let the waiting thread look at its state."""
        if self.signal.locked():
            self.signal.release()


class WaitingOperation(Waiting):
    """An operation that may be run in a group, and its thread, which waits for the answer.

    Args:
        deadline: the end of the wait for the turn.
        operation: is called with the transaction and the arguments.
        arguments: the others.
    """

    __slots__ = ("_arguments", "_operation", "answer", "error", "may_be_stored")

    def __init__(self, deadline: float, operation: _Operation, arguments: tuple[Any, ...]) -> None:
        super().__init__(deadline)
        self._operation = operation
        self._arguments = arguments
        self.answer: Any = None
        self.error: BaseException | None = None
        #: Whether the COMMIT of its group may have begun.
        self.may_be_stored = False

    def run(self, tx: WriteTransaction) -> None:
        """Run the operation in a group's transaction."""
        self.answer = attempt(tx, self._operation, *self._arguments)

    @property
    def target(self) -> str | None:
        """The queue to which the operation sends one short message; None if it does not."""
        if self._operation is not sending.send:
            return None
        queue, drafts = self._arguments
        return queue if len(drafts) == 1 and len(drafts[0].body) <= SHORT_BODY else None

    def run_with(self, others: Sequence[WaitingOperation], tx: WriteTransaction) -> None:
        """Run sends to one queue as one; if it is refused, run each by itself."""
        queue, drafts = self._arguments
        every = [*drafts, *(draft for each in others for draft in each._arguments[1])]
        answer = attempt(tx, sending.send, queue, every)
        for position, each in enumerate([self, *others]):
            if isinstance(answer, DurableQError):
                each.run(tx)
            else:
                each.answer = [answer[position]]

    def finish(self, error: BaseException | None = None) -> None:
        """Give the thread its answer, or this error."""
        if not self.is_done:
            self.error = error
            self.is_done = True
            self.wake()

    def undo(self) -> None:
        """Forget the answer of a transaction that was undone."""
        self.answer, self.writer, self.may_be_stored = None, None, False

    def result(self) -> Any:
        """Return the answer, or raise the error."""
        if self.error is not None:
            raise self.error
        if isinstance(self.answer, DurableQError):
            raise self.answer
        return self.answer


class Turn:
    """The right of one thread of this process to write, and the threads that wait for it.

    Args:
        database: the file.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._reset()
        _turns.add(self)

    def _reset(self) -> None:
        self._changing = threading.Lock()
        self._waiting: deque[Waiting] = deque()
        #: The thread that may write.
        self.holder: int | None = None

    def take(self) -> bool:
        """Take the turn, if no other thread has it; return whether it is here."""
        this = get_ident()
        with self._changing:
            if self.holder is None:
                self.holder = this
            return self.holder == this

    def give(self, thread: int | None) -> None:
        """Give the turn to the first thread that waits, if this thread has it.

        Without a thread that waits no lock is taken, which is a thirtieth of a send: one that comes
        meanwhile is seen at the second look, and one that comes later finds the turn free.
        """
        if self.holder == thread and not self._waiting:
            self.holder = None
            if not self._waiting:
                return
        with self._changing:
            if self.holder in (thread, None):
                self._pass_on()

    def wait(self, *, patient: bool = True) -> None:
        """Wait for the turn, up to the busy timeout; unless `patient`, up to IMPATIENT_SECONDS.

        Raises:
            Busy: another thread had it for the whole wait.
        """
        began = time.monotonic()
        try:
            self._wait(Waiting(self._deadline() if patient else began + IMPATIENT_SECONDS))
        finally:
            add_wait(time.monotonic() - began)

    def run(self, operation: _Operation, arguments: tuple[Any, ...]) -> Any:
        """Run an operation in a group: that of another thread, or one that this thread writes.

        Args:
            operation: is called with the transaction and the arguments.
            arguments: the others.

        Raises:
            Busy: other threads wrote for the whole wait.
            Conflict: this thread has a write transaction open, for whose end the others wait.
        """
        self._database.file.use(None)
        mine = WaitingOperation(self._deadline(), operation, arguments)
        try:
            self._wait(mine)
            if not mine.is_done:
                self._write(mine)
        finally:
            try:
                self.give(mine.thread)
            except BaseException:  # Ctrl-C as the call begins: the turn must not stay here
                self.give(mine.thread)
                raise
        return mine.result()

    def _deadline(self) -> float:
        return time.monotonic() + self._database.location.busy_timeout_ms / 1000

    # ---- waiting

    def _wait(self, mine: Waiting) -> None:
        """Wait for the turn, or for the answer to an operation.

        Raises:
            Busy: there is neither at the deadline.
        """
        try:
            with self._changing:
                self._waiting.append(mine)
            while not self._is_over(mine):
                left = mine.deadline - time.monotonic()
                if left <= 0 and self._withdraw(mine):
                    raise self._database.file.busy()
                pause = left if 0 < left < LOOK_EVERY_SECONDS else LOOK_EVERY_SECONDS
                mine.signal.acquire(timeout=pause)
        except BaseException:
            self._withdraw(mine)
            self.give(mine.thread)
            raise

    def _is_over(self, mine: Waiting) -> bool:
        """Return whether a thread has its answer, or the turn."""
        with self._changing:
            if self.holder is None:
                self._pass_on()
            if mine.is_done:
                return True
            is_left = mine.writer not in (None, self.holder)
            has_turn = self.holder == mine.thread and mine.writer is None
            if has_turn and mine in self._waiting:  # Ctrl-C came while it was passed on
                self._waiting.remove(mine)
        if is_left and isinstance(mine, WaitingOperation):
            mine.finish(_unknown())  # a second Ctrl-C came before its writer had answered it
        return has_turn or mine.is_done

    def _withdraw(self, mine: Waiting) -> bool:
        """Wait no more; return False if the turn is here, or a group has the operation."""
        with self._changing:
            is_waiting = mine in self._waiting
            if is_waiting:
                self._waiting.remove(mine)
            return is_waiting and self.holder != mine.thread

    def _pass_on(self) -> None:
        """Make the first waiting thread the holder. The caller has locked the state."""
        if not self._waiting:
            self.holder = None
            return
        following = self._waiting[0]
        self.holder = following.thread  # before it leaves the queue: else Ctrl-C may lose it
        self._waiting.popleft()
        following.wake()

    # ---- writing a group

    def _write(self, mine: WaitingOperation) -> None:
        """Write a group that begins with this thread's operation, and answer all of it."""
        group = [mine]
        try:
            self._commit(group, may_grow=True)
            if not mine.is_done:  # the group was undone: each has an outcome of its own
                for each in tuple(group):
                    self._commit([each], may_grow=False)
        finally:
            self._put_back(group[1:])

    def _commit(self, group: list[WaitingOperation], *, may_grow: bool) -> None:
        """Run operations in one transaction and answer them, unless several were undone."""
        try:
            session = self._database.write()
            session.keeps_turn, is_begun = True, False
            try:
                with session as tx:
                    is_begun = True
                    self._run(tx, group, may_grow=may_grow)
            finally:
                session.keeps_turn = False
                if is_begun:
                    session.abandon()
        except OutcomeUnknown as error:
            for each in group:
                each.finish(_copy(error))
        except Exception as error:  # noqa: BLE001 - whatever a call of this thread would raise
            if len(group) == 1:
                group[0].finish(error)
            else:
                for each in group:
                    each.may_be_stored = False
        else:
            for each in group:
                each.finish()

    def _run(self, tx: WriteTransaction, group: list[WaitingOperation], *, may_grow: bool) -> None:
        end, done = time.monotonic() + MAX_GROUP_SECONDS, 0
        while done < len(group):  # it grows
            first, done = group[done], len(group)
            if first.target is not None:
                while may_grow and time.monotonic() < end and self._take_next(group, first.target):
                    pass
            if others := group[done:]:
                first.run_with(others, tx)
                done = len(group)
            else:
                first.run(tx)
            if may_grow and time.monotonic() < end:
                self._take_next(group)
        for each in group:
            each.may_be_stored = True

    def _take_next(self, group: list[WaitingOperation], target: str | None = None) -> bool:
        """Let the first waiting operation join; return whether there was one.

        A transaction of a thread's own stops the group. With a target, so does any other operation
        than a send of one short message to that queue.
        """
        with self._changing:
            following = self._waiting[0] if self._waiting else None
            if len(group) >= MAX_GROUP or not isinstance(following, WaitingOperation):
                return False
            if target is not None and following.target != target:
                return False
            following.writer = self.holder
            group.append(following)  # before it leaves the queue: else Ctrl-C may lose it
            self._waiting.popleft()
            return True

    def _put_back(self, group: list[WaitingOperation]) -> None:
        """Leave operations without an answer to the next thread, in order."""
        for each in reversed(group):
            if each.is_done:
                continue
            if each.may_be_stored:
                each.finish(_unknown())
                continue
            with self._changing:
                each.undo()
                if each not in self._waiting:
                    self._waiting.appendleft(each)


def _unknown() -> OutcomeUnknown:
    return OutcomeUnknown(
        "The thread that wrote this call together with its own was interrupted at COMMIT: the "
        "write may or may not have happened. Repeat the call with the same key or receipt; that "
        "is safe."
    )


def _copy(error: OutcomeUnknown) -> OutcomeUnknown:
    """Return the same error for another thread, which adds its own traceback to it."""
    copy = OutcomeUnknown(*error.args)
    copy.__cause__ = error.__cause__
    return copy


_turns: Final[weakref.WeakSet[Turn]] = weakref.WeakSet()


def _after_fork() -> None:
    """Forget the parent's threads: they are not in this process."""
    for turn in tuple(_turns):
        turn._reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
