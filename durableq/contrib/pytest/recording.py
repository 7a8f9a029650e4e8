"""The store of an application under test: it records sends, and knows the crash points."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, cast

from durableq.client.app import DurableQ
from durableq.contrib.pytest import crashes
from durableq.model.errors import InvalidInput
from durableq.model.message import Completion, Draft, Failure, Receipt, Received
from durableq.model.text import shown, visible
from durableq.store.capabilities import Transaction
from durableq.store.core import Answer, Call, Capability, Send, Store


@dataclass(slots=True)
class _Entry:
    """A message that was sent."""

    queue: str
    id: str
    draft: Draft
    #: False while the caller's own transaction may not have committed.
    is_committed: bool = True


class SendLog:
    """The sends of an application in one test, in order. Thread-safe."""

    def __init__(self) -> None:
        #: By the id of the message.
        self._entries: dict[str, _Entry] = {}
        self._lock = threading.Lock()

    def add(
        self, queue: str, ids: Sequence[str], drafts: Sequence[Draft], *, is_committed: bool = True
    ) -> None:
        """Record a send. A message that was shed has no id."""
        with self._lock:
            for message_id, draft in zip(ids, drafts, strict=True):
                if message_id:
                    self._add(_Entry(queue, message_id, draft, is_committed))

    def _add(self, entry: _Entry) -> None:
        known = self._entries.get(entry.id)
        if known is not None and known.is_committed:
            return  # it had a deduplication_id: this is the id of the earlier message
        self._entries.pop(entry.id, None)  # one that was rolled back: its id is given again
        self._entries[entry.id] = entry

    def seen(self, ids: Iterable[str]) -> None:
        """Record that these messages are there, so that their transactions have committed."""
        there = {*ids}
        for entry in self._uncommitted():
            entry.is_committed |= entry.id in there

    def committed(self, queue: str, store: Store) -> list[tuple[str, Draft]]:
        """Return the messages of a queue that exist, or have existed, with their ids."""
        inspect = store.require(Capability.INSPECT)
        self.seen(one.id for one in self._uncommitted() if inspect.message(one.id) is not None)
        with self._lock:
            there = [one for one in self._entries.values() if one.is_committed]
        return [(one.id, one.draft) for one in there if one.queue == queue]

    def _uncommitted(self) -> list[_Entry]:
        with self._lock:
            return [one for one in self._entries.values() if not one.is_committed]


class RecordingStore:
    """A store whose sends are recorded, and which refuses the calls of a crashed process.

    All else is the other store's.

    Args:
        inner: the other store.
        log: gets the sends.
    """

    def __init__(self, inner: Store, log: SendLog) -> None:
        self.inner = inner
        self._log = log

    def __getattr__(self, name: str) -> Any:
        crashes.check_alive()
        return getattr(self.inner, name)

    def close(self) -> None:
        """Close the other store."""
        self.inner.close()

    def require(self, capability: Any) -> Any:
        """Return this store, if the other one has the capability."""
        self.inner.require(capability)
        return self

    def send(self, queue: str, drafts: Sequence[Draft], *, connection: Any = None) -> list[str]:
        """Send; see Transactions.send."""
        crashes.check_alive()
        if connection is not None:
            joining = self.inner.require(Capability.TRANSACTIONS)
            ids = joining.send(queue, drafts, connection=connection)
            self._log.add(queue, ids, drafts, is_committed=False)
            return ids
        crashes.reach("before send")
        ids = self.inner.send(queue, drafts)
        self._log.add(queue, ids, drafts)
        crashes.reach("after send")
        return ids

    def receive(self, *args: Any, **options: Any) -> Received:
        """Receive; see Queueing.receive."""
        crashes.check_alive()
        received = self.inner.receive(*args, **options)
        self._see(received)
        return received

    def together(self, calls: Sequence[Call]) -> list[Answer]:
        """Run several operations; see Queueing.together."""
        crashes.check_alive()
        if any(isinstance(call, Send) for call in calls):  # of coroutines
            crashes.reach("before send")
        answers = self.inner.together(calls)
        has_sent = False
        for call, answer in zip(calls, answers, strict=True):
            if isinstance(answer, Received):
                self._see(answer)
            elif isinstance(call, Send) and isinstance(answer, list):
                self._log.add(call.queue, cast(list[str], answer), call.drafts)
                has_sent = True
        if has_sent:  # not if all were refused
            crashes.reach("after send")
        return answers

    def transaction(self, receipts: Sequence[Receipt], *, actor: str = "") -> _RecordedBlock:
        """Open a transaction; see Transactions.transaction."""
        crashes.check_alive()
        transactions = self.inner.require(Capability.TRANSACTIONS)
        return _RecordedBlock(transactions.transaction(receipts, actor=actor), self._log)

    def committed_sends(self, queue: str) -> list[tuple[str, Draft]]:
        """Return the messages that were sent to a queue, with their ids."""
        return self._log.committed(queue, self.inner)

    def _see(self, received: Received) -> None:
        self._log.seen(one.id for one in received.messages)
        self._log.seen(one.message_id for one in received.duplicates)


class _RecordedBlock:
    """The block of a transaction of user code, and what user code holds in it."""

    def __init__(self, block: AbstractContextManager[Transaction], log: SendLog) -> None:
        self._block = block
        self._log = log
        self._sends: list[tuple[str, list[str], Sequence[Draft]]] = []
        self._has_ended = False
        self._opened: Transaction

    def __enter__(self) -> _RecordedBlock:
        self._opened = self._block.__enter__()
        return self

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if self._has_ended:  # it may be called twice; see client/transaction.py
            return
        try:
            if error is None:
                crashes.reach("before commit")
        except (crashes.Crashed, crashes.SenderCrashed) as crash:
            kind, error, traceback = type(crash), crash, crash.__traceback__
            self._leave(kind, error, traceback)
            raise
        self._leave(kind, error, traceback)
        if error is None:
            for send in self._sends:
                self._log.add(*send)
            crashes.reach("after commit")

    def _leave(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        """End the transaction: an error leaves what a killed process leaves, nothing of it."""
        self._block.__exit__(kind, error, traceback)
        self._has_ended = True

    def execute(self, statement: Any, parameters: Any = None) -> Any:
        """Run a statement; see Transaction.execute."""
        crashes.check_alive()
        return self._opened.execute(statement, parameters)

    @property
    def session(self) -> Any:
        """The Session in it; see Transaction.session."""
        crashes.check_alive()
        return self._opened.session

    def send(self, queue: str, drafts: Sequence[Draft]) -> list[str]:
        """Send messages that exist only if this commits."""
        crashes.check_alive()
        ids = self._opened.send(queue, drafts)
        self._sends.append((queue, ids, drafts))
        return ids

    def once_store(self, key: str, token: bytes, value: str, *, ttl_ms: int) -> bool:
        """Store a value, if this commits."""
        crashes.check_alive()
        return self._opened.once_store(key, token, value, ttl_ms=ttl_ms)

    def settle(
        self,
        completions: Sequence[Completion],
        failures: Sequence[tuple[Receipt, Failure]],
    ) -> None:
        """Settle the messages."""
        crashes.check_alive()
        self._opened.settle(completions, failures)


def recorded(dq: DurableQ) -> RecordingStore:
    """Return the store of an application under test.

    Raises:
        InvalidInput: it is no application, or has no fresh store.
    """
    if not isinstance(dq, DurableQ):
        raise InvalidInput(f"Give the application, a DurableQ; got {shown(dq)}.")
    if not dq.is_overridden:
        raise InvalidInput(
            f"This application uses {visible(dq.address, 200)}, not a store of this test. Give it "
            "a fresh one first: the fixture durableq_app(dq), or `with fresh(dq)`."
        )
    return cast(RecordingStore, dq.store)
