"""Calling handlers, and turning return values and exceptions into completions and failures."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

from durableq.client.answers import FAILURES, encode_answer, failed_of_batch
from durableq.client.delivery import Batch, Delivery
from durableq.client.failures import failure_of
from durableq.client.handlers import Handler
from durableq.model.errors import PASSING, InvalidBody, StaleReceipt
from durableq.model.message import Completion, Failure, Reason
from durableq.model.text import visible
from durableq.runtime import logs
from durableq.runtime.outage import describe
from durableq.worker.completer import Completer
from durableq.worker.state import WorkerState, message_facts, warn

log = logging.getLogger("durableq.worker")


_NAMED: Final = Failure(
    Reason.HANDLER_ERROR, "", f"the batch handler named it in its {FAILURES} answer"
)


class Execution:
    """Calls handlers, on any thread.

    Args:
        state: the state of the worker.
        completer: gets the completion or failure of each message.
    """

    def __init__(self, state: WorkerState, completer: Completer) -> None:
        self._state = state
        self._store = state.store
        self._in_flight = state.in_flight
        self._completer = completer
        self._pid = os.getpid()
        #: By queue, the first message without a key whose handler returned a value.
        self._unkept: dict[str, str] = {}

    def call(self, handler: Handler, deliveries: Sequence[Delivery]) -> None:
        """Call a handler for each delivery, or once for all if it takes batches."""
        began_at, called = time.monotonic(), 0
        try:
            if handler.batch is not None:
                if batch := self._start_batch(deliveries):
                    self._end_batch(batch, *_call(handler.function, batch))
                return
            for delivery in deliveries:
                if self._start(delivery):
                    self._end(delivery, *_call(handler.function, delivery))
                    called += 1
            if called:
                seconds = time.monotonic() - began_at
                self._state.prefetch.record(handler.queue, seconds, called)
        finally:
            if called < len(deliveries):
                self.release_unstarted(deliveries)

    async def call_async(self, handler: Handler, deliveries: Sequence[Delivery]) -> None:
        """Call an async handler for each delivery, or once for all if it takes batches."""
        called = 0
        try:
            if handler.batch is not None:
                if batch := self._start_batch(deliveries):
                    self._end_batch(batch, *await _call_async(handler.function, batch))
                return
            for delivery in deliveries:
                if self._start(delivery):
                    self._end(delivery, *await _call_async(handler.function, delivery))
                    called += 1
        finally:
            if called < len(deliveries):
                self.release_unstarted(deliveries)

    def _start(self, delivery: Delivery) -> bool:
        """Mark a message as started; return False if its handler is not to be called."""
        if self._state.stopping.is_set or not self._mark_started([delivery]):
            return False
        if (failure := _decoding_failure(delivery)) is None:
            return True
        self._completer.submit(delivery, failure, 0.0)
        return False

    def _start_batch(self, deliveries: Sequence[Delivery]) -> Batch:
        """Mark messages as started; return those whose body can be read as a batch."""
        batch = Batch([], self._store)
        if self._state.stopping.is_set:
            return batch
        readable = []
        for delivery in deliveries:
            if _decoding_failure(delivery) is None:
                readable.append(delivery)
            else:
                self._start(delivery)  # alone, to fail
        if readable:
            self._mark_started(readable)
            batch = Batch(readable, self._store)
        return batch

    def _mark_started(self, deliveries: Sequence[Delivery]) -> bool:
        is_in_flight = self._in_flight.begin(deliveries, self._state.options.timeout_ms)
        if self._state.is_used_up:
            self._state.stopping.set()
        return is_in_flight

    def release_unstarted(self, deliveries: Sequence[Delivery]) -> None:
        """Release, uncounted, the deliveries that were not started.

        Raises:
            Busy, StorageFull, OutcomeUnknown: they become ready when their leases end.
        """
        left = self._in_flight.not_started(deliveries)
        if left:
            self._in_flight.remove(left)
            self._store.release([delivery.receipt for delivery in left])

    def _end(self, delivery: Delivery, result: Any, error: BaseException | None) -> None:
        """Complete a message with its handler's result, or fail it because of an exception.

        The handler counts as running until its result and its exception are read, because reading
        runs code of the user's classes: the time limit covers it.
        """
        encoded = None
        if error is None:
            try:
                encoded = self._kept(delivery, encode_answer(result))
            except BaseException as unreadable:  # noqa: BLE001 - of the user's classes
                error = unreadable
        self._check_process()
        if error is not None and issubclass(type(error), PASSING):
            self._in_flight.reset([delivery])
            raise error
        if error is not None and _is_stale(error, [delivery.id]):
            delivery.lost = True
            log.warning("%s", error, extra=message_facts(delivery, "lost"))
            self._in_flight.remove([delivery])
            return
        failure = None if error is None else failure_of(error)
        ran_seconds = self._in_flight.mark_returned(delivery)
        if delivery.settled:
            self._end_settled(delivery, failure, encoded)
            return
        how = failure or Completion(delivery.receipt, encoded, delivery.key)
        self._completer.submit(delivery, how, ran_seconds)

    def _kept(self, delivery: Delivery, encoded: str | None) -> str | None:
        """Return an encoded result if the message has a key; log the first that has none."""
        if encoded is None or delivery.key is not None:
            return encoded
        if self._unkept.setdefault(delivery.queue, delivery.id) == delivery.id:
            log.warning(
                "the handler of %s returned a value for message %s, which has no key, and a result "
                "is kept under a key: it is dropped, as all such values will be. Send messages "
                "with a key, or return None",
                *(delivery.queue, delivery.id),
                extra=message_facts(delivery, "result_dropped"),
            )
        return None

    def _end_settled(
        self, delivery: Delivery, failure: Failure | None, encoded: str | None
    ) -> None:
        """Finish a message that its handler settled; keep the handler's return value."""
        if failure is not None:
            _log_late("raised_late", "the handler raised", delivery, failure)
        elif encoded is not None and delivery.transaction_result not in {None, encoded}:
            warn(delivery, "result_dropped", ": the returned value was not kept, for tx.result was")
        elif encoded is not None and delivery.transaction_result is None:
            delivery.attach_encoded(encoded)
        self._completer.finish([delivery])

    def _end_batch(self, batch: Batch, answer: Any, error: BaseException | None) -> None:
        """Settle a batch in one transaction after its handler's return or exception."""
        failed = set[str]()
        if error is None:
            try:
                failed = failed_of_batch(answer, batch.ids)
            except BaseException as unreadable:  # noqa: BLE001 - of the user's classes
                error = unreadable
        self._check_process()
        if error is not None and issubclass(type(error), PASSING):
            self._in_flight.reset(batch)
            raise error
        if error is not None and _is_stale(error, batch.ids):
            log.warning("%s The others of its batch are released.", error, extra=logs.facts("lost"))
            self._in_flight.reset(batch)
            return
        failure = None if error is None else failure_of(error)
        self._in_flight.mark_returned(batch[0])
        if batch.settled:
            if failure := failure or (_NAMED if failed else None):
                _log_late("raised_late", "the batch's handler failed messages", batch[0], failure)
        elif failure is not None:
            batch.fail_rest(failure)
        else:
            batch.fail_rest(_NAMED, failed)
        self._commit_batch(batch)

    def _commit_batch(self, batch: Batch) -> None:
        try:
            lost = batch.settle()
        except PASSING as error:  # the completer tries again
            text = "a batch is settled later: %s"
            log.warning(text, describe(error), extra=logs.facts("unsettled"))
            for delivery, how in batch.endings():
                self._completer.submit(delivery, how, 0.0)
            return
        for delivery in lost:
            delivery.lost = True
            warn(delivery, "lost", ": its lease was lost")
        self._completer.finish(batch, failed=batch.failed)

    def _check_process(self) -> None:
        """Exit, before the file is touched, in a forked child or after descriptors were closed."""
        if os.getpid() != self._pid:
            try:
                log.warning(
                    "a handler forked, and its child came back from the handler; it ends here",
                    extra=logs.facts("forked"),
                )
            finally:  # stderr may be closed
                os._exit(0)
        self._state.stopping.exit_if_closed()


