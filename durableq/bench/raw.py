"""The same operations by hand: the statements that the semantics need, on the driver, and no more.

"raw" is the yardstick of the benchmark. It works on a file that durableq has made, with the same
tables, indexes and pragmas, and leaves the rows that durableq leaves: a test compares them and runs
`audit`. Each operation is one `BEGIN IMMEDIATE … COMMIT`. It looks up the settings that may have
changed, promotes due messages and looks for ended leases, as every receive must. Where one
statement for all rows of a batch is cheaper than a loop, it is one statement.

Left out: checks of arguments, of the file's identity and of its revision; the paths of duplicates,
failures and retries, which these workloads do not take (a row count that differs raises).
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from itertools import repeat
from pathlib import Path
from typing import Any, Final, NamedTuple

from durableq.engines.sqlite.driver import driver

#: Constants of durableq/engines/sql/tables.py; the test that compares the rows holds them.
LEASE_EPOCH_MS: Final = 1 << 41
OWNER: Final = 1 << 46
STATEMENT_CACHE: Final = 256
JOURNAL_SIZE_LIMIT: Final = 16 << 20

_TARGET: Final = """
SELECT id, delay_ms, max_body_bytes FROM durableq_queue
WHERE name = ? AND dead_letter_queue_id IS NOT NULL"""
_INSERT: Final = """
INSERT INTO durableq_message (queue_id, state, rank, priority, deferred, receive_count,
    recovery_count, lease_until_ms, delayed_until_ms, enqueued_at_ms, sent_at_ms,
    first_received_at_ms, retention_from_ms, expires_at_ms, debounce_until_ms, receipt, owner_id,
    body_bytes, body_format, sequence, body{})
VALUES (?1, 0, 0, 0, 0, 0, 0, 2199023255552, 0, ?2, ?2, 140737488355327, ?2, 140737488355327, 0,
    x'00000000000000000000000000000000', 1099511627776, ?3, 0, 0, ?4{})"""
_PLAIN, _KEYED = _INSERT.format("", ""), _INSERT.format(", key, payload_hash", ", ?5, ?6")
_SENT: Final = "UPDATE durableq_counters SET sent = sent + ? WHERE queue_id = ?"
_SOURCE: Final = """
SELECT id, visibility_timeout_ms, retention_ms, paused FROM durableq_queue WHERE name = ?"""
_DUE: Final = """
SELECT id FROM durableq_message WHERE queue_id = ? AND state = 2 AND delayed_until_ms <= ?
ORDER BY delayed_until_ms, id LIMIT 1000"""
_ENDED: Final = """
SELECT id FROM durableq_message WHERE queue_id = ? AND state = 1 AND lease_until_ms <= ?
ORDER BY lease_until_ms, id LIMIT 1000"""
_READY: Final = """
SELECT m.id, m.body, m.key, m.retention_from_ms, r.status
FROM durableq_message AS m LEFT JOIN durableq_idempotency AS r
    ON r.queue_id = m.queue_id AND r.key = m.key AND m.source_queue_id IS NULL
WHERE m.queue_id = ? AND m.state = 0 ORDER BY m.rank, m.id LIMIT (?+0)"""
_LEASE: Final = """
UPDATE durableq_message SET state = 1, receive_count = receive_count + 1, lease_until_ms = ?2,
    first_received_at_ms = min(first_received_at_ms, ?3), receipt = ?4, owner_id = ?5
WHERE id {} AND state = 0"""
_TAKE_KEYS: Final = """
INSERT INTO durableq_idempotency
    (queue_id, key, status, owner_message_id, owner_receipt, payload_hash, created_at_ms)
