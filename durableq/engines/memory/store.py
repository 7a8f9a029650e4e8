"""The operations of the memory engine."""

from __future__ import annotations

import functools
import random
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any, Concatenate, ParamSpec, TypeVar

from durableq.engines.memory.inspect import mark
from durableq.engines.memory.tables import Queue
from durableq.engines.memory.transaction import OpenTransaction, require_done
from durableq.engines.memory.transitions import Lease, MemoryMoves
from durableq.engines.memory.wakeup import MemoryWatch
from durableq.model.decisions import Decision
from durableq.model.errors import Conflict, DurableQError, Unsupported
from durableq.model.info import check_metadata, metadata_suffix
from durableq.model.limits import (
    MAX_RECEIVE_BATCH,
    MAX_SET_ASIDE,
    PROMOTE_BATCH,
    RECLAIM_BATCH,
)
from durableq.model.message import (
    Completion,
    Draft,
    Failure,
    Message,
    Outcome,
    Receipt,
    Received,
    RecordStatus,
    State,
)
from durableq.model.queues import Counters, QueueSettings, check_new_queue_name, dead_letter_name
from durableq.model.text import shown
from durableq.model.units import check_whole
from durableq.runtime.clock import Clock, SystemClock
from durableq.store.capabilities import (
    Control,
    DeadLetters,
    Fleet,
    Idempotency,
    Inspect,
    Metadata,
    Transaction,
    Transactions,
)
from durableq.store.core import (
    Answer,
    Call,
    Capability,
    Extend,
    QueueInfo,
    Receive,
    Release,
    Send,
    Settle,
    Store,
    WorkerInfo,
    WorkerStats,
    receive_or_wait,
)

P = ParamSpec("P")
R = TypeVar("R")


