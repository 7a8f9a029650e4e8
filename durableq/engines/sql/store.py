"""The SQLite engine: each verb opens its one transaction and says, in one call, what happens."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy

from durableq.clock import Clock, SystemClock
from durableq.engines.sql import (
    moving,
    receiving,
    schema,
    sending,
    settling,
    statements,
    tending,
    timekeeping,
    upkeep,
)
from durableq.engines.sql.asking import SQLMonitor
from durableq.engines.sql.sqlite import Database, all_or_nothing
from durableq.engines.sql.sqlite_file import Location
from durableq.engines.sql.unit import Unit
from durableq.engines.sql.watching import FileWatch
from durableq.errors import Conflict, DurableQError, InvalidInput, StaleReceipt
from durableq.health import Tended
from durableq.info import check_note
from durableq.letters import LetterFilter, Move, check_move
from durableq.message import (
    Completion,
    Draft,
    Failure,
    Outcome,
    Receipt,
    Received,
)
from durableq.steady import shift
from durableq.store import OTHER_THREAD, Pruned, QueueInfo, WorkerInfo, WorkerStats
from durableq.text import shown
from durableq.verdict import Discard, Requeue, Verdict


class SQLStore(SQLMonitor):
    """A Store in a SQLite file. Safe to use from several threads; not to be taken across a fork.

    Args:
        url: a path, or `sqlite:///path?synchronous=normal`.
        clock: where the time comes from.
        dice: numbers in [0, 1) for the backoff's jitter.
        purpose: USE creates a missing file; MIGRATE and ADOPT also upgrade.

    Raises:
        DatabaseUnusable: the file cannot be a durableq database; it was left untouched.
        Busy: other processes held it for the whole wait.
    """

    def __init__(
        self,
        url: str,
        *,
        clock: Clock | None = None,
        dice: Callable[[], float] = random.random,
        purpose: schema.Purpose = schema.Purpose.USE,
    ) -> None:
        super().__init__(Database(Location.parse(url)), clock or SystemClock())
        self._dice = dice
        try:
            self.found = schema.prepare(self._database, purpose)
            self._finish_opening()
        except BaseException:
            self._database.close()
            raise

    # ---- queues

    def declare_queue(self, name: str, changes: Mapping[str, int]) -> QueueInfo:
        """Make sure a queue exists, and change these settings."""
        with self._write() as unit:
            upkeep.declare(unit, name, changes)
        return self.queue(name)

    def delete_queue(self, name: str, *, force: bool = False) -> None:
        """Remove a queue and its dead-letter queue."""
        with self._write() as unit:
            upkeep.delete(unit, name, force=force)

    def purge(self, queue: str) -> int:
        """Remove every message of a queue."""
        with self._write() as unit:
            return upkeep.purge(unit, unit.queue(queue))

    # ---- a message's life

    def send(self, queue: str, drafts: Sequence[Draft], *, connection: Any = None) -> list[str]:
        """Store a batch, or let it join the caller's transaction."""
        sending.check_batch(drafts)
        if connection is not None:
            with self._database.join(connection) as raw:
                timekeeping.follow(raw, self._clock)
                return sending.send(self._unit(raw), queue, drafts)
        with self._write() as unit:
            return sending.send(unit, queue, drafts)

    def receive(
        self,
        queue: str,
        limit: int,
        *,
        visibility_ms: int | None = None,
        holder: int = 0,
        ids: Iterable[str] | None = None,
    ) -> Received:
        """Lease ready messages."""
        with self._write() as unit:
            received = receiving.receive(unit, queue, limit, visibility_ms, holder, ids)
        return self._clock.shown(received)

    def extend(self, receipts: Sequence[Receipt], visibility_ms: int) -> list[Outcome]:
        """Prolong leases."""
        with self._write() as unit:
            return settling.extend(unit, receipts, visibility_ms)

    def complete(self, completions: Sequence[Completion]) -> list[Outcome]:
        """End messages in success."""
        with self._write() as unit:
            return settling.complete(unit, completions)

    def fail(
        self, failures: Sequence[tuple[Receipt, Failure]], *, actor: str = ""
    ) -> list[Outcome]:
        """Record failures, and retry or bury."""
        with self._write() as unit:
            return settling.fail(unit, failures, actor)

    def release(self, receipts: Sequence[Receipt]) -> list[Outcome]:
        """Give messages back uncounted."""
        with self._write() as unit:
            return settling.release(unit, receipts)

    def decide(
        self, verdicts: Sequence[tuple[Receipt, Verdict]], *, actor: str = ""
    ) -> list[Outcome]:
        """Apply verdicts to dead letters."""
        with self._write() as unit:
            return settling.decide(unit, verdicts, actor)

    def start_move(
        self,
        wanted: LetterFilter,
        verdict: Requeue | Discard,
        *,
        to_queue: str | None = None,
        actor: str = "",
    ) -> Move:
        """Begin to decide about many dead letters."""
        check_move(verdict, to_queue)
        with self._write() as unit:
            wanted = shift(wanted, -self._clock.now().offset_ms)
            return self._clock.shown(moving.start(unit, wanted, verdict, to_queue, actor))

    def continue_move(self, move_id: str, limit: int) -> Move:
        """Decide about the next letters of a move."""
        with self._write() as unit:
            return self._clock.shown(moving.go_on(unit, move_id, limit))

    def cancel_move(self, move_id: str) -> Move:
        """Let a running move end here."""
        with self._write() as unit:
            return self._clock.shown(moving.cancel(unit, move_id))

    def decide_by_id(
        self, queue: str, ids: Sequence[str], verdict: Verdict, *, actor: str = ""
    ) -> list[str]:
        """Apply one verdict to letters named by id."""
        if not ids:
            return []
        with self._write() as unit:
            taken = receiving.receive(unit, queue, len(ids), None, 0, ids).messages
            receipts = [message.receipt for message in taken if message.receipt is not None]
            settling.decide(unit, [(receipt, verdict) for receipt in receipts], actor)
            return [receipt.message_id for receipt in receipts]

    def attach_result(self, receipt: Receipt, key: str, result: str) -> Outcome:
        """Add a result to a completed record."""
        with self._write() as unit:
            return settling.attach_result(unit, receipt, key, result)

    @contextmanager
    def transaction(self, receipts: Sequence[Receipt], *, actor: str = "") -> Iterator[_Open]:
        """Open a transaction that settles these messages together with other writes."""
        timekeeping.keep(self._database, self._clock)
        with self._database.write_with_sqlalchemy() as (raw, connection):
            unit = self._unit(raw)
            stale = settling.check_held(unit, receipts)
            if stale is not None:
                raise StaleReceipt(stale.message_id, settling.refusal(unit, stale).why)
            opened = _Open(self._database, unit, connection, actor)
            try:
                yield opened
            finally:
                opened.end()
            unit.close_books()

    def reclaim(self, *, holder: int | None = None) -> int:
        """Take back expired leases, or all of a dead holder's."""
        with self._write() as unit:
            if holder is not None:
                return receiving.reclaim_lost(unit, receiving.mark(holder))
            rows = [unit.queue_by_id(row[0]) for row in statements.QUEUES(unit.raw).fetchall()]
            return sum(receiving.reclaim_expired(unit, row) for row in rows)

    # ---- upkeep

    def forget(self, queue: str, key: str) -> bool:
        """Drop a completed record."""
        with self._write() as unit:
            return upkeep.forget(unit, queue, key)

    def prune(self, limit: int = 1000) -> Pruned:
        """Remove what time has ended."""
        with self._write() as unit:
            return upkeep.prune(unit, limit)

    def tend(self, limit: int = 200) -> Tended:
        """Do one short slice of upkeep, if it is due."""
        timekeeping.keep(self._database, self._clock)
        return tending.tend(self._database, self._unit, self._clock.now_ms(), limit)

    def remember(self, name: str, text: str, *, instead_of: str | None) -> bool:
        """Keep a text under a name."""
        check_note(name, text)
        with self._write() as unit:
            return upkeep.remember(unit, name, text, instead_of)

    def register(self, worker: WorkerInfo) -> WorkerInfo:
        """Enter a worker."""
        with self._write() as unit:
            return self._clock.shown(upkeep.register(unit, worker))

    def beat(
        self,
        holder: int,
        stats: WorkerStats | None = None,
        *,
        queues: Sequence[str] | None = None,
    ) -> bool:
        """Let a worker say that it lives."""
        with self._write() as unit:
            return upkeep.beat(unit, holder, stats, queues)

    def unregister(self, holder: int) -> None:
        """Take a worker out, and its leases back."""
        with self._write() as unit:
            receiving.reclaim_lost(unit, receiving.mark(holder))
            upkeep.unregister(unit, holder)

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

    def _unit(self, raw: Any) -> Unit:
        return Unit(raw, self._clock, self._dice)

    @contextmanager
    def _write(self) -> Iterator[Unit]:
        timekeeping.keep(self._database, self._clock)
        with self._database.write() as raw:
            unit = self._unit(raw)
            yield unit
            unit.close_books()

    def _finish_opening(self) -> None:
        """Notice a restart; a failure does not hide that the tables are made or upgraded by now."""
        try:
            self._notice_restart()
        except DurableQError as error:
            if self.found in {schema.Condition.CURRENT, schema.Condition.EMPTY}:
                raise
            raise type(error)(f"The tables are upgraded, but opening failed: {error}") from error

    def _notice_restart(self) -> None:
        """Take back every lease of an earlier boot: none of its holders is alive."""
        boot_id = self._clock.boot_id()
        with self._read() as raw:
            is_known = upkeep.known_boot(raw) == boot_id
        timekeeping.keep(self._database, self._clock)
        if is_known:
            return
        with self._write() as unit:
            if upkeep.known_boot(unit.raw) != boot_id:
                receiving.reclaim_lost(unit, b"")
                upkeep.remember_boot(unit, boot_id)


