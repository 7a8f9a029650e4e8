"""Calling handlers, and turning return values and exceptions into completions and failures."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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


@dataclass(slots=True)
class _Call:
    """The outcome of calling a handler."""

    result: Any = None
    failure: Failure | None = None
    ran_seconds: float = 0.0


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
        with self._releasing_unstarted(deliveries):
            if handler.batch is not None:
                if batch := self._start_batch(deliveries):
                    with self._completing_batch(batch) as call:
                        call.result = handler.function(batch)
                return
            for delivery in deliveries:
                if self._start(delivery):
                    with self._completing(delivery) as call:
                        call.result = handler.function(delivery)

    async def call_async(self, handler: Handler, deliveries: Sequence[Delivery]) -> None:
        """Call an async handler for each delivery, or once for all if it takes batches."""
        with self._releasing_unstarted(deliveries):
            if handler.batch is not None:
                if batch := self._start_batch(deliveries):
                    with self._completing_batch(batch) as call:
                        call.result = await handler.function(batch)
                return
            for delivery in deliveries:
                if self._start(delivery):
                    with self._completing(delivery) as call:
                        call.result = await handler.function(delivery)

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

    @contextmanager
    def _releasing_unstarted(self, deliveries: Sequence[Delivery]) -> Iterator[None]:
        """Release, uncounted, the deliveries that were not started by the end of the block."""
        try:
            yield
        finally:
            self.release_unstarted(deliveries)

    def release_unstarted(self, deliveries: Sequence[Delivery]) -> None:
        """Release, uncounted, the deliveries that were not started.

        Raises:
            Busy, StorageFull, OutcomeUnknown: they become ready when their leases end.
        """
        left = self._in_flight.not_started(deliveries)
        if left:
            self._in_flight.remove(left)
            self._store.release([delivery.receipt for delivery in left])

    @contextmanager
    def _completing(self, delivery: Delivery) -> Iterator[_Call]:
        """Complete the message with the handler's result; fail it if the block raises."""
        call, encoded = _Call(), None
        try:
            with self._running([delivery], call):
                yield call
                encoded = self._kept(delivery, encode_answer(call.result))
            self._state.prefetch.record(delivery.queue, call.ran_seconds)
            if delivery.settled:
                self._end_settled(delivery, call.failure, encoded)
                return
            how = call.failure or Completion(delivery.receipt, encoded, delivery.key)
            self._completer.submit(delivery, how, call.ran_seconds)
        except PASSING:
            self._in_flight.reset([delivery])
            raise
        except StaleReceipt as error:
            delivery.lost = True
            log.warning("%s", error, extra=message_facts(delivery, "lost"))
            self._in_flight.remove([delivery])

    @contextmanager
    def _running(self, deliveries: Sequence[Delivery], call: _Call) -> Iterator[None]:
        """Record the duration of the handler in the block, and its exception as a failure.

        The handler counts as running until its result is read, because reading runs code of the
        user's classes: the time limit covers it. A lost lease and a busy file are not failures.
        """
        try:
            try:
                yield
            finally:
                self._check_process()
        except PASSING:
            raise
        except BaseException as error:
            # Another message's lost lease is an error of the handler.
            if type(error) is StaleReceipt and error.message_id in {d.id for d in deliveries}:
                raise
            call.failure = failure_of(error)
        finally:
            call.ran_seconds = self._in_flight.mark_returned(deliveries[0])

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

    @contextmanager
    def _completing_batch(self, batch: Batch) -> Iterator[_Call]:
        """Settle a batch in one transaction after its handler has run in the block."""
        call, failed = _Call(), set[str]()
        try:
            with self._running(batch, call):
                yield call
                failed = failed_of_batch(call.result, batch.ids)
        except PASSING:
            self._in_flight.reset(batch)
            raise
        except StaleReceipt as error:
            log.warning("%s The others of its batch are released.", error, extra=logs.facts("lost"))
            self._in_flight.reset(batch)
            return
        if batch.settled:
            if failure := call.failure or (_NAMED if failed else None):
                _log_late("raised_late", "the batch's handler failed messages", batch[0], failure)
        elif call.failure is not None:
            batch.fail_rest(call.failure)
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
        self._state.stopping.exit_unless_intact()


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
