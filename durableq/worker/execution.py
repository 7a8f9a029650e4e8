"""Calling handlers, and turning return values and exceptions into completions and failures."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

from durableq.client import tracing
from durableq.client.answers import FAILURES, encode_answer, failed_of_batch
from durableq.client.delivery import Batch, Delivery
from durableq.client.failures import failure_of
from durableq.model.errors import PASSING, InvalidBody, StaleReceipt
from durableq.model.message import Completion, Failure, Reason
from durableq.model.text import visible
from durableq.runtime import logs
from durableq.runtime.outage import describe
from durableq.runtime.waits import waited_seconds
from durableq.worker.completer import Completer
from durableq.worker.in_flight import Work
from durableq.worker.state import WorkerState, log_success, message_facts, warn

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
        self._stopping = state.stopping
        self._in_flight = state.in_flight
        self._completer = completer
        self._pid = os.getpid()
        self._is_verbose = log.isEnabledFor(logging.DEBUG)
        #: By queue, the first message without a key whose handler returned a value.
        self._unkept: dict[str, str] = {}

    def call(self, work: Work) -> None:
        """Call the handler for each message, or once for all if it takes batches."""
        handler, called = work.handler, 0
        began_ns = now_ns = time.monotonic_ns()
        waited = waited_seconds()
        try:
            if handler.batch is not None:
                if batch := self.begin_batch(work):
                    self.end_batch(work, batch, *_call(handler.function, batch))
                return
            while not self._stopping.is_set and (delivery := work.take()) is not None:
                if not self.begin(work, delivery, now_ns):
                    continue
                try:
                    result = handler.function(delivery)
                except BaseException as error:  # noqa: BLE001 - a handler may raise anything
                    now_ns = self.fail(work, delivery, error, now_ns)
                else:
                    now_ns = self.complete(work, delivery, result, now_ns)
                called += 1
            if called:
                seconds = (now_ns - began_ns) / 1e9 - (waited_seconds() - waited)
                self._state.prefetch.record(handler.queue, seconds, called)
        finally:
            self.release_waiting(work)

    def begin(self, work: Work, delivery: Delivery, now_ns: int) -> bool:
        """Mark a message as started; return False if its body cannot be read: then it fails.

        A validator of the body's type may raise anything. Only what does not fit is permanent.

        Args:
            work: the messages of its receive.
            delivery: the message.
            now_ns: the time on the monotonic clock: the end of one call is the start of the next.
        """
        self._mark_started(work, [delivery], now_ns)
        try:
            delivery.read(work.handler.reader)
        except InvalidBody as error:
            failure = Failure(Reason.UNDECODABLE, "InvalidBody", str(error))
            self._completer.submit(work, delivery, failure, 0)
            return False
        except Exception as error:  # noqa: BLE001 - of a validator: as of the handler
            self.fail(work, delivery, error, now_ns)
            return False
        return True

    def begin_batch(self, work: Work) -> Batch:
        """Take messages and mark them as started; return those whose body can be read."""
        batch = Batch([], self._store)
        if self._stopping.is_set:
            return batch
        now_ns, readable = time.monotonic_ns(), list[Delivery]()
        in_order = work.handler.by_group
        while (delivery := work.take()) is not None:
            try:
                delivery.read(work.handler.reader)
            except Exception:  # noqa: BLE001 - `begin` tells them apart
                if in_order and readable:  # it and those behind it are released
                    work.waiting.appendleft(delivery)
                    break
                self.begin(work, delivery, now_ns)  # alone, to fail
                if in_order:
                    break
            else:
                readable.append(delivery)
        if readable:
            self._mark_started(work, readable, now_ns)
            batch = Batch(readable, self._store, in_order=in_order)
        return batch

    def _mark_started(self, work: Work, deliveries: Sequence[Delivery], now_ns: int) -> None:
        self._in_flight.begin(work, deliveries, now_ns)
        if self._state.is_used_up:
            self._stopping.set()

    def release_waiting(self, work: Work) -> None:
        """Release, uncounted, the messages that no handler was called with.

        Raises:
            Busy, StorageFull, OutcomeUnknown: they become ready when their leases end.
        """
        left = self._in_flight.take_waiting(work)
        if left:
            self._store.release([delivery.receipt for delivery in left])

    def complete(self, work: Work, delivery: Delivery, result: Any, began_ns: int) -> int:
        """Complete a message with its handler's result.

        The handler counts as running until its result is read, because reading runs code of the
        user's classes: the time limit covers it.

        Returns:
            The time on the monotonic clock.
        """
        encoded = None
        if result is not None:
            try:
                encoded = self._kept(delivery, encode_answer(result))
            except BaseException as unreadable:  # noqa: BLE001 - of the user's classes
                return self.fail(work, delivery, unreadable, began_ns)
        self._check_process()
        self._in_flight.mark_returned(work, delivery)
        if delivery.settled:
            if self._is_verbose:
                log_success(delivery, time.monotonic_ns() - began_ns)
            return self._end_settled(work, delivery, None, encoded)
        now_ns = time.monotonic_ns()
        completion = Completion(delivery.receipt, encoded, delivery.message.key)
        self._completer.submit(work, delivery, completion, now_ns - began_ns)
        return now_ns

    def fail(self, work: Work, delivery: Delivery, error: BaseException, began_ns: int) -> int:
        """Fail a message because of an exception, which is read before the handler has ended.

        Returns:
            The time on the monotonic clock.
        """
        self._check_process()
        if issubclass(type(error), PASSING):
            self._in_flight.reset(work, [delivery])
            raise error
        if _is_stale(error, [delivery.id]):
            delivery.lost = True
            log.warning("%s", error, extra=message_facts(delivery, "lost"))
            self._in_flight.finish([(work, delivery)])
            return time.monotonic_ns()
        failure = failure_of(error)
        self._in_flight.mark_returned(work, delivery, failed=True)
        if delivery.settled:
            return self._end_settled(work, delivery, failure, None)
        now_ns = time.monotonic_ns()
        self._completer.submit(work, delivery, failure, now_ns - began_ns)
        return now_ns

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
        self, work: Work, delivery: Delivery, failure: Failure | None, encoded: str | None
    ) -> int:
        """Finish a message that its handler settled; keep the handler's return value."""
        if failure is not None:
            _log_late("raised_late", "the handler raised", delivery, failure)
        elif encoded is not None and delivery.transaction_result not in {None, encoded}:
            warn(delivery, "result_dropped", ": the returned value was not kept, for tx.result was")
        elif encoded is not None and delivery.transaction_result is None:
            delivery.attach_encoded(encoded)
        self._completer.finish([(work, delivery)])
        return time.monotonic_ns()

    def end_batch(self, work: Work, batch: Batch, answer: Any, error: BaseException | None) -> None:
        """Settle a batch in one transaction after its handler's return or exception."""
        failed = set[str]()
        if error is None:
            try:
                failed = failed_of_batch(answer, batch.ids)
            except BaseException as unreadable:  # noqa: BLE001 - of the user's classes
                error = unreadable
        self._check_process()
        if error is not None and issubclass(type(error), PASSING):
            self._in_flight.reset(work, batch)
            raise error
        if error is not None and _is_stale(error, batch.ids):
            log.warning("%s The others of its batch are released.", error, extra=logs.facts("lost"))
            self._in_flight.reset(work, batch)
            return
        failure = None if error is None else failure_of(error)
        self._in_flight.mark_returned(work, batch[0], failed=failure is not None or bool(failed))
        if batch.settled:
            if failure := failure or (_NAMED if failed else None):
                _log_late("raised_late", "the batch's handler failed messages", batch[0], failure)
        elif failure is not None:
            batch.fail_rest(failure)
        else:
            batch.fail_rest(_NAMED, failed)
        self._commit_batch(work, batch)

    def _commit_batch(self, work: Work, batch: Batch) -> None:
        began_at = time.monotonic()
        try:
            lost = batch.settle()
        except PASSING as error:  # the completer tries again
            text = "a batch is settled later: %s"
            log.warning(text, describe(error), extra=logs.facts("unsettled"))
            for delivery, how in batch.endings():
                self._completer.submit(work, delivery, how, 0)
            self._in_flight.reset(work, batch.behind)  # to be released
            return
        if tracing.active is not None and batch:
            tracing.active.settled(batch, time.monotonic() - began_at)
        for delivery in lost:
            delivery.lost = True
            warn(delivery, "lost", ": its lease was lost")
        self._completer.finish([(work, delivery) for delivery in batch], failed=batch.failed)

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
        self._stopping.exit_if_closed()


def _call(function: Callable[..., Any], given: Any) -> tuple[Any, BaseException | None]:
    """Call a handler; return its result, or the exception that it raised."""
    try:
        return function(given), None
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
