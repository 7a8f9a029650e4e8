"""The statements of a queue by hand, with psycopg: what durableq on PostgreSQL is compared with.

One statement for each verb. The table has the columns of durableq's, and the indexes that these
verbs need: its key, the ready rows, the leased rows. There are no counters, no settings of queues,
no limits, no notification, and no look at what is due: it is the floor, not a queue.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import closing
from typing import Any, Final, NamedTuple

from durableq.bench.postgres.server import driver, watching
from durableq.client.app import DurableQ
from durableq.model.message import FOREVER_MS

_CREATE: Final = (
    "CREATE TABLE bench_message (LIKE durableq_message INCLUDING DEFAULTS)",
    "ALTER TABLE bench_message ADD PRIMARY KEY (id)",
    "CREATE INDEX ON bench_message (queue_id, rank, id) WHERE state = 0",
    "CREATE INDEX ON bench_message (queue_id, lease_until_ms) WHERE state = 1",
    "CREATE TABLE bench_record (LIKE durableq_idempotency INCLUDING DEFAULTS)",
    "ALTER TABLE bench_record ADD PRIMARY KEY (queue_id, key)",
)
_NOW: Final = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
_SEND: Final = f"""\
INSERT INTO bench_message (
    queue_id, state, rank, priority, deferred, receive_count, recovery_count, lease_until_ms,
    delayed_until_ms, enqueued_at_ms, sent_at_ms, first_received_at_ms, retention_from_ms,
    expires_at_ms, debounce_until_ms, receipt, owner_id, body_bytes, body_format, sequence,
    key, payload_hash, body
)
SELECT 1, 0, 0, 0, 0, 0, 0, 0, 0, n.ms, n.ms, {FOREVER_MS}, n.ms, {FOREVER_MS}, 0,
    '\\x{bytes(16).hex()}'::bytea, 0, octet_length(d.body), 0, 0, d.key, d.hash, d.body
FROM unnest($1::text[], $2::text[], $3::bytea[]) AS d (body, key, hash), (SELECT {_NOW} AS ms) AS n
RETURNING id"""  # noqa: S608 - constants
#: An array has one plan, by the key. A join planned while the table is empty reads all of it later.
_LEASE: Final = f"""\
WITH picked AS MATERIALIZED (
    SELECT id FROM bench_message WHERE queue_id = 1 AND state = 0
    ORDER BY rank, id LIMIT $1 FOR UPDATE SKIP LOCKED
), leased AS (
    UPDATE bench_message AS m
    SET state = 1, receive_count = m.receive_count + 1, receipt = $2, owner_id = 1,
        lease_until_ms = {_NOW} + 3600000,
        first_received_at_ms = least(m.first_received_at_ms, {_NOW})
    WHERE m.id = ANY (ARRAY(SELECT id FROM picked))
    RETURNING m.id, m.key, m.payload_hash, m.body
)"""  # noqa: S608 - constants
_RECEIVE: Final = f"{_LEASE} SELECT id, key, body FROM leased"  # noqa: S608 - constants
_RECEIVE_KEYED: Final = f"""\
{_LEASE}, taken AS (
    INSERT INTO bench_record (
        queue_id, key, status, owner_message_id, owner_receipt, payload_hash, created_at_ms
    )
    SELECT 1, key, 0, id, $2, payload_hash, {_NOW} FROM leased ORDER BY key
    ON CONFLICT DO NOTHING
)
SELECT id, key, body FROM leased"""  # noqa: S608 - constants
_COMPLETE: Final = "DELETE FROM bench_message WHERE id = ANY ($1::bigint[]) AND receipt = $2"
_COMPLETE_KEYED: Final = f"""\
WITH gone AS ({_COMPLETE} RETURNING key)
UPDATE bench_record AS r SET status = 1, completed_at_ms = {_NOW}, expires_at_ms = {_NOW} + 86400000
FROM (SELECT key FROM gone ORDER BY key) AS g
WHERE r.queue_id = 1 AND r.key = g.key AND r.owner_receipt = $2 AND r.status = 0"""  # noqa: S608
#: Plans that stay good when tables grow: the server makes those of a session when they are small.
_PLANS: Final = "SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off"


class Leased(NamedTuple):
    """A received message."""

    id: int
    key: str | None
    body: Any


def create(url: str) -> None:
    """Create durableq's tables and, like them, those of the hand-written statements."""
    with DurableQ(url) as app:
        _ = app.store
    with closing(watching(url)) as connection:
        if connection.execute("SELECT to_regclass('bench_record')").fetchone() == (None,):
            for text in _CREATE:
                connection.execute(text.encode())


class Raw:
    """A connection of a process that sends and receives by hand.

    Args:
        url: of a schema for which `create` was called.
    """

    def __init__(self, url: str) -> None:
        self.connection = watching(url)
        self.connection.execute(_PLANS)
        self._cursor = driver.RawCursor(self.connection)
        self._receipt = b""
        self._is_keyed = False

    def send(self, body: Any, key: str | None = None) -> None:
        """Store one message."""
        self.send_many([body], None if key is None else [key])

    def send_many(self, bodies: list[Any], keys: list[str] | None = None) -> None:
        """Store messages."""
        self._is_keyed = keys is not None
        texts = [json.dumps(body, separators=(",", ":"), ensure_ascii=False) for body in bodies]
        nothing: list[Any] = [None] * len(texts)
        hashes = nothing if keys is None else [*map(_hash, bodies)]
        self._cursor.execute(_SEND, (texts, nothing if keys is None else keys, hashes)).fetchall()

    def receive(self, limit: int) -> list[Leased]:
        """Lease messages."""
        self._receipt = os.urandom(16)
        text = _RECEIVE_KEYED if self._is_keyed else _RECEIVE
        rows = self._cursor.execute(text, (limit, self._receipt)).fetchall()
        return [Leased(number, key, json.loads(body)) for number, key, body in rows]

    def complete(self, leased: list[Leased]) -> None:
        """Delete leased messages, and complete their keys."""
        text = _COMPLETE_KEYED if self._is_keyed else _COMPLETE
        self._cursor.execute(text, ([one.id for one in leased], self._receipt))
        if self._cursor.rowcount != len(leased):
            raise ValueError(f"completed {self._cursor.rowcount} of {len(leased)} messages")

    def expect_keys(self) -> None:
        """Let a process that only receives take keys."""
        self._is_keyed = True

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()


def _hash(body: Any) -> bytes:
    return hashlib.sha256(
        json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    ).digest()