def _verb(
    method: Callable[Concatenate[MemoryStore, P], R],
) -> Callable[Concatenate[MemoryStore, P], R]:
    """Make a method one transaction."""

    @functools.wraps(method)
    def run(self: MemoryStore, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with self._all_or_nothing():
            return method(self, *args, **kwargs)

    return run


class MemoryStore(
    MemoryMoves,
    Transactions,
    Idempotency,
    DeadLetters,
    Fleet,
    Inspect,
    Control,
    Metadata,
    Store,
):
    """A Store in this process's memory: for tests, for trying out, and as the others' model.

    Args:
        clock: where the time comes from; None means this machine's clocks.
        rng: numbers in [0, 1) for the backoff's jitter.
    """

    scheme = "memory"
    capabilities = frozenset(Capability) - {Capability.REDRIVE, Capability.MAINTENANCE}

    def __init__(
        self, clock: Clock | None = None, rng: Callable[[], float] = random.random
    ) -> None:
        super().__init__(clock or SystemClock(), rng)
        self._in_transaction = False
        self._last_holder = 0
        self._watches: set[MemoryWatch] = set()

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        with self._lock:
            if self._in_transaction:
                raise Conflict(
                    "This thread is inside message.transaction(): use tx.send there, "
                    "or make this call before or after it."
                )
            self._clock.keep()
            before, self._tables = self._tables, self._tables.copy()
            try:
                yield
            except BaseException:
                self._tables = before
                raise
            for watch in self._watches:
                watch.ring()

    # ---- queues

    @_verb
    def declare_queue(self, name: str, changes: Mapping[str, int]) -> QueueInfo:
        """Make sure a queue exists, and change these settings."""
        queues = self._tables.queues
        if name not in queues:
            check_new_queue_name(name)
            queues[name] = Queue(QueueSettings(), dead_letter_name(name), Counters())
            queues[dead_letter_name(name)] = Queue(QueueSettings(), None, Counters())
        queues[name] = queues[name]._replace(settings=queues[name].settings.changed(changes))
        return self.queue(name)

    @_verb
    def delete_queue(self, name: str, *, force: bool = False) -> None:
        """Remove a queue and its dead-letter queue."""
        dead_letter_queue = self._queue(name).dead_letter_queue
        if dead_letter_queue is None:
            raise Conflict(f"{name!r} is a dead-letter queue: it goes with the queue it serves.")
        both, tables = {name, dead_letter_queue}, self._tables
        if not force and any(row.queue in both for row in tables.rows.values()):
            raise Conflict(f"Queue {name!r} still holds messages. Purge it first, or force it.")
        tables.queues = {n: queue for n, queue in tables.queues.items() if n not in both}
        tables.rows = {n: row for n, row in tables.rows.items() if row.queue not in both}
        tables.records = {at: record for at, record in tables.records.items() if at[0] not in both}
        tails = tuple(map(metadata_suffix, both))
        tables.notes = {n: text for n, text in tables.notes.items() if not n.endswith(tails)}
        self._drop_history([e for e in self._all_history() if e.queue in both])

    @_verb
    def purge(self, queue: str) -> int:
        """Remove every message of a queue."""
        self._queue(queue)
        removed = self._tables.in_queue(queue)
        for row in removed:
            self._end(row, "purged")
            self._free_key(row)
        return len(removed)

    # ---- a message's life

    @_verb
    def send(self, queue: str, drafts: Sequence[Draft], *, connection: Any = None) -> list[str]:
        """Store a batch."""
        if connection is not None:
            raise Unsupported("A store in memory cannot join a database's transaction.")
        return self._send(queue, drafts)

    def receive(
        self,
        queue: str,
        limit: int,
        *,
        visibility_ms: int | None = None,
        owner_id: int = 0,
        wait_ms: int = 0,
    ) -> Received:
        """Lease ready messages, or wait for one."""

        def receive() -> Received:
            return self._receive(queue, limit, visibility_ms, owner_id)

        return receive_or_wait(self, queue, wait_ms, receive)

    @_verb
    def _receive(
        self, queue: str, limit: int, visibility_ms: int | None, owner_id: int
    ) -> Received:
        lease = self._lease(queue, limit, visibility_ms, owner_id)
        promoted, reclaimed = self._promote(queue), self._reclaim_expired(queue)
        received = Received([], [], 0)
        if self._queue(queue).settings.paused:
            return received
        more = promoted == PROMOTE_BATCH or reclaimed == RECLAIM_BATCH
        ready = [row for row in self._tables.in_queue(queue) if row.state is State.READY]
        for row in sorted(ready, key=lambda row: -row.draft.priority):
            received = self._meet(row, lease, received)
            passed_over = len(received.duplicates) + received.set_aside
            if len(received.messages) == limit or passed_over == MAX_SET_ASIDE:
                more = True
                break
        return self._clock.shown(received._replace(more=more))

    @_verb
    def lease_dead_letters(
        self,
        queue: str,
        ids: Sequence[str],
        *,
        visibility_ms: int | None = None,
        owner_id: int = 0,
    ) -> list[Message]:
        """Lease dead letters by id."""
        if not ids:
            return []
        lease = self._lease(queue, len(ids), visibility_ms, owner_id)
        self._promote(queue)
        self._reclaim_expired(queue)
        dead = [row for row in self._tables.in_queue(queue) if row.source_queue is not None]
        wanted = [r for r in dead if r.id in set(ids) and r.state is not State.IN_FLIGHT]
        return self._clock.shown([self._deliver(row, lease) for row in wanted])

    def _lease(self, queue: str, limit: int, visibility_ms: int | None, owner_id: int) -> Lease:
        if visibility_ms is None:
            visibility_ms = self._queue(queue).settings.visibility_timeout_ms
        check_whole(limit, "The limit of a receive", 1, MAX_RECEIVE_BATCH)
        start = mark(owner_id) if owner_id else "0" * 8
        return Lease(start + secrets.token_hex(12), self._lease_until(visibility_ms))

    @_verb
    def extend(self, receipts: Sequence[Receipt], visibility_ms: int) -> list[Outcome]:
        """Prolong leases."""
        until_ms = self._lease_until(visibility_ms)
        outcomes = []
        for receipt in receipts:
            row, outcome = self._judge(receipt)
            if row is not None:
                self._put(row, lease_until_ms=until_ms)
            outcomes.append(outcome)
        return outcomes

    @_verb
    def complete(self, completions: Sequence[Completion]) -> list[Outcome]:
        """End messages in success."""
        return [self._complete(completion) for completion in completions]

    @_verb
    def fail(
        self, failures: Sequence[tuple[Receipt, Failure]], *, actor: str = ""
    ) -> list[Outcome]:
        """Record failures, and retry or bury."""
        return [self._fail(receipt, failure, actor) for receipt, failure in failures]

    @_verb
    def settle(
        self,
        completions: Sequence[Completion],
        failures: Sequence[tuple[Receipt, Failure]],
        *,
        actor: str = "",
    ) -> list[Outcome]:
        """Complete and fail messages in one transaction."""
        return self.complete(completions) + self.fail(failures, actor=actor)

    @_verb
    def together(self, calls: Sequence[Call]) -> list[Answer]:
        """Run several operations in one transaction."""
        return list(map(self._one_of, calls))

    def _one_of(self, call: Call) -> Answer:
        """Run one operation of several; being one, it is undone alone if it raises."""
        try:
            match call:
                case Send(queue, drafts):
                    return self.send(queue, drafts)
                case Receive(queue, limit, visibility_ms, owner_id):
                    return self._receive(queue, limit, visibility_ms, owner_id)
                case Extend(receipts, visibility_ms):
                    return self.extend(receipts, visibility_ms)
                case Settle(completions, failures, actor):
                    return self.settle(completions, failures, actor=actor)
                case Release(receipts):
                    return self.release(receipts)
        except DurableQError as error:
            return error

    @_verb
    def release(self, receipts: Sequence[Receipt]) -> list[Outcome]:
        """Give messages back uncounted."""
        outcomes = []
        for receipt in receipts:
            row, outcome = self._judge(receipt)
            if row is not None:
                self._put_back(row, None, receive_count=row.receive_count - 1)
            outcomes.append(outcome)
        return outcomes

    @_verb
    def decide(
        self, decisions: Sequence[tuple[Receipt, Decision]], *, actor: str = ""
    ) -> list[Outcome]:
        """Apply decisions to dead letters."""
        outcomes = []
        for receipt, decision in decisions:
            row, outcome = self._judge(receipt)
            if row is not None:
                self._decide(row, decision, actor)
            outcomes.append(outcome)
        return outcomes

    @_verb
    def decide_by_id(
        self, queue: str, ids: Sequence[str], decision: Decision, *, actor: str = ""
    ) -> list[str]:
        """Apply one decision to dead letters by id."""
        if not ids:
            return []
        taken = self.lease_dead_letters(queue, ids)
        receipts = [message.receipt for message in taken if message.receipt is not None]
        self.decide([(receipt, decision) for receipt in receipts], actor=actor)
        return [receipt.message_id for receipt in receipts]

    @_verb
    def attach_result(self, receipt: Receipt, key: str, result: str) -> Outcome:
        """Add a result to a completed record."""
        record = self._completed_by(receipt, key)
        if record is None:
            return Outcome.GONE
        self._tables.records[receipt.queue, key] = record._replace(result=result)
        return Outcome.DONE

    @contextmanager
    def transaction(self, receipts: Sequence[Receipt], *, actor: str = "") -> Iterator[Transaction]:
        """Open a transaction that settles these messages together with other writes."""
        with self._all_or_nothing():
            for receipt in receipts:
                require_done(receipt, self._judge(receipt)[1])
            opened = OpenTransaction(self._send, self._complete, self._fail, actor)
            self._in_transaction = True
            try:
                yield opened
            finally:
                self._in_transaction = False
                opened.ended = True

    @_verb
    def reclaim(self, *, owner_id: int | None = None) -> int:
        """Reclaim expired leases, or all leases of a dead worker."""
        if owner_id is not None:
            return self._reclaim_lost(owner_id)
        return sum(self._reclaim_expired(name) for name in sorted(self._tables.queues))

    # ---- upkeep

    @_verb
    def forget(self, queue: str, key: str) -> bool:
        """Drop a completed record."""
        self._queue(queue)
        found = self._remembered(queue, key)
        if found is None:
            return False
        if found.status is RecordStatus.IN_PROGRESS:
            raise Conflict(
                f"Key {shown(key)} of queue {queue!r} is in progress; wait for its message."
            )
        del self._tables.records[queue, key]
        return True

    @_verb
    def compare_and_set(self, name: str, text: str, *, expected: str | None) -> bool:
        """Keep a text under a name."""
        check_metadata(name, text)
        if self._tables.notes.get(name) != expected:
            return False
        self._tables.notes[name] = text
        return True

    @_verb
    def register(self, worker: WorkerInfo) -> WorkerInfo:
        """Enter a worker."""
        self._last_holder += 1
        now_ms, owner_id = self._clock.now_ms(), self._last_holder
        entered = replace(worker, owner_id=owner_id, started_at_ms=now_ms, beat_at_ms=now_ms)
        self._tables.workers[entered.owner_id] = entered
        return self._clock.shown(entered)

    @_verb
    def beat(
        self,
        owner_id: int,
        stats: WorkerStats | None = None,
        *,
        queues: Sequence[str] | None = None,
    ) -> bool:
        """Record that a worker lives."""
        found = self._tables.workers.get(owner_id)
        if found is None:
            return False
        told = {} if stats is None else asdict(stats)
        if queues is not None:
            told["queues"] = tuple(queues)
        self._tables.workers[owner_id] = replace(found, beat_at_ms=self._clock.now_ms(), **told)
        return True

    @_verb
    def unregister(self, owner_id: int) -> None:
        """Take a worker out, and its leases back."""
        self._reclaim_lost(owner_id)
        self._tables.workers.pop(owner_id, None)

    def watch(self) -> MemoryWatch:
        """Begin to watch for writes."""
        with self._lock:
            watch = MemoryWatch(on_close=self._forget_watch)
            self._watches.add(watch)
            return watch

    def _forget_watch(self, watch: MemoryWatch) -> None:
        with self._lock:
            self._watches.discard(watch)

    def close(self) -> None:
        """Do nothing: the messages live as long as this object."""
