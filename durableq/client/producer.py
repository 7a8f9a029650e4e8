"""Producers: group sends into batches of one commit each (anti-stampede)."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from itertools import chain
from types import TracebackType
from typing import Any, Unpack

from durableq.model import codec
from durableq.model.errors import Conflict, InvalidBody, InvalidInput
from durableq.model.flow.rate import check_rate
from durableq.model.limits import BODY_CEILING_BYTES, MAX_BODY_BYTES, MAX_SEND_BATCH
from durableq.model.message import Draft, SendOptions, draft
from durableq.model.units import Seconds, check_whole, to_ms

_Pending = list[tuple[Draft, "Future[str]"]]


class Producer:
    """Groups sends into batches; each batch is one commit. Made by `queue.producer()`.

    `send` returns a Future of the message's id: it is settled only after the commit, so a result
    means the message is stored. A batch is sent when it is full (by count or bytes), when its
    first message has waited for `linger` seconds, and at the end of the `with` block, also when
    that ends in an exception. If the store refuses a batch for one of its messages, whose time is
    too far ahead for example, the others are stored in smaller commits. Safe to use from several
    threads; not to be taken across a fork.

    Args:
        commit: stores a batch and returns its ids.
        max_body_bytes: the queue's limit: a larger body is refused by itself, not with its batch.
        batch_size: messages in a batch, 1 to MAX_SEND_BATCH.
        linger: seconds a message may wait for company; None waits until the batch is full.
        max_bytes: bytes of bodies in a batch.
        rate: messages a second; None for no limit. `send` waits for its turn, evenly spaced: time
            lost in a pause is not caught up in a burst.
    """

    def __init__(
        self,
        commit: Callable[[list[Draft]], list[str]],
        max_body_bytes: int,
        *,
        batch_size: int = 10,
        linger: Seconds | None = 0.05,
        max_bytes: int = MAX_BODY_BYTES,
        rate: float | None = None,
    ) -> None:
        check_whole(batch_size, "batch_size", 1, MAX_SEND_BATCH)
        check_whole(max_bytes, "max_bytes", 1, MAX_SEND_BATCH * BODY_CEILING_BYTES)
        self._commit = commit
        self._pid = os.getpid()
        self._max_body_bytes = max_body_bytes
        self._batch_size = batch_size
        self._linger = None if linger is None else to_ms(linger, "linger") / 1000
        self._max_bytes = max_bytes
        if rate is not None:
            check_rate(rate, "rate")
        self._interval = 0.0 if rate is None else 1 / rate
        self._next_turn = 0.0
        self._pacing = threading.Lock()
        self._changed = threading.Condition()
        self._committing = threading.Lock()
        self._pending: _Pending = []
        self._pending_bytes = 0
        self._oldest = 0.0
        self._closed = False
        self._failure: BaseException | None = None
        self._flusher: threading.Thread | None = None

    def send(self, body: Any, **options: Unpack[SendOptions]) -> Future[str]:
        """Accept a message; see Queue.send. The Future's result is its id, once it is stored.

        It is empty if the message was shed.

        Raises:
            InvalidInput: this message cannot be sent; the others are not affected.
            Conflict: the store refused an earlier message, whose future has the InvalidInput; this
                one was not accepted.
            DurableQError: an earlier batch could not be stored; its futures say so too.
        """
        accepted = draft(body, **options)
        size = codec.size(accepted.body)
        if size > self._max_body_bytes:
            raise InvalidBody(
                f"The body has {size} bytes; this queue takes at most {self._max_body_bytes}. "
                "Store the data elsewhere and send a reference."
            )
        if self._is_inherited:
            raise InvalidInput("This producer is the parent process's: make one in this process.")
        self._raise_failure()
        if self._interval:
            self._wait_for_turn()
        future: Future[str] = Future()
        future.set_running_or_notify_cancel()  # an accepted message is sent: it cannot be cancelled
        while not self._add(accepted, size, future):
            self.flush()
        if len(self._pending) >= self._batch_size:
            self.flush()
        return future

    def flush(self) -> None:
        """Commit the waiting messages now.

        Raises:
            Conflict: the store refused a message, whose future has the InvalidInput.
            DurableQError: they could not be stored; the futures of the batch say so too.
        """
        if not self._is_inherited:
            self._flush()
            self._raise_failure()

    def close(self) -> None:
        """Commit the waiting messages and accept no more.

        Raises:
            Conflict: the store refused a message, whose future has the InvalidInput.
            DurableQError: a batch could not be stored.
        """
        if self._is_inherited:
            return  # a thread of the parent may have its lock
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._flusher is not None:
            self._flusher.join()
        self.flush()

    def __enter__(self) -> Producer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except Exception as failure:
            if error is None:
                raise
            error.add_note(f"And the producer could not store its last batch: {failure}")

    @property
    def _is_inherited(self) -> bool:
        """Whether it came here by a fork: the parent sends the waiting messages."""
        return os.getpid() != self._pid

    def _wait_for_turn(self) -> None:
        """Wait until the rate allows the next message."""
        with self._pacing:
            now = time.monotonic()
            turn = max(self._next_turn, now)
            self._next_turn = turn + self._interval
        if turn > now:
            time.sleep(turn - now)

    def _add(self, accepted: Draft, size: int, future: Future[str]) -> bool:
        """Let a message wait with the others, if its batch has room for it."""
        with self._changed:
            if self._closed:
                raise InvalidInput("This producer is closed: send inside its `with` block.")
            if not self._pending:
                self._oldest = time.monotonic()
                self._changed.notify()
            elif (
                len(self._pending) >= self._batch_size
                or self._pending_bytes + size > self._max_bytes
            ):
                return False
            self._pending.append((accepted, future))
            self._pending_bytes += size
            self._start_flusher()
        return True

    def _flush(self) -> None:
        """Commit one batch; one at a time, so that batches keep their order."""
        with self._committing:
            with self._changed:
                batch, self._pending, self._pending_bytes = self._pending, [], 0
            if batch:
                self._store(batch)

    def _store(self, batch: _Pending) -> None:
        """Commit messages; a part with one that the store refuses is halved until it is alone."""
        parts = [batch]
        while parts:
            part = parts.pop()
            try:
                ids = self._commit([accepted for accepted, _ in part])
            except InvalidInput as error:
                if len(part) > 1:
                    middle = len(part) // 2
                    parts += [part[middle:], part[:middle]]
                    continue
                self._failure = Conflict(f"A message could not be stored: {error}")
                self._failure.__cause__ = error
                part[0][1].set_exception(error)
            except BaseException as error:
                self._failure = error
                for _, future in chain(part, *reversed(parts)):
                    future.set_exception(error)
                if not isinstance(error, Exception):
                    raise
                return
            else:
                for (_, future), message_id in zip(part, ids, strict=True):
                    future.set_result(message_id)

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _start_flusher(self) -> None:
        if self._flusher is None and self._linger is not None:
            self._flusher = threading.Thread(
                target=self._flush_in_time, name="durableq-producer", daemon=True
            )
            self._flusher.start()

    def _flush_in_time(self) -> None:
        """Send a batch that is not filling up once its first message has waited long enough."""
        while True:
            with self._changed:
                while not self._closed and not self._pending:
                    self._changed.wait()
                if self._closed:
                    return
                left = self._oldest + (self._linger or 0) - time.monotonic()
                if left > 0:
                    self._changed.wait(left)
                    continue
            self._flush()
