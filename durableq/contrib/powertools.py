"""The persistence layer of Powertools' `@idempotent` in a store of durableq.

A record is a value of `once`. In progress it is a lease under a token that only this invocation
knows, so an invocation that lost its record to another completes and deletes nothing. Powertools'
own layers write by the key alone.
"""

from __future__ import annotations

import json
import logging
import math
import secrets
import time
from collections.abc import Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Final

from durableq.client.app import DurableQ
from durableq.model.errors import Conflict, InvalidInput, InvalidResult, Unsupported
from durableq.model.limits import MAX_ONCE_BYTES, MAX_ONCE_LEASE_MS, MAX_ONCE_TTL_MS
from durableq.model.once import TOKEN_BYTES, OnceEntry, OnceRequest, OnceStep
from durableq.model.text import shown, visible
from durableq.runtime import logs
from durableq.store.core import Capability
from durableq.store.once import Once

try:
    from aws_lambda_powertools.utilities.idempotency import BasePersistenceLayer
    from aws_lambda_powertools.utilities.idempotency.exceptions import (
        IdempotencyItemAlreadyExistsError,
        IdempotencyItemNotFoundError,
    )
    from aws_lambda_powertools.utilities.idempotency.persistence.datarecord import (
        STATUS_CONSTANTS,
        DataRecord,
    )
except ImportError as error:
    raise Unsupported(
        "The persistence layer needs the library aws-lambda-powertools, which is not installed. "
        "Install it: pip install 'durableq[powertools]'."
    ) from error

__all__ = ["PersistenceLayer"]

log = logging.getLogger("durableq.powertools")

_IN_PROGRESS: Final = STATUS_CONSTANTS["INPROGRESS"]
_COMPLETED: Final = STATUS_CONSTANTS["COMPLETED"]
_PREFIX: Final = "powertools/"
#: The tokens of the records that this invocation has in progress, by layer and key. Each thread,
#: and each task, has its own.
_held: ContextVar[Mapping[tuple[int, str], bytes]] = ContextVar(
    "durableq.powertools", default=MappingProxyType({})
)


class PersistenceLayer(BasePersistenceLayer):
    """Powertools' idempotency records in the store of an application, fenced by their owner.

    As DynamoDBPersistenceLayer: give it to `@idempotent` or `@idempotent_function`. `durableq once
    list` shows the records, `durableq once forget` drops one.

    Args:
        dq: the application. In AWS Lambda its store is PostgreSQL: the disk of an environment is
            seen by no other.

    Raises:
        InvalidInput: it is no DurableQ.
    """

    def __init__(self, dq: DurableQ) -> None:
        if not isinstance(dq, DurableQ):
            raise InvalidInput(f"The layer is given a DurableQ, as in {_EXAMPLE}; got {shown(dq)}.")
        self._dq = dq
        super().__init__()  # type: ignore[no-untyped-call]

    @property
    def _once(self) -> Once:
        return self._dq.store.require(Capability.ONCE)

    def _put_record(self, data_record: DataRecord) -> None:
        """Begin a record, unless there is one that has not expired.

        Raises:
            IdempotencyItemAlreadyExistsError: there is, with that record.
            IdempotencyValidationError: it is of another payload.
        """
        key, token = data_record.idempotency_key, secrets.token_bytes(TOKEN_BYTES)
        request = OnceRequest(token, self._lease_ms(data_record), data_record.payload_hash, 0.0)
        answer = self._once.once_get_or_lease(_name(key), request)
        if answer.step is OnceStep.COMPUTE:
            _held.set({**_held.get(), (id(self), key): token})
            return
        found = _record(key, answer.entry)
        if found is not None:
            self._validate_payload(data_payload=data_record, stored_data_record=found)
            self._save_to_cache(data_record=found)
        raise IdempotencyItemAlreadyExistsError(old_data_record=found)

    def _get_record(self, idempotency_key: str) -> DataRecord:
        """Return a record.

        Raises:
            IdempotencyItemNotFoundError: there is none, or it has expired.
        """
        found = _record(idempotency_key, self._once.once_entry(_name(idempotency_key)))
        if found is None:
            raise IdempotencyItemNotFoundError
        return found

    def _update_record(self, data_record: DataRecord) -> None:
        """Complete the record that this invocation has in progress.

        Raises:
            Conflict: another invocation has taken it over, or it was forgotten.
            InvalidResult: the response is too large.
        """
        key = data_record.idempotency_key
        value = json.dumps([data_record.response_data, data_record.payload_hash])
        if len(value) > MAX_ONCE_BYTES:
            raise InvalidResult(
                f"The response is {len(value)} bytes as JSON; at most {MAX_ONCE_BYTES} are kept. "
                "Return a reference to it."
            )
        ttl_ms = min(MAX_ONCE_TTL_MS, max(1, round(self.expires_after_seconds * 1000)))
        token = self._take(key)
        if token is None or not self._once.once_store(
            _name(key), token, value, ttl_ms=ttl_ms, stale_ms=0, compute_ms=0
        ):
            raise Conflict(
                f"Another invocation took over the idempotency record {visible(key)}, because this "
                "one ran longer than its time; nothing was recorded. Give the function more time."
            )

    def _delete_record(self, data_record: DataRecord) -> None:
        """Drop the record that this invocation has in progress.

        Another's stays, and so does a completed one: `dq.forget_once` drops those.
        """
        key = data_record.idempotency_key
        token = self._take(key)
        if token is None or not self._once.once_fail(_name(key), token):
            log.warning(
                "the record %s stays: this invocation has not, or no longer, got it in progress",
                visible(key),
                extra=logs.facts("lost", key=key),
            )

    def _lease_ms(self, data_record: DataRecord) -> int:
        """Return how long a record is in progress: as long as the invocation may run.

        Without a Lambda context nobody knows: as long as a record lives.
        """
        until_ms = data_record.in_progress_expiry_timestamp
        if until_ms is None:
            left_ms = round(self.expires_after_seconds * 1000)
        else:
            left_ms = until_ms - _now_ms()
        return min(MAX_ONCE_LEASE_MS, max(1, left_ms))

    def _take(self, key: str) -> bytes | None:
        """Return the token of a record, and forget it."""
        held = dict(_held.get())
        token = held.pop((id(self), key), None)
        _held.set(held)
        return token


_EXAMPLE: Final = "PersistenceLayer(DurableQ('postgresql://...'))"


def _name(key: str) -> str:
    return _PREFIX + key


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _record(key: str, entry: OnceEntry | None) -> DataRecord | None:
    """Return a stored state as a record of Powertools; None for none.

    Raises:
        Conflict: the value under its name is another's.
    """
    if entry is None:
        return None
    if entry.value is None:
        return DataRecord(
            idempotency_key=key,
            status=_IN_PROGRESS,
            # Powertools' clock decides about it: not before the store's has.
            in_progress_expiry_timestamp=_now_ms() + max(1, entry.lease_left_ms),
            payload_hash=entry.owner,
        )
    match json.loads(entry.value):
        case [str() as response, str() as payload_hash]:
            pass
        case _:
            raise Conflict(
                f"The value {visible(entry.key)} of once is no record of Powertools: another "
                "program has stored it. `durableq once forget` drops it."
            )
    return DataRecord(
        idempotency_key=key,
        status=_COMPLETED,
        expiry_timestamp=math.ceil(entry.expires_at_ms / 1000),
        response_data=response,
        payload_hash=payload_hash,
    )
