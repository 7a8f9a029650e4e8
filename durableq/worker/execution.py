"""Giving messages to handlers, and making of what they return or raise how the messages end."""

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
from durableq.runtime.outage import condition
from durableq.runtime.wakeup import WakeupEvent
from durableq.store.core import Store
from durableq.worker.completer import Completer
from durableq.worker.fetcher import AdaptivePrefetch
from durableq.worker.in_flight import InFlight, message_facts
from durableq.worker.options import WorkerOptions

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
        store: where what a handler settles itself goes.
        in_hand: what the worker holds.
        settler: told how each message is to end.
        stopping: when set, no handler is begun.
        pace: told how long handlers run.
        options: how long a handler may run, how many messages the worker is to handle.
    """

    def __init__(
        self,
        store: Store,
        in_flight: InFlight,
        completer: Completer,
        stopping: WakeupEvent,
        prefetch: AdaptivePrefetch,
        options: WorkerOptions,
    ) -> None:
        self._store = store
        self._in_flight = in_flight
        self._completer = completer
        self._stopping = stopping
        self._prefetch = prefetch
        self._timeout_ms = options.timeout_ms
        self._max_messages = options.max_messages
        self._pid = os.getpid()
        self._unkept: dict[str, str] = {}
        """By queue, the first message whose returned value had no key to be kept under."""

    def call(self, handler: Handler, deliveries: Sequence[Delivery]) -> None:
        """Call a handler for each of these, or once for all of them if it takes batches."""
        with self._releasing_unstarted(deliveries):
            if handler.batch is not None:
                self._call_batch(handler, deliveries)
                return
            for delivery in deliveries:
                if self._start(delivery):
                    with self._completing(delivery) as call:
                        call.result = handler.function(delivery)

    async def call_async(self, handler: Handler, deliveries: Sequence[Delivery]) -> None:
        """Do the same with a handler that is a coroutine; one message, or a batch."""
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

    def _call_batch(self, handler: Handler, deliveries: Sequence[Delivery]) -> None:
        if batch := self._start_batch(deliveries):
            with self._completing_batch(batch) as call:
                call.result = handler.function(batch)

    def _start(self, delivery: Delivery) -> bool:
        """Note that a handler is given a message; False if it is not to be, or cannot be."""
        if self._stopping.is_set or not self._mark_started([delivery]):
            return False
        if (failure := _decoding_failure(delivery)) is None:
            return True
        self._completer.submit(delivery, failure, 0.0)
        return False

    def _start_batch(self, deliveries: Sequence[Delivery]) -> Batch:
        """Note that a batch handler is given these; return those that it can be given."""
        batch = Batch([], self._store)
        if self._stopping.is_set:
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
        in_flight = self._in_flight.begin(deliveries, self._timeout_ms)
        if 0 < self._max_messages <= self._in_flight.started:
            self._stopping.set()
        return in_flight

    @contextmanager
    def _releasing_unstarted(self, deliveries: Sequence[Delivery]) -> Iterator[None]:
        """Release, uncounted, what of these no handler was given at the end of the block."""
        try:
            yield
        finally:
            self.release_unstarted(deliveries)

    def release_unstarted(self, deliveries: Sequence[Delivery]) -> None:
        """Release, uncounted, what of these no handler was given.

        Raises:
            Busy, StorageFull, OutcomeUnknown: they come back when their leases end.
        """
        left = self._in_flight.not_started(deliveries)
        if left:
            self._in_flight.remove(left)
            self._store.release([delivery.receipt for delivery in left])

    @contextmanager
    def _completing(self, delivery: Delivery) -> Iterator[_Call]:
        """Call a handler inside: what it returns completes the message, what it raises fails it."""
        call, encoded = _Call(), None
        try:
            with self._running([delivery], call):
                yield call
                encoded = self._kept(delivery, encode_answer(call.result))
            self._prefetch.record(delivery.queue, call.ran_seconds)
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
        """Call a handler inside, and read what it returned or raised.

        It counts as running until that is read, for reading runs code of the user's classes: the
        time limit holds for it too. A lost lease and a busy file are no failures of the handler.
        """
        try:
            try:
                yield
            finally:
                self._check_process()
        except PASSING:
            raise
        except BaseException as error:
            if _is_stale(error, deliveries):
                raise
            call.failure = failure_of(error)
        finally:
            call.ran_seconds = self._in_flight.mark_returned(deliveries[0])

    def _kept(self, delivery: Delivery, encoded: str | None) -> str | None:
        """Return an encoded result if it can be kept; log the first of a handler that cannot."""
        if encoded is None or delivery.key is not None:
            return encoded
        if self._unkept.setdefault(delivery.queue, delivery.id) == delivery.id:
            log.warning(
                "the handler of %s returned a value for message %s, which has no key, and a result "
                "is kept under a key: it is dropped, as all such values will be. Send messages "
                "with a key, or return None",
                delivery.queue,
                delivery.id,
                extra=message_facts(delivery, "result_dropped"),
            )
        return None

    def _end_settled(
        self, delivery: Delivery, failure: Failure | None, encoded: str | None
    ) -> None:
        """Let go of a message that its handler settled itself; keep what the handler returned."""
        if failure is not None:
            _log_late("raised_late", "the handler raised", delivery, failure)
        elif encoded is not None and delivery.transaction_result not in {None, encoded}:
            log.warning(
                "message %s of %s: the returned value was not kept, for tx.result was",
                delivery.id,
                delivery.queue,
                extra=message_facts(delivery, "result_dropped"),
            )
        elif encoded is not None and delivery.transaction_result is None:
            delivery.attach_encoded(encoded)
        self._completer.finish([delivery])

    @contextmanager
    def _completing_batch(self, batch: Batch) -> Iterator[_Call]:
        """Call a batch handler inside, and settle the batch in one transaction."""
        call, failed = _Call(), set[str]()
        try:
            with self._running(batch, call):
                yield call
                failed = failed_of_batch(call.result, batch.ids)
        except PASSING:
            self._in_flight.reset(batch)
            raise
        except StaleReceipt as error:
            log.warning(
                "%s The others of its batch are given back.", error, extra=logs.facts("lost")
            )
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
        except PASSING as error:  # the settler is patient
            log.warning(
                "a batch is settled later: %s", condition(error), extra=logs.facts("unsettled")
            )
            for delivery, how in batch.endings():
                self._completer.submit(delivery, how, 0.0)
            return
        for delivery in lost:
            delivery.lost = True
            log.warning(
                "message %s of %s: its lease was lost",
                delivery.id,
                delivery.queue,
                extra=message_facts(delivery, "lost"),
            )
        self._completer.finish(batch, failed=batch.failed)

    def _check_process(self) -> None:
        """After a handler: end at once what is no worker any more, before it touches the file."""
        if os.getpid() != self._pid:
            try:
                log.warning(
                    "a handler forked, and its child came back from the handler; it ends here",
                    extra=logs.facts("forked"),
                )
            finally:  # whatever the handler has done to stderr
                os._exit(0)
        self._stopping.exit_unless_intact()


def _is_stale(error: BaseException, deliveries: Sequence[Delivery]) -> bool:
    """Return whether an error says that the lease of one of these was lost; not of another's."""
    if type(error) is not StaleReceipt:
        return False
    return error.message_id in {delivery.id for delivery in deliveries}


def _log_late(event: str, what: str, delivery: Delivery, failure: Failure) -> None:
    log.warning(
        "message %s of %s: %s after the message was settled, so it stays settled: %s: %s",
        delivery.id,
        delivery.queue,
        what,
        visible(failure.error_type),
        visible(failure.error_message, 200),
        extra=message_facts(delivery, event, error_type=failure.error_type),
    )


def _decoding_failure(delivery: Delivery) -> Failure | None:
    """Look at the body; what cannot be read goes to the dead-letter queue, its bytes kept."""
    try:
        _ = delivery.body
    except InvalidBody as error:
        return Failure(Reason.UNDECODABLE, "InvalidBody", str(error))
    return None
