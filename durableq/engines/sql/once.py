"""Values that one process computes for all."""

from __future__ import annotations

from typing import Any

from durableq.engines.sql.transactions import Operations, Transaction, WriteTransaction
from durableq.model.drafts import check_key
from durableq.model.once import (
    OnceAnswer,
    OnceEntry,
    OnceRequest,
    OnceStep,
    answer_once,
    check_request,
)
from durableq.store.once import Once


class SQLOnce(Operations, Once):
    """The capability of `once`, in SQL."""

    def once_get_or_lease(self, key: str, request: OnceRequest) -> OnceAnswer:
        """Return the value, or a lease. A value that is served takes no write lock."""
        check_key(key)
        check_request(request)
        with self._database.read() as tx:
            answer = answer_once(request, _entry(tx, key), tx.now_ms)
            if answer.step is not OnceStep.COMPUTE:
                return tx.shown(answer)
        return self._database.run(_lease, key, request)

    def once_store(
        self, key: str, token: bytes, value: str, *, ttl_ms: int, stale_ms: int, compute_ms: int
    ) -> bool:
        """Store a computed value and end the lease."""
        return self._database.run(store, key, token, value, ttl_ms, stale_ms, compute_ms)

    def once_extend(self, key: str, token: bytes, lease_ms: int) -> bool:
        """Extend a lease."""
        return self._database.run(_extend, key, token, lease_ms)

    def once_fail(self, key: str, token: bytes) -> bool:
        """End a lease without a value."""
        return self._database.run(_fail, key, token)

    def once_forget(self, key: str) -> bool:
        """Drop a value and its lease."""
        return self._database.run(_forget, key)

    def once_entry(self, key: str) -> OnceEntry | None:
        """Return a key's state."""
        with self._database.read() as tx:
            entry = _entry(tx, key)
            return tx.shown(entry) if entry and entry.is_remembered(tx.now_ms) else None

    def once_entries(self, limit: int, after_key: str | None = None) -> list[OnceEntry]:
        """Return states in order of key."""
        with self._database.read() as tx:
            rows = tx.run(
                tx.sql.ONCE_ENTRIES,
                after=after_key or "",
                lease_now=tx.lease_now_ms,
                now_ms=tx.now_ms,
                limit=limit,
            )
            return tx.shown([_entry_of(tx, row) for row in rows.fetchall()])

    def count_once(self, limit: int) -> int:
        """Count states, up to a limit."""
        with self._database.read() as tx:
            now = {"lease_now": tx.lease_now_ms, "now_ms": tx.now_ms}
            (number,) = tx.run(tx.sql.COUNT_ONCE, limit=limit, **now).fetchone()
            return tx.shown(int(number))


def prune(tx: WriteTransaction, limit: int) -> int:
    """Remove at most `limit` values that are not served any more; return the number."""
    removed: int = tx.run(
        tx.sql.PRUNE_ONCE, now_ms=tx.now_ms, lease_now=tx.lease_now_ms, limit=limit
    ).rowcount
    return removed


def store(
    tx: WriteTransaction,
    key: str,
    token: bytes,
    value: str,
    ttl_ms: int,
    stale_ms: int,
    compute_ms: int,
) -> bool:
    """Store a computed value and end the lease; see Once.once_store."""
    expires_ms = tx.now_ms + ttl_ms
    stored = tx.run(
        tx.sql.ONCE_STORE,
        of_key=key,
        token=token,
        new_value=value,
        now_ms=tx.now_ms,
        expires_ms=expires_ms,
        stale_ms=expires_ms + stale_ms,
        took_ms=compute_ms,
    )
    return bool(stored.rowcount)


def _lease(tx: WriteTransaction, key: str, request: OnceRequest) -> OnceAnswer:
    """Decide again, with the write lock, and lease the key if it is still to be computed."""
    answer = answer_once(request, _entry(tx, key), tx.now_ms)
    if answer.step is OnceStep.COMPUTE:
        lease = {
            "of_key": key,
            "token": request.token,
            "until_ms": tx.lease_now_ms + request.lease_ms,
            "process": request.owner,
        }
        if answer.entry is None:
            tx.run(tx.sql.ONCE_FORGET, of_key=key)  # it may have expired
            tx.run(tx.sql.ONCE_BEGIN, now_ms=tx.now_ms, **lease)
        elif tx.run(tx.sql.ONCE_LEASE, seen_token=answer.entry.token, **lease).rowcount != 1:
            answer = answer._replace(step=OnceStep.WAIT)  # another caller was first
    return tx.shown(answer)


def _extend(tx: WriteTransaction, key: str, token: bytes, lease_ms: int) -> bool:
    until_ms = tx.lease_now_ms + lease_ms
    return bool(tx.run(tx.sql.ONCE_EXTEND, of_key=key, token=token, until_ms=until_ms).rowcount)


def _fail(tx: WriteTransaction, key: str, token: bytes) -> bool:
    dropped = tx.run(tx.sql.ONCE_DROP, of_key=key, token=token).rowcount
    return bool(dropped or tx.run(tx.sql.ONCE_FAIL, of_key=key, token=token).rowcount)


def _forget(tx: WriteTransaction, key: str) -> bool:
    entry = _entry(tx, key)
    tx.run(tx.sql.ONCE_FORGET, of_key=key)
    return entry is not None and entry.is_remembered(tx.now_ms)


def _entry(tx: Transaction, key: str) -> OnceEntry | None:
    row = tx.run(tx.sql.ONCE, of_key=key).fetchone()
    return None if row is None else _entry_of(tx, row)


def _entry_of(tx: Transaction, row: tuple[Any, ...]) -> OnceEntry:
    key, value, created, expires, stale_until, compute, token, until_ms, owner = row
    left_ms = max(0, until_ms - tx.lease_now_ms)
    return OnceEntry(key, value, created, expires, stale_until, compute, token, left_ms, owner)