SELECT queue_id, key, 0, id, ?2, payload_hash, ?3 FROM durableq_message
WHERE id {} AND key IS NOT NULL"""
_DELETE: Final = "DELETE FROM durableq_message WHERE id {} AND receipt = ?2 AND state = 1"
_COMPLETED: Final = "UPDATE durableq_counters SET completed = completed + ? WHERE queue_id = ?"
_COMPLETE_KEYS: Final = """
UPDATE durableq_idempotency SET status = 1, completed_at_ms = ?3, expires_at_ms = ?3 +
    (SELECT idempotency_ttl_ms FROM durableq_queue WHERE id = ?4)
WHERE queue_id = ?4 AND key {} AND owner_receipt = ?2 AND status = 0"""
_WAKE: Final = """
UPDATE durableq_message SET state = 0, deferred = 0, delayed_until_ms = ?2, retention_from_ms = ?2
WHERE queue_id = ?3 AND key {} AND deferred = 1 AND state = 2"""
_EFFECT: Final = "INSERT INTO bench_effect (message_id, amount) VALUES (?, ?)"
_ONE, _LIST = "= ?1", "IN (SELECT value FROM json_each(?1))"
_encode: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_canonical: Final = json.JSONEncoder(separators=(",", ":"), sort_keys=True).encode


class Leased(NamedTuple):
    """A received message."""

    id: int
    key: str | None
    body: Any


class Raw:
    """One connection, and the operations on one queue.

    Args:
        path: a file that durableq has made, with the queue in it.
        queue: the name of the queue.
        synchronous: `normal` or `full`.
    """

    def __init__(self, path: Path, queue: str, synchronous: str) -> None:
        self.connection = connection = driver.connect(
            str(path), timeout=60, isolation_level=None, cached_statements=STATEMENT_CACHE
        )
        for pragma in (
            f"synchronous = {synchronous}",
            "mmap_size = 0",
            f"journal_size_limit = {JOURNAL_SIZE_LIMIT}",
        ):
            connection.execute(f"PRAGMA {pragma}").close()
        self._queue = queue
        self._execute: Any = connection.execute
        self._queue_id = 0
        self._receipt = b""

    def send(self, body: Any, key: str | None = None) -> None:
        """Store one message."""
        text = _encode(body)
        of_key = () if key is None else (key, _hash(body))
        execute = self._execute
        execute("BEGIN IMMEDIATE")
        queue_id, delay_ms, limit = execute(_TARGET, (self._queue,)).fetchone()
        size = len(text) if text.isascii() else len(text.encode())
        if delay_ms or size > limit:
            raise ValueError("outside the workload")
        now_ms = time.time_ns() // 1_000_000
        insert = _KEYED if of_key else _PLAIN
        execute(insert, (queue_id, now_ms, size, text, *of_key))
        execute(_SENT, (1, queue_id))
        execute("COMMIT")

    def send_many(self, bodies: list[Any], keys: list[str] | None = None) -> None:
        """Store messages in one commit."""
        texts = [*map(_encode, bodies)]
        hashes = [*map(_hash, bodies)] if keys else []
        execute = self._execute
        execute("BEGIN IMMEDIATE")
        queue_id, delay_ms, limit = execute(_TARGET, (self._queue,)).fetchone()
        now_ms = time.time_ns() // 1_000_000
        sizes = [len(text) if text.isascii() else len(text.encode()) for text in texts]
        if delay_ms or max(sizes) > limit:
            raise ValueError("outside the workload")
        constant = (repeat(queue_id), repeat(now_ms))
        if keys:
            rows = zip(*constant, sizes, texts, keys, hashes, strict=False)
            self.connection.executemany(_KEYED, rows)
        else:
            self.connection.executemany(_PLAIN, zip(*constant, sizes, texts, strict=False))
        execute(_SENT, (len(texts), queue_id))
        execute("COMMIT")

    def receive(self, limit: int) -> list[Leased]:
        """Lease messages."""
        self._execute("BEGIN IMMEDIATE")
        leased = self._receive(limit)
        self._execute("COMMIT")
        return leased

    def complete(self, leased: list[Leased]) -> None:
        """Delete leased messages, and complete their keys."""
        self._execute("BEGIN IMMEDIATE")
        self._complete(leased)
        self._execute("COMMIT")

    def complete_and_receive(self, leased: list[Leased], limit: int) -> list[Leased]:
        """Do both in one commit, as a loop whose handlers have ended can."""
        self._execute("BEGIN IMMEDIATE")
        if leased:
            self._complete(leased)
        leased = self._receive(limit)
        self._execute("COMMIT")
        return leased

    def complete_with_effects(self, leased: list[Leased]) -> None:
        """Write a row for each message in the commit that completes them."""
        self._execute("BEGIN IMMEDIATE")
        if len(leased) == 1:
            self._execute(_EFFECT, (leased[0].id, 1))
        else:
            self.connection.executemany(_EFFECT, [(one.id, 1) for one in leased])
        self._complete(leased)
        self._execute("COMMIT")

    def completed(self) -> int:
        """Return the number of completed messages, which the benchmark waits for."""
        query = "SELECT completed FROM durableq_counters JOIN durableq_queue ON id = queue_id"
        return int(self._execute(f"{query} WHERE name = ?", (self._queue,)).fetchone()[0])

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def _receive(self, limit: int) -> list[Leased]:
        execute = self._execute
        now_ms = time.time_ns() // 1_000_000
        lease_ms = LEASE_EPOCH_MS + time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
        queue_id, visibility_ms, retention_ms, paused = execute(_SOURCE, (self._queue,)).fetchone()
        due = execute(_DUE, (queue_id, now_ms)).fetchall()
        ended = execute(_ENDED, (queue_id, lease_ms)).fetchall()
        if due or ended:
            raise ValueError("outside the workload")
        if paused:
            return []
        found = execute(_READY, (queue_id, limit)).fetchall()
        if not found:
            return []
        if any(row[4] is not None or row[3] <= now_ms - retention_ms for row in found):
            raise ValueError("outside the workload")
        self._queue_id, self._receipt = queue_id, os.urandom(16)
        ids: int | str = found[0][0]
        which = _ONE
        if len(found) > 1:
            which, ids = _LIST, json.dumps([row[0] for row in found])
        until_ms = lease_ms + visibility_ms
        values = (ids, until_ms, now_ms, self._receipt, OWNER)
        _expect(execute(_LEASED[which], values), len(found))
        keyed = sum(row[2] is not None for row in found)
        if keyed:
            _expect(execute(_KEYS_TAKEN[which], (ids, self._receipt, now_ms)), keyed)
        return [Leased(row[0], row[2], json.loads(row[1])) for row in found]

    def _complete(self, leased: list[Leased]) -> None:
        execute, receipt = self._execute, self._receipt
        keys: Any = [one.key for one in leased if one.key is not None]
        ids: int | str = leased[0].id
        which = _ONE
        if len(leased) > 1:
            which, ids = _LIST, json.dumps([one.id for one in leased])
        _expect(execute(_DELETED[which], (ids, receipt)), len(leased))
        execute(_COMPLETED, (len(leased), self._queue_id))
        if not keys:
            return
        now_ms = time.time_ns() // 1_000_000
        count = len(keys)
        keys = keys[0] if which is _ONE else json.dumps(keys)
        completed = execute(_KEYS_COMPLETED[which], (keys, receipt, now_ms, self._queue_id))
        _expect(completed, count)
        execute(_WOKEN[which], (keys, now_ms, self._queue_id))


_LEASED, _KEYS_TAKEN, _DELETED, _KEYS_COMPLETED, _WOKEN = (
    {which: text.format(which) for which in (_ONE, _LIST)}
    for text in (_LEASE, _TAKE_KEYS, _DELETE, _COMPLETE_KEYS, _WAKE)
)


def _hash(body: Any) -> bytes:
    return hashlib.sha256(_canonical(body).encode()).digest()


def _expect(cursor: Any, count: int) -> None:
    if cursor.rowcount != count:
        raise ValueError(f"moved {cursor.rowcount} rows of {count}")
