"""Values that one caller computes for all."""

from __future__ import annotations

from durableq.engines.memory.base import MemoryBase, operation, query
from durableq.engines.memory.tables import Value
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


class MemoryOnce(MemoryBase, Once):
    """Operations on computed values."""

    def once_get_or_lease(self, key: str, request: OnceRequest) -> OnceAnswer:
        """Return the value, or a lease."""
        check_key(key)
        check_request(request)
        answer = self._once_answer(key, request)
        return self._once_lease(key, request) if answer.step is OnceStep.COMPUTE else answer

    @query
    def _once_answer(self, key: str, request: OnceRequest) -> OnceAnswer:
        return answer_once(request, self._value_entry(key), self._clock.now_ms())

    @operation
    def _once_lease(self, key: str, request: OnceRequest) -> OnceAnswer:
        now_ms = self._clock.now_ms()
        answer = answer_once(request, self._value_entry(key), now_ms)
        if answer.step is OnceStep.COMPUTE:
            value = Value(None, now_ms, now_ms, now_ms)
            if answer.entry is not None:
                value = self._tables.values[key]
            until_ms = self._clock.lease_ms() + request.lease_ms
            self._tables.values[key] = value._replace(
                token=request.token, lease_until_ms=until_ms, owner=request.owner
            )
        return answer

    @operation
    def once_store(
        self, key: str, token: bytes, value: str, *, ttl_ms: int, stale_ms: int, compute_ms: int
    ) -> bool:
        """Store a computed value and end the lease."""
        if self._leased_value(key, token) is None:
            return False
        now_ms = self._clock.now_ms()
        expires_ms = now_ms + ttl_ms
        self._tables.values[key] = Value(
            value, now_ms, expires_ms, expires_ms + stale_ms, compute_ms
        )
        return True

    @operation
    def once_extend(self, key: str, token: bytes, lease_ms: int) -> bool:
        """Extend a lease."""
        found = self._leased_value(key, token)
        if found is not None:
            until_ms = self._clock.lease_ms() + lease_ms
            self._tables.values[key] = found._replace(lease_until_ms=until_ms)
        return found is not None

    @operation
    def once_fail(self, key: str, token: bytes) -> bool:
        """End a lease without a value."""
        found = self._leased_value(key, token)
        if found is None:
            return False
        if found.value is None:
            del self._tables.values[key]
        else:
            self._tables.values[key] = found._replace(token=None, lease_until_ms=0, owner="")
        return True

    @operation
    def once_forget(self, key: str) -> bool:
        """Drop a value and its lease."""
        was_there = self.once_entry(key) is not None
        self._tables.values.pop(key, None)
        return was_there

    @query
    def once_entry(self, key: str) -> OnceEntry | None:
        """Return a key's state."""
        entry = self._value_entry(key)
        return entry if entry and entry.is_remembered(self._clock.now_ms()) else None

    @query
    def once_entries(self, limit: int, after_key: str | None = None) -> list[OnceEntry]:
        """Return states in order of key."""
        keys = sorted(key for key in self._tables.values if key > (after_key or ""))
        entries = map(self.once_entry, keys)
        return [entry for entry in entries if entry is not None][:limit]

    @query
    def count_once(self, limit: int) -> int:
        """Count states, up to a limit."""
        return len(self.once_entries(limit))

    def _leased_value(self, key: str, token: bytes) -> Value | None:
        """Return the row of a key whose lease has this token."""
        found = self._tables.values.get(key)
        return found if found is not None and found.token == token else None

    def _value_entry(self, key: str) -> OnceEntry | None:
        found = self._tables.values.get(key)
        if found is None:
            return None
        return OnceEntry(
            key,
            found.value,
            found.created_at_ms,
            found.expires_at_ms,
            found.stale_until_ms,
            found.compute_ms,
            found.token,
            max(0, found.lease_until_ms - self._clock.lease_ms()),
            found.owner,
        )
