"""Idempotency keys of messages that are in SQS, and not in the store that remembers the keys.

A key's record is a value of `once`: its lease is the key in progress, under a token that only this
invocation knows, and its value is the success with its result.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from contextlib import AbstractContextManager
from typing import Final

from durableq.model import codec
from durableq.model.errors import Conflict, DurableQError
from durableq.model.limits import MAX_KEY_CHARS
from durableq.model.message import Message, Reason
from durableq.model.once import TOKEN_BYTES, OnceRequest, OnceStep
from durableq.model.text import shown
from durableq.store.capabilities import Transaction
from durableq.store.core import Capability, Store

_PREFIX: Final = "lambda"


class InProgress(DurableQError):
    """Another invocation holds the key."""


class HeldKey:
    """The key of a message, in progress under this invocation's token."""

    def __init__(self, store: Store, name: str, payload: str, ttl_ms: int, token: bytes) -> None:
        self.store = store
        self._once = store.require(Capability.ONCE)
        self._name, self._payload, self._ttl_ms, self._token = name, payload, ttl_ms, token

    def transaction(self) -> AbstractContextManager[Transaction]:
        """Open a transaction of the store that settles no message."""
        return self.store.require(Capability.TRANSACTIONS).transaction([])

    def complete(self, result: str | None) -> bool:
        """Record the success; False if another invocation has taken the key over."""
        return self._once.once_store(
            self._name,
            self._token,
            self._value(result),
            ttl_ms=self._ttl_ms,
            stale_ms=0,
            compute_ms=0,
        )

    def complete_in(self, transaction: Transaction, result: str | None) -> bool:
        """Record the success if this transaction commits; False as `complete`."""
        return transaction.once_store(
            self._name, self._token, self._value(result), ttl_ms=self._ttl_ms
        )

    def drop(self) -> None:
        """Let the next delivery begin at once; nothing happens if the key was taken over."""
        self._once.once_fail(self._name, self._token)

    def _value(self, result: str | None) -> str:
        return json.dumps({"payload": self._payload, "result": result})


def hold_key(store: Store, message: Message, lease_ms: int) -> HeldKey | None:
    """Take the key of a message, or return None: it has succeeded already.

    Args:
        store: the store that remembers keys.
        message: with a key.
        lease_ms: for how long the invocation may run; then the next delivery may take it.

    Raises:
        InProgress: another invocation holds it.
        Conflict: it has succeeded with another payload.
    """
    key = message.key or ""
    name = f"{_PREFIX}/{message.queue}/{key}"
    if len(name) > MAX_KEY_CHARS:
        name = f"{_PREFIX}/{message.queue}/sha256:{hashlib.sha256(key.encode()).hexdigest()}"
    payload = codec.payload_hash(message.body).hex()
    token = secrets.token_bytes(TOKEN_BYTES)
    request = OnceRequest(token, max(1, lease_ms), beta=0.0)
    answer = store.require(Capability.ONCE).once_get_or_lease(name, request)
    if answer.step is OnceStep.COMPUTE:
        ttl_ms = store.settings(message.queue).idempotency_ttl_ms
        return HeldKey(store, name, payload, ttl_ms, token)
    if answer.step is OnceStep.WAIT or answer.entry is None or answer.entry.value is None:
        raise InProgress(
            f"Key {shown(key)} is in progress in another invocation. SQS delivers the message "
            "again after its visibility timeout."
        )
    if json.loads(answer.entry.value)["payload"] != payload:
        raise Conflict(f"Key {shown(key)}: {Reason.IDEMPOTENCY_CONFLICT.sentence}.")
    return None
