"""The capability `once`: values that one process computes for all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from durableq.model.once import OnceAnswer, OnceEntry, OnceRequest


class Once(Protocol):
    """Values by key, each computed by one caller at a time, under a lease.

    Keys belong to the store, not to a queue. Lifetimes count in steady time, leases in lease time.
    """

    def once_get_or_lease(self, key: str, request: OnceRequest) -> OnceAnswer:
        """Return the value, or the lease to compute it, or the lease to wait for.

        `answer_once` decides. Nothing is written unless the answer is COMPUTE.

        Raises:
            InvalidInput: a key or a number of the request out of bounds.
        """
        ...

    def once_store(
        self, key: str, token: bytes, value: str, *, ttl_ms: int, stale_ms: int, compute_ms: int
    ) -> bool:
        """Store a computed value and end the lease; False if the lease is not this one any more.

        A lease that has ended still stores, unless another caller has it since, or the key was
        forgotten or pruned.

        Args:
            key: the value's.
            token: the request's.
            value: JSON text.
            ttl_ms: the time from now until it expires.
            stale_ms: the time from then on for which it is served while another is computed.
            compute_ms: the time that the computation took.
        """
        ...

    def once_extend(self, key: str, token: bytes, lease_ms: int) -> bool:
        """Let a lease end `lease_ms` from now; False if it is not this one any more."""
        ...

    def once_fail(self, key: str, token: bytes) -> bool:
        """End a lease without a value; False if it is not this one any more.

        An older value stays.
        """
        ...

    def once_forget(self, key: str) -> bool:
        """Drop a key's value and the lease on it, if any; False if there was neither.

        A value whose computation has begun before is not stored: `once_store` refuses its token.
        """
        ...

    def once_entry(self, key: str) -> OnceEntry | None:
        """Return a key's state; None if it has neither a value to be served nor a lease."""
        ...

    def once_entries(self, limit: int, after_key: str | None = None) -> Sequence[OnceEntry]:
        """Return the states that `once_entry` returns, in order of key."""
        ...

    def count_once(self, limit: int) -> int:
        """Count the states that `once_entries` returns, at most `limit`."""
        ...
