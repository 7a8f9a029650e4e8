"""Group commit for coroutines: one thread for each store runs their operations, many in a commit.

A coroutine hands its operation over and awaits the answer. Operations that come while a commit is
in progress are the next group: there is no timer, and nothing waits for company. Neighbouring sends
to one queue are one send of several messages, and neighbouring completions are one, as in the group
commit of threads (decision 30).

Each operation has its own answer or error. An operation whose coroutine was cancelled before it was
taken is dropped. One that was taken goes on; messages that it has received for a coroutine that is
gone are released, uncounted.

While a group runs, no other process writes to the file. So a group ends at about 5 ms of work, by
the work of the groups before it, and neighbouring receives are one, too.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from weakref import ReferenceType, WeakKeyDictionary, ref

from durableq.model.errors import Busy, DurableQError, OutcomeUnknown
from durableq.model.message import Received
from durableq.store.core import Answer, Call, Receive, Release, Send, Settle, Store

if TYPE_CHECKING:
    import asyncio

#: Messages of a group, whose first operation may have more. One by one they hold the write lock
#: for 20 ms; as one send for 4 ms.
MAX_GROUP: Final = 250
#: Bytes of the bodies in a group, unless its first operation has more.
MAX_GROUP_BYTES: Final = 4 << 20
#: Work of a group: processor time, which has no wait for the disk or for the lock in it.
GROUP_SECONDS: Final = 0.005
#: Operations of a group that are taken, whatever they cost.
LEAST_GROUP: Final = 8


class Operation:
    """A call of a coroutine, and its answer.

    Args:
        call: the call.
        future: gets the answer, in the coroutine's event loop; None: no coroutine waits.
    """

    __slots__ = ("answer", "bytes", "call", "error", "future", "is_done", "is_unwanted", "messages")

    def __init__(self, call: Call, future: asyncio.Future[Any] | None = None) -> None:
        self.call = call
        self.future = future
        self.messages, self.bytes = extent(call)
        self.answer: Any = None
        self.error: BaseException | None = None
        #: Whether it has its answer or its error. The lock of its committer guards this and the
        #: next one.
        self.is_done = False
        #: Whether its coroutine waits no more.
        self.is_unwanted = False

    def give(self, answer: Answer) -> None:
        """Give it its answer, which may be an error."""
        if isinstance(answer, DurableQError):
            self.error = answer
        else:
            self.answer = answer

    def tell(self) -> None:
        """Let its coroutine go on, which may be cancelled by now. Called in its event loop."""
        if self.future is None or self.future.done():
            return
        if self.error is None:
            self.future.set_result(self.answer)
        else:
            self.future.set_exception(self.error)


def extent(call: Call) -> tuple[int, int]:
    """Return the number of messages of a call, and the bytes of the bodies that it stores."""
    match call:
        case Send(_, drafts):
            return len(drafts), sum(len(one.body) for one in drafts)
        case Settle(completions, failures):
            return len(completions) + len(failures), 0
        case Receive(_, int(limit)):
            return limit, 0
    return 1, 0


class Committer:
    """Runs the operations of coroutines in a thread of its own, which ends with it."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        # The collection of garbage may end a coroutine at any step, which then waits no more: it
        # may take this lock in the thread that has it.
        self._changing = threading.RLock()
        self._waiting: deque[Operation] = deque()
        self._is_running = False
        self._is_closed = False
        #: The operations that the next group may have: less after a group that took too long.
        self._most = MAX_GROUP
        # A pool, because the interpreter waits at its end for the operations of its thread.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="durableq-commit")

    def accept(self, store: Store, operation: Operation) -> bool:
        """Take an operation; return False if this committer was closed meanwhile.

        Raises:
            RuntimeError: the interpreter is ending.
        """
        with self._changing:
            if self._is_closed:
                return False
            if not self._is_running:
                self._thread.submit(self._run, store)
                self._is_running = True
            self._waiting.append(operation)
            return True

    def withdraw(self, operation: Operation) -> bool:
        """Note that no coroutine waits for an operation; return whether it has its answer."""
        if self._pid != os.getpid():
            return False  # a thread of the parent may have the lock
        with self._changing:
            operation.is_unwanted = True
            return operation.is_done

    def close(self) -> None:
        """Run the operations that were taken, and end the thread."""
        with self._changing:
            self._is_closed = True
        self._thread.shutdown()

    def _run(self, store: Store) -> None:
        while group := self._take():
            began = time.thread_time()
            _commit(store, group, merges=True)
            self._adapt(len(group), time.thread_time() - began)
            self._answer(group)

    def _adapt(self, operations: int, seconds: float) -> None:
        """Set the size of the next group by the work of one.

        What a commit costs by itself is in it, too: so a small group makes none smaller.
        """
        possible = int(operations * GROUP_SECONDS / max(seconds, 1e-9))
        if seconds > GROUP_SECONDS:
            self._most = max(LEAST_GROUP, possible)
        else:
            self._most = min(MAX_GROUP, max(self._most, possible))

    def _take(self) -> list[Operation]:
        """Take the operations of the next commit, in order; none: the thread stops."""
        group: list[Operation] = []
        messages = size = 0
        with self._changing:
            while self._waiting and len(group) < self._most:
                following = self._waiting[0]
                messages, size = messages + following.messages, size + following.bytes
                if group and (messages > MAX_GROUP or size > MAX_GROUP_BYTES):
                    break
                self._waiting.popleft()
                if not following.is_unwanted:
                    group.append(following)
            if not group:
                self._is_running = False
        return group

    def _answer(self, group: Iterable[Operation]) -> None:
        """Tell each event loop once of all its answers; put back what no coroutine gets."""
        by_loop: dict[Any, list[Operation]] = {}
        unwanted = []
        with self._changing:
            for each in group:
                each.is_done = True
                if each.is_unwanted or each.future is None:
                    unwanted.append(each)
                else:
                    by_loop.setdefault(each.future.get_loop(), []).append(each)
        for loop, answered in by_loop.items():
            try:
                loop.call_soon_threadsafe(_tell, answered)
            except RuntimeError:  # it is closed
                unwanted += answered
        releases = [*filter(None, map(_release, unwanted))]
        with self._changing:
            self._waiting.extendleft(reversed(releases))


