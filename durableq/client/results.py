"""The result of the success under a key, and the wait for it."""

from __future__ import annotations

import time
from contextlib import closing
from functools import partial
from typing import Any, Final

from durableq.model import codec
from durableq.model.errors import NoResult
from durableq.model.message import IdempotencyRecord, RecordStatus
from durableq.store.core import Capability, Store

#: Pause between two looks: the writes of a busy file are looked at together.
PAUSE_SECONDS: Final = 0.01


def result_of(store: Store, queue: str, key: str, seconds: float) -> Any:
    """Return the result under a key, once there is one.

    Args:
        store: the engine.
        queue: the queue of the key.
        key: the key.
        seconds: the longest wait.

    Raises:
        NoResult: there was no success in time.
    """
    look = partial(store.require(Capability.IDEMPOTENCY).record, queue, key)
    record = look()
    if not _is_completed(record) and seconds:
        deadline = time.monotonic() + seconds
        with closing(store.watch()) as watch:
            record = look()  # it may have come before the watch
            while not _is_completed(record) and (left := deadline - time.monotonic()) > 0:
                if watch.wait(left):
                    time.sleep(min(PAUSE_SECONDS, left))
                record = look()
    if record is None or not _is_completed(record):
        raise NoResult(queue, key, in_progress=record is not None)
    return None if record.result is None else codec.decode(record.result)


def _is_completed(record: IdempotencyRecord | None) -> bool:
    return record is not None and record.status is RecordStatus.COMPLETED
