"""The result of the success under a key, and the wait for it."""

from __future__ import annotations

import time
from contextlib import closing
from functools import partial
from typing import Any, Final

from durableq.model import codec
from durableq.model.errors import NoResult
from durableq.model.info import Search
from durableq.model.message import DeadLetter, IdempotencyRecord, Message, RecordStatus
from durableq.model.text import visible
from durableq.runtime.wakeup import WRITES_SECONDS
from durableq.store.core import Capability, Store

#: Time between two looks for a dead letter, which take longer than those for the record.
DEAD_SECONDS: Final = 0.5
_ERROR_CHARS: Final = 200


def result_of(store: Store, queue: str, key: str, seconds: float) -> Any:
    """Return the result under a key, once there is one.

    Args:
        store: the engine.
        queue: the queue of the key.
        key: the key.
        seconds: the longest wait.

    Raises:
        NoResult: there was no success in time, or its message is dead.
    """
    deadline = time.monotonic() + seconds
    record, letter = _look(store, queue, key)
    if record is None and letter is None and seconds:
        with closing(store.watch()) as watch:
            record, letter = _look(store, queue, key)  # it may have come before the watch
            looked_at = time.monotonic()
            while record is None and letter is None and (left := deadline - time.monotonic()) > 0:
                if watch.wait(min(left, DEAD_SECONDS)):
                    time.sleep(min(WRITES_SECONDS, left))
                is_due = time.monotonic() - looked_at >= DEAD_SECONDS
                record, letter = _look(store, queue, key, dead=is_due)
                looked_at = time.monotonic() if is_due else looked_at
    return _answer(store, queue, key, record, letter)


async def result_of_async(store: Store, queue: str, key: str, seconds: float) -> Any:
    """Do as `result_of` does, in a coroutine; the event loop is not blocked.

    Args:
        store: as for result_of.
        queue: see there.
        key: see there.
        seconds: see there.

    Raises:
        NoResult: see there.
    """
    from durableq.client.coroutines import read, running_loop  # it imports asyncio
    from durableq.client.watching import watching

    loop = running_loop()
    look, deadline = partial(_look, store, queue, key), loop.time() + seconds
    record, letter = await read(store, look)
    if record is None and letter is None and seconds:
        async with watching(store) as writes:
            record, letter = await read(store, look)  # it may have come before the watch
            looked_at = loop.time()
            while record is None and letter is None and (left := deadline - loop.time()) > 0:
                await writes.wait(min(left, DEAD_SECONDS))
                is_due = loop.time() - looked_at >= DEAD_SECONDS
                record, letter = await read(store, partial(look, dead=is_due))
                looked_at = loop.time() if is_due else looked_at
    return await read(store, _answer, store, queue, key, record, letter)


def _answer(
    store: Store,
    queue: str,
    key: str,
    record: IdempotencyRecord | None,
    letter: DeadLetter | None,
) -> Any:
    """Return the result of a record, or say why there is none."""
    if record is None:
        raise _no_result(store, queue, key, letter)
    return None if record.result is None else codec.decode(record.result)


def _look(
    store: Store, queue: str, key: str, *, dead: bool = True
) -> tuple[IdempotencyRecord | None, DeadLetter | None]:
    """Return the record of a success, or the dead letter if no other message has its key."""
    record = store.require(Capability.IDEMPOTENCY).record(queue, key)
    if record is not None:
        return (record if record.status is RecordStatus.COMPLETED else None), None
    if not dead or _newest(store, queue, key) is not None:
        return None, None
    dead_letters = store.require(Capability.INSPECT).queue(queue).dead_letter_queue
    message = None if dead_letters is None else _newest(store, dead_letters, key)
    if message is None or message.source_queue != queue:
        return None, None
    return None, store.require(Capability.DEAD_LETTERS).dead_letter(message.id)


def _newest(store: Store, queue: str, key: str) -> Message | None:
    found = store.require(Capability.INSPECT).search(queue, 1, Search(key=key)).messages
    return found[0] if found else None


def _no_result(store: Store, queue: str, key: str, letter: DeadLetter | None) -> NoResult:
    if letter is not None:
        failure = letter.last_failure
        told = letter.reason.sentence
        if failure is not None and failure.error_message:
            told = ": ".join(filter(None, (failure.error_type, failure.error_message)))
        told = visible(told, _ERROR_CHARS)
        fate = f"message {letter.id} is dead ({told}). See `durableq show {letter.id}`."
        return NoResult(queue, key, fate, letter.id, is_dead=True)
    message = _newest(store, queue, key)
    if message is None:
        fate = "no message has this key, as far as was looked. Is the key right?"
        return NoResult(queue, key, fate, is_dead=False)
    fate = f"message {message.id} is {message.state.label.replace('_', ' ')}. Wait longer."
    return NoResult(queue, key, fate, message.id, is_dead=False)
