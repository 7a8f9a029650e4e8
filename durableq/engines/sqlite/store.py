"""The SQLite engine: each operation is one transaction around one function of engines/sql."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import sqlalchemy

from durableq.engines.sql import (
    maintenance,
    receiving,
    redrive,
    sending,
    settling,
    statements,
    upkeep,
)
from durableq.engines.sql.transactions import WriteTransaction, all_or_nothing
from durableq.engines.sqlite import file_space, schema
from durableq.engines.sqlite.database import Database
from durableq.engines.sqlite.inspect import SQLMonitor
from durableq.engines.sqlite.joining import join
from durableq.engines.sqlite.location import Location
from durableq.engines.sqlite.open_transaction import OpenTransaction
from durableq.engines.sqlite.wakeup import FileWatch
from durableq.model.dead_letters import DeadLetterFilter, RedriveTask, check_redrive
from durableq.model.decisions import Decision, Discard, Requeue
from durableq.model.errors import DurableQError, StaleReceipt
from durableq.model.health import MaintenanceReport
from durableq.model.info import check_metadata
from durableq.model.message import Completion, Draft, Failure, Message, Outcome, Receipt, Received
from durableq.runtime.clock import Clock, shift
from durableq.store.capabilities import (
    Control,
    DeadLetters,
    Fleet,
    Idempotency,
    Inspect,
    Maintenance,
    Metadata,
    Redrive,
    Transactions,
)
from durableq.store.core import (
    Answer,
    Call,
    Capability,
    Extend,
    Pruned,
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


class SQLStore(
    SQLMonitor,
    Transactions,
    Idempotency,
    DeadLetters,
    Redrive,
    Fleet,
    Inspect,
    Control,
    Maintenance,
    Metadata,
    Store,
):
    """A Store in a SQLite file. Safe to use from several threads; not to be taken across a fork.

    Args:
        url: a path, or `sqlite:///path?synchronous=normal`.
        clock: where the time comes from.
        rng: numbers in [0, 1) for the backoff's jitter.
        purpose: USE creates a missing file; MIGRATE and ADOPT also upgrade.

    Raises:
        DatabaseUnusable: the file cannot be a durableq database; it was left untouched.
        Busy: other processes held it for the whole wait.
    """

    scheme = "sqlite"
    capabilities = frozenset(Capability)

    def __init__(
        self,
        url: str,
        *,
        clock: Clock | None = None,
        rng: Callable[[], float] = random.random,
        purpose: schema.Purpose = schema.Purpose.USE,
    ) -> None:
        super().__init__(Database(Location.parse(url), clock, rng))
        try:
            self.found = schema.prepare(self._database, purpose)
            self._finish_opening()
        except BaseException:
            self._database.close()
            raise

    # ---- queues

    def declare_queue(self, name: str, changes: Mapping[str, int]) -> QueueInfo:
        """Make sure a queue exists, and change these settings."""
        with self._database.write() as tx:
            upkeep.declare(tx, name, changes)
        return self.queue(name)

    def delete_queue(self, name: str, *, force: bool = False) -> None:
        """Remove a queue and its dead-letter queue."""
        with self._database.write() as tx:
            upkeep.delete(tx, name, force=force)

    def purge(self, queue: str) -> int:
        """Remove every message of a queue."""
        with self._database.write() as tx:
            return upkeep.purge(tx, tx.queue(queue))

    # ---- a message's life

    def send(self, queue: str, drafts: Sequence[Draft], *, connection: Any = None) -> list[str]:
        """Store a batch, or let it join the caller's transaction."""
        sending.check_batch(drafts)
        if connection is not None:
            with join(self._database, connection) as joined:
                return sending.send(joined, queue, drafts)
        with self._database.write() as tx:
            return sending.send(tx, queue, drafts)

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
            with self._database.write() as tx:
                received = receiving.receive(tx, queue, limit, visibility_ms, owner_id, None)
            return tx.shown(received)

        return receive_or_wait(self, queue, wait_ms, receive)

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
        with self._database.write() as tx:
            taken = receiving.receive(tx, queue, len(ids), visibility_ms, owner_id, ids)
        return tx.shown(taken.messages)

    def extend(self, receipts: Sequence[Receipt], visibility_ms: int) -> list[Outcome]:
        """Prolong leases."""
        with self._database.write() as tx:
            return settling.extend(tx, receipts, visibility_ms)

    def complete(self, completions: Sequence[Completion]) -> list[Outcome]:
        """End messages in success."""
        with self._database.write() as tx:
            return settling.complete(tx, completions)

    def fail(
        self, failures: Sequence[tuple[Receipt, Failure]], *, actor: str = ""
    ) -> list[Outcome]:
        """Record failures, and retry or bury."""
        with self._database.write() as tx:
            return settling.fail(tx, failures, actor)

    def settle(
        self,
        completions: Sequence[Completion],
        failures: Sequence[tuple[Receipt, Failure]],
        *,
        actor: str = "",
    ) -> list[Outcome]:
        """Complete and fail messages in one transaction."""
        with self._database.write() as tx:
            return settling.complete(tx, completions) + settling.fail(tx, failures, actor)

    def together(self, calls: Sequence[Call]) -> list[Answer]:
        """Run several operations in one transaction."""
        with self._database.write() as tx:
            return [self._one_of(tx, call) for call in calls]

    def _one_of(self, tx: WriteTransaction, call: Call) -> Answer:
        """Run one operation of several; undo it alone if it raises."""
        try:
            with all_or_nothing(tx.raw):
                answer = _perform(tx, call)
                tx.write_counters()
        except DurableQError as error:
            if not tx.raw.in_transaction:  # it was ended, and with it the other operations
                raise
            tx.counts.clear()
            return error
        return tx.shown(answer) if isinstance(answer, Received) else answer

    def release(self, receipts: Sequence[Receipt]) -> list[Outcome]:
        """Give messages back uncounted."""
        with self._database.write() as tx:
            return settling.release(tx, receipts)

    def decide(
        self, decisions: Sequence[tuple[Receipt, Decision]], *, actor: str = ""
    ) -> list[Outcome]:
        """Apply decisions to dead letters."""
        with self._database.write() as tx:
            return settling.decide(tx, decisions, actor)

    def start_redrive(
        self,
        wanted: DeadLetterFilter,
        decision: Requeue | Discard,
        *,
        to_queue: str | None = None,
        actor: str = "",
    ) -> RedriveTask:
        """Begin to decide about many dead letters."""
        check_redrive(decision, to_queue)
        with self._database.write() as tx:
            wanted = shift(wanted, -tx.offset_ms)
            return tx.shown(redrive.start(tx, wanted, decision, to_queue, actor))

    def continue_redrive(self, task_id: str, limit: int) -> RedriveTask:
        """Decide about the next letters of a move."""
        with self._database.write() as tx:
            return tx.shown(redrive.go_on(tx, task_id, limit))

    def cancel_redrive(self, task_id: str) -> RedriveTask:
        """Let a running move end here."""
        with self._database.write() as tx:
            return tx.shown(redrive.cancel(tx, task_id))

    def decide_by_id(
        self, queue: str, ids: Sequence[str], decision: Decision, *, actor: str = ""
    ) -> list[str]:
        """Apply one decision to dead letters named by id."""
        if not ids:
            return []
        with self._database.write() as tx:
            taken = receiving.receive(tx, queue, len(ids), None, 0, ids).messages
            receipts = [message.receipt for message in taken if message.receipt is not None]
            outcomes = settling.decide(tx, [(receipt, decision) for receipt in receipts], actor)
            return [
                receipt.message_id
                for receipt, outcome in zip(receipts, outcomes, strict=True)
                if outcome is Outcome.DONE
            ]

    def attach_result(self, receipt: Receipt, key: str, result: str) -> Outcome:
        """Add a result to a completed record."""
        with self._database.write() as tx:
            return settling.attach_result(tx, receipt, key, result)

    @contextmanager
    def transaction(
        self, receipts: Sequence[Receipt], *, actor: str = ""
    ) -> Iterator[OpenTransaction]:
        """Open a transaction that settles these messages together with other writes."""
        with self._database.write_with_sqlalchemy() as (tx, connection):
            stale = settling.first_stale(tx, receipts)
            if stale is not None:
                raise StaleReceipt(stale.message_id, settling.refusal(tx, stale).why)
            handle = OpenTransaction(self._database, tx, connection, actor)
            try:
                yield handle
            finally:
                handle.end()

    def reclaim(self, *, owner_id: int | None = None) -> int:
        """Take back expired leases, or all of a dead holder's."""
        with self._database.write() as tx:
            if owner_id is not None:
                return receiving.reclaim_lost(tx, owner_id)
            rows = [tx.queue_by_id(row[0]) for row in tx.run(statements.QUEUES).fetchall()]
            return sum(receiving.reclaim_expired(tx, row) for row in rows)

    # ---- upkeep

    def forget(self, queue: str, key: str) -> bool:
        """Drop a completed record."""
        with self._database.write() as tx:
            return upkeep.forget(tx, queue, key)

    def prune(self, limit: int = 1000) -> Pruned:
        """Remove expired messages, records and history."""
        with self._database.write() as tx:
            return upkeep.prune(tx, limit)

    def maintain(self, limit: int = 200) -> MaintenanceReport:
        """Do one short slice of upkeep, if it is due."""
        report = maintenance.maintain(self._database, limit, file_space.free_pages)
        if report.due:
            file_space.checkpoint(self._database)
        return report

    def compare_and_set(self, name: str, text: str, *, expected: str | None) -> bool:
        """Keep a text under a name."""
        check_metadata(name, text)
        with self._database.write() as tx:
            return upkeep.compare_and_set(tx, name, text, expected)

    def register(self, worker: WorkerInfo) -> WorkerInfo:
        """Enter a worker."""
        with self._database.write() as tx:
            return tx.shown(upkeep.register(tx, worker))

    def beat(
        self,
        owner_id: int,
        stats: WorkerStats | None = None,
        *,
        queues: Sequence[str] | None = None,
    ) -> bool:
        """Let a worker say that it lives."""
        with self._database.write() as tx:
            return upkeep.beat(tx, owner_id, stats, queues)

    def unregister(self, owner_id: int) -> None:
        """Take a worker out, and its leases back."""
        with self._database.write() as tx:
            receiving.reclaim_lost(tx, owner_id)
            upkeep.unregister(tx, owner_id)

    def close(self) -> None:
        """Close this process's connections."""
        self._database.close()

    def watch(self) -> FileWatch:
        """Begin to watch for writes."""
        return FileWatch(self._database)

    @property
    def engine(self) -> sqlalchemy.Engine:
        """A SQLAlchemy engine on the same file, each transaction BEGIN IMMEDIATE."""
        return self._database.engine

    # ---- within

    def _finish_opening(self) -> None:
        """Notice a restart; a failure does not hide that the tables are made or upgraded by now."""
        try:
            self._notice_restart()
        except DurableQError as error:
            if self.found in {schema.SchemaState.CURRENT, schema.SchemaState.EMPTY}:
                raise
            raise type(error)(f"The tables are upgraded, but opening failed: {error}") from error

    def _notice_restart(self) -> None:
        """Take back every lease of an earlier boot: none of its holders is alive."""
        boot_id = self._database.clock.boot_id()
        with self._database.read() as tx:
            is_known = upkeep.known_boot(tx) == boot_id
        if is_known:
            if self._database.clock.is_due():  # the write renews the stored time, if it can
                with suppress(DurableQError), self._database.write(patient=False):
                    pass
            return
        with self._database.write() as tx:
            if upkeep.known_boot(tx) != boot_id:
                receiving.reclaim_all(tx)
                upkeep.remember_boot(tx, boot_id)


def _perform(tx: WriteTransaction, call: Call) -> list[str] | Received | list[Outcome]:
    match call:
        case Send(queue, drafts):
            sending.check_batch(drafts)
            return sending.send(tx, queue, drafts)
        case Receive(queue, limit, visibility_ms, owner_id):
            return receiving.receive(tx, queue, limit, visibility_ms, owner_id, None)
        case Extend(receipts, visibility_ms):
            return settling.extend(tx, receipts, visibility_ms)
        case Settle(completions, failures, actor):
            return settling.complete(tx, completions) + settling.fail(tx, failures, actor)
        case Release(receipts):
            return settling.release(tx, receipts)