def _commit(store: Store, group: Sequence[Operation], *, merges: bool) -> None:
    """Run operations in one transaction; those that are refused together, by themselves."""
    parts = _parts(group) if merges else [[each] for each in group]
    try:
        answers = store.together([*map(_joined, parts)])
    except BaseException as error:  # noqa: BLE001 - it is raised in the coroutines
        is_of_all = isinstance(error, Busy | OutcomeUnknown) or not isinstance(error, Exception)
        if len(group) == 1 or is_of_all:
            for position, each in enumerate(group):
                each.error = _copy(error) if position else error
        else:  # as a full disk: each has an outcome of its own
            for each in group:
                _commit(store, [each], merges=False)
        return
    refused: list[Operation] = []
    for part, answer in zip(parts, answers, strict=True):
        if len(part) == 1:
            part[0].give(answer)
        elif isinstance(answer, DurableQError):
            refused += part
        else:
            _share(part, answer)
    if refused:
        _commit(store, refused, merges=False)


def _parts(group: Iterable[Operation]) -> list[list[Operation]]:
    """Return neighbouring operations that can be one, and the others by themselves."""
    return [[*part] for _, part in itertools.groupby(group, _kind)]


def _kind(operation: Operation) -> object:
    match operation.call:
        case Send(queue):
            return queue
        case Settle(_, failures) if not failures:
            return Settle
        case Receive() as receive if _can_be_shared(receive):
            return replace(receive, limit=0)
    return operation


def _can_be_shared(call: Receive) -> bool:
    """Return whether the messages of a receive may be those of several: not if they are a batch."""
    is_batch = call.by_group or call.gather is not None
    if call.served is not None:
        is_batch |= call.served.fill_groups
    return not is_batch and type(call.limit) is int and call.limit > 0