class _Open:
    """The Transaction that user code holds."""

    def __init__(
        self, database: Database, unit: Unit, connection: sqlalchemy.Connection, actor: str
    ) -> None:
        self._database = database
        self._unit = unit
        self._connection = connection
        self._actor = actor
        self._results: list[sqlalchemy.CursorResult[Any]] = []
        self._thread = threading.get_ident()
        self._ended = False

    def execute(self, statement: Any, parameters: Any = None) -> Any:
        """Run a statement: SQLAlchemy, or SQL text with `:name` parameters."""
        self._check()
        if isinstance(statement, str):
            statement = sqlalchemy.text(statement)
        if not isinstance(statement, sqlalchemy.Executable):
            raise InvalidInput(f"A statement is SQLAlchemy's, or SQL text, got {shown(statement)}.")
        result = self._database.execute(self._connection, statement, parameters)
        if result.returns_rows:
            self._results.append(result)
        return result

    def send(self, queue: str, drafts: Sequence[Draft]) -> list[str]:
        """Send messages that exist only if this transaction commits."""
        self._check()
        sending.check_batch(drafts)
        with all_or_nothing(self._unit.raw):
            return sending.send(self._unit, queue, drafts)

    def settle(
        self,
        completions: Sequence[Completion],
        failures: Sequence[tuple[Receipt, Failure]],
    ) -> None:
        """Say how the messages end; all are still held, or everything is undone."""
        self._check()
        outcomes = settling.complete(self._unit, completions)
        outcomes += settling.fail(self._unit, failures, self._actor)
        receipts = [c.receipt for c in completions] + [receipt for receipt, _ in failures]
        for receipt, outcome in zip(receipts, outcomes, strict=True):
            if outcome.refused:
                raise StaleReceipt(receipt.message_id, outcome.why)

    def end(self) -> None:
        """Take nothing more, and close what is not read to its end.

        It would keep this thread's view of the file as it is now: once another process has
        written, every write of this thread would be refused as coming too late.
        """
        self._ended = True
        for result in self._results:
            result.close()

    def _check(self) -> None:
        """Refuse what would be written on its own: each statement would be a commit by itself.

        Raises:
            Conflict: the block is over, or a statement in it ended the transaction.
        """
        if self._ended:
            raise Conflict("This transaction is over: use it inside its `with` block.")
        if threading.get_ident() != self._thread:
            raise Conflict(OTHER_THREAD)
        if not self._unit.raw.in_transaction:
            raise Conflict(
                "A statement ended this transaction (COMMIT, ROLLBACK, or a conflict that is "
                "resolved by ROLLBACK), so nothing more is written in it and the message is not "
                "settled. Leave its end to the `with` block."
            )