def _call(function: Callable[..., Any], given: Any) -> tuple[Any, BaseException | None]:
    """Call a handler; return its result, or the exception that it raised."""
    try:
        return function(given), None
    except BaseException as error:  # noqa: BLE001 - a handler may raise anything
        return None, error


async def _call_async(function: Callable[..., Any], given: Any) -> tuple[Any, BaseException | None]:
    """Call an async handler; return its result, or the exception that it raised."""
    try:
        return await function(given), None
    except BaseException as error:  # noqa: BLE001 - a handler may raise anything
        return None, error


def _is_stale(error: BaseException, ids: Collection[str]) -> bool:
    """Return whether an exception says that the lease of one of these messages was lost.

    Another message's lost lease is an error of the handler.
    """
    return type(error) is StaleReceipt and error.message_id in ids


def _log_late(event: str, what: str, delivery: Delivery, failure: Failure) -> None:
    warn(
        delivery,
        event,
        ": %s after the message was settled, so it stays settled: %s: %s",
        what,
        visible(failure.error_type),
        visible(failure.error_message, 200),
        error_type=failure.error_type,
    )


def _decoding_failure(delivery: Delivery) -> Failure | None:
    """Return a permanent failure if the body cannot be decoded; the stored bytes are kept."""
    try:
        _ = delivery.body
    except InvalidBody as error:
        return Failure(Reason.UNDECODABLE, "InvalidBody", str(error))
    return None