def _joined(part: Sequence[Operation]) -> Call:
    """Return the operations of a part as one."""
    first = part[0].call
    if len(part) == 1:
        return first
    if isinstance(first, Send):
        return Send(first.queue, [one for each in part for one in _contents(each)])
    if isinstance(first, Receive):
        return replace(first, limit=sum(each.messages for each in part))
    return Settle([one for each in part for one in _contents(each)])


def _contents(operation: Operation) -> Sequence[Any]:
    """Return the messages of a send, or the completions of a settlement."""
    call = operation.call
    return call.drafts if isinstance(call, Send) else getattr(call, "completions", ())


def _share(part: Sequence[Operation], answer: Any) -> None:
    """Give each operation of a part its share of the answer."""
    start = 0
    for each in part:
        end = start + each.messages
        if isinstance(answer, Received):
            each.answer = answer._replace(messages=answer.messages[start:end])
            answer = answer._replace(duplicates=[], set_aside=0)  # they are the first one's
        else:
            each.answer = answer[start:end]
        start = end


def _copy(error: BaseException) -> BaseException:
    """Return the same error for another coroutine, which adds its own traceback to it."""
    copy = type(error).__new__(type(error), *error.args)
    copy.__dict__.update(error.__dict__)
    copy.__cause__ = error.__cause__
    return copy


def _tell(answered: Iterable[Operation]) -> None:
    for each in answered:
        each.tell()


def _release(operation: Operation) -> Operation | None:
    """Return the release of the messages that an operation has received, if there are any.

    Those of a receive with an attempt id stay leased: its caller asks again for them, and may have
    them under this very lease by now.
    """
    received, call = operation.answer, operation.call
    if not isinstance(received, Received) or not received.messages:
        return None
    if isinstance(call, Receive) and call.served is not None and call.served.attempt_id is not None:
        return None
    return Operation(Release([one.receipt for one in received.messages if one.receipt]))


#: The committer of each store that coroutines use.
_committers: WeakKeyDictionary[Store, Committer] = WeakKeyDictionary()
#: The other calls of coroutines that are on their way in threads.
_others: WeakKeyDictionary[Store, set[Future[Any]]] = WeakKeyDictionary()
_choosing = threading.RLock()


def submit(store: Store, operation: Operation) -> Committer:
    """Hand an operation over to the thread of its store.

    Raises:
        RuntimeError: the interpreter is ending.
    """
    while True:
        with _choosing:
            committer = _committers.get(store)
            if committer is None:
                committer = _committers.setdefault(store, Committer())
        if committer.accept(store, operation):
            return committer


def abandon(store: Store, committer: Committer, operation: Operation) -> None:
    """Wait no more for an operation; release messages that it has received already."""
    if committer.withdraw(operation) and (release := _release(operation)) is not None:
        with suppress(RuntimeError):  # the interpreter is ending: the leases end by themselves
            submit(store, release)


def note(store: Store, future: Future[Any]) -> None:
    """Note another call of coroutines that is on its way in a thread: closing waits for it."""
    with _choosing:
        _others.setdefault(store, set()).add(future)
    future.add_done_callback(partial(_forget, ref(store)))


def _forget(of: ReferenceType[Store], future: Future[Any]) -> None:
    store = of()
    with _choosing:
        if store is not None:
            _others.get(store, set()).discard(future)


def finish(store: Store) -> None:
    """Run the operations of a store that were taken, and end what runs in threads for it."""
    with _choosing:
        committer = _committers.pop(store, None)
        others = {*_others.pop(store, ())}
    if committer is not None:
        committer.close()
    wait(others)


def _after_fork() -> None:
    """Forget the parent's operations: their coroutines are not in this process."""
    global _choosing  # noqa: PLW0603 - a thread of the parent may have had it
    _choosing = threading.RLock()
    _committers.clear()
    _others.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
