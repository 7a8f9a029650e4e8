"""The entry of AWS Lambda: an application's handler on events of SQS."""

from __future__ import annotations

import asyncio
import dis
import functools
import inspect
import itertools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from durableq.client.answers import FAILURES, IDENTIFIER, encode_answer, failed_of_batch
from durableq.client.app import DurableQ, is_shared
from durableq.client.delivery import Batch, Delivery
from durableq.client.failures import failure_of
from durableq.client.handlers import Handler
from durableq.contrib.awslambda.delivery import SQSDelivery
from durableq.contrib.awslambda.keys import HeldKey, hold_key
from durableq.contrib.awslambda.records import (
    MESSAGE_ID,
    group_of,
    is_ordered,
    message_of,
    records_of,
)
from durableq.model.errors import AppError, InvalidInput, StaleReceipt, Unsupported
from durableq.model.message import Failure, Message, Reason
from durableq.model.queues import check_queue_name
from durableq.model.text import shown, visible
from durableq.runtime import logs
from durableq.runtime.outage import describe

log = logging.getLogger("durableq.awslambda")

Record = Mapping[str, Any]
Answer = dict[str, list[dict[str, str]]]

#: The longest run of a function: the lease of a key where the context does not say.
MAX_FUNCTION_MS: Final = 900_000
_NAMED: Final = Failure(
    Reason.HANDLER_ERROR, "", f"the batch handler named it in its {FAILURES} answer"
)
_NO_FILE: Final = (
    "An environment of AWS Lambda has a disk and a memory of its own, so other environments do not "
    "see {url!r}: {what} would be remembered in one of them only. Use PostgreSQL "
    "(DurableQ('postgresql://...')), or Powertools with a layer of its own."
)


def entry(dq: DurableQ, queue: str, *, key: str | None = None) -> Callable[[Any, Any], Answer]:
    """Return a Lambda function that gives the messages of an SQS event to a queue's handler.

    It answers with the messages that failed, so the event source mapping must have
    ReportBatchItemFailures: without it, SQS deletes them. Of a FIFO queue, the messages behind a
    group's first failure are not handled and reported too; other groups go on.

    Args:
        dq: the application; its store is not opened unless `key` is given.
        queue: the queue whose handler is called. SQS's own may have another name.
        key: where a message's idempotency key is: `"messageId"` (SQS's own id), the name of an
            attribute of the sender, or `"MessageDeduplicationId"`. A key that has succeeded is
            acknowledged without a call. Needs PostgreSQL.

    Raises:
        AppError: the queue has no handler.
        InvalidInput: `key` is no name, or is given for a handler of batches.
        Unsupported: keys, or the handler's `message.transaction()`, on a store that environments
            of Lambda do not share; or that transaction without keys.
    """
    check_queue_name(queue)
    handler = dq.handlers.get(queue)
    if handler is None:
        known = ", ".join(sorted(dq.handlers)) or "none"
        raise AppError(
            f"The application has no handler for queue {shown(queue)}; it has: {known}. Decorate "
            f"one with @dq.handler({queue!r}) before the entry is made."
        )
    _check(dq, handler, key)
    if key is not None:
        dq.queue(queue)  # whose settings say how long keys are remembered
    invocations = _Entry(dq, handler, key)

    def function(event: Any, context: Any) -> Answer:
        """Handle the records of an SQS event; answer with those that failed."""
        return invocations.invoke(event, context)

    return function


def _check(dq: DurableQ, handler: Handler, key: str | None) -> None:
    if key is not None:
        if not isinstance(key, str) or not key:
            raise InvalidInput(f"key names an attribute, or {MESSAGE_ID!r}; got {shown(key)}.")
        if handler.batch is not None:
            raise InvalidInput(
                f"The handler of queue {handler.queue!r} takes batches, and a key belongs to one "
                "message: register it without batch=, or leave key= out."
            )
    uses = any(map(_uses_transaction, handler.functions))
    what = f"the key of a message (key={key!r})" if key is not None else "message.transaction()"
    if (uses or key is not None) and not is_shared(dq.url):
        raise Unsupported(_NO_FILE.format(url=visible(dq.address, 200), what=what))
    if uses and key is None:
        raise Unsupported(
            f"The handler of queue {handler.queue!r} calls message.transaction(), which commits "
            f"your writes with the record of a key. Name the key: entry(dq, {handler.queue!r}, "
            f"key={MESSAGE_ID!r})."
        )


def _uses_transaction(function: Callable[..., Any]) -> bool:
    """Return whether a handler's own code calls `transaction` on its message.

    A call in a function that it calls is not seen here, and refused when it happens.
    """
    while isinstance(function, functools.partial):
        function = function.func
    function = inspect.unwrap(function)
    code = getattr(function, "__code__", None)
    if code is None:
        call = inspect.getattr_static(type(function), "__call__", None)  # of an object
        code = getattr(call, "__code__", None)
    if code is None:
        return False
    steps = list(dis.get_instructions(code))
    names = set(code.co_varnames[: code.co_argcount])
    return any(
        attribute.opname in {"LOAD_ATTR", "LOAD_METHOD"}
        and attribute.argval == "transaction"
        and variable.opname.startswith(("LOAD_FAST", "LOAD_DEREF"))
        and variable.argval in names
        for variable, attribute in itertools.pairwise(steps)
    )


class _Entry:
    """The invocations of one environment of Lambda, which are one at a time."""

    def __init__(self, dq: DurableQ, handler: Handler, key: str | None) -> None:
        self._dq, self._handler, self._key = dq, handler, key
        #: The event loop of the invocation, for coroutines.
        self._loop: asyncio.Runner | None = None

    def invoke(self, event: Any, context: Any) -> Answer:
        """Handle the records of an event; answer with those that failed, in order."""
        records = records_of(event)
        if not self._handler.is_async:
            return self._invoke(records, context)
        with asyncio.Runner() as self._loop:
            return self._invoke(records, context)

    def _invoke(self, records: Sequence[Record], context: Any) -> Answer:
        failed, stopped = list[str](), set[str]()
        for part in self._parts(records):
            open_records = [one for one in part if not _is_behind(one, stopped)]
            failures = self._handle(open_records, context) if open_records else {}
            for record in part:
                message_id = record[MESSAGE_ID]
                if _is_behind(record, stopped):
                    failed.append(message_id)
                elif message_id in failures:
                    _log(self._handler.queue, record, failures[message_id])
                    failed.append(message_id)
                    if is_ordered(record):
                        stopped.add(group_of(record) or "")
        return {FAILURES: [{IDENTIFIER: message_id} for message_id in failed]}

    def _parts(self, records: Sequence[Record]) -> Iterator[list[Record]]:
        """Yield the records of each call: one, or as many as a batch handler takes."""
        most = self._handler.batch or 1
        runs: list[list[Record]] = [list(records)]
        if self._handler.by_group:
            by_group: dict[str | None, list[Record]] = {}
            for record in records:
                by_group.setdefault(group_of(record), []).append(record)
            runs = list(by_group.values())
        for run in runs:
            for first in range(0, len(run), most):
                yield run[first : first + most]

    def _handle(self, records: Sequence[Record], context: Any) -> dict[str, Failure]:
        """Call the handler; return the failure of each message that failed."""
        deliveries, failures = list[SQSDelivery](), dict[str, Failure]()
        stopped = set[str]()
        for record in records:
            message_id = record[MESSAGE_ID]
            if (failures and self._handler.by_group) or _is_behind(record, stopped):
                failures[message_id] = _BEHIND
                continue
            try:
                deliveries.append(self._delivery(record))
            except InvalidInput as error:
                name = type(error).__name__
                failures[message_id] = Failure(Reason.UNDECODABLE, name, str(error))
            except Exception as error:  # noqa: BLE001 - of a validator: as of the handler
                failures[message_id] = failure_of(error)
            if message_id in failures and is_ordered(record):
                stopped.add(group_of(record) or "")
        if self._handler.batch is None:
            for delivery in deliveries:
                if (failure := self._one(delivery, context)) is not None:
                    failures[delivery.id] = failure
        elif deliveries:
            failures |= self._batch(deliveries)
        return failures

    def _delivery(self, record: Record) -> SQSDelivery:
        """Return a record as a delivery whose body is read.

        Raises:
            InvalidInput: it cannot be read, or its body does not fit the type of the handler's.
        """
        delivery = SQSDelivery(message_of(record, self._handler.queue, self._key))
        delivery.read(self._handler.reader)
        return delivery

    def _one(self, delivery: SQSDelivery, context: Any) -> Failure | None:
        try:
            if delivery.key is not None:
                delivery.held = hold_key(self._dq.store, delivery.message, _left_ms(context))
                if delivery.held is None:
                    log.info("message %s: its key has succeeded already", delivery.id)
                    return None
        except Exception as error:  # noqa: BLE001 - of the store: SQS delivers it again
            return failure_of(error)
        try:
            result = self._call(delivery)
            encoded = encode_answer(result)
            if encoded is not None and delivery.key is None:
                _warn_dropped(delivery.message, "has no key")
        except BaseException as error:  # noqa: BLE001 - a handler may raise anything
            return self._failed(delivery, delivery.held, error)
        return self._succeeded(delivery, delivery.held, encoded)

    def _failed(
        self, delivery: Delivery, held: HeldKey | None, error: BaseException
    ) -> Failure | None:
        failure = failure_of(error)
        if delivery.settled:
            text = "message %s: the handler raised after its transaction had committed: %s"
            log.warning(text, delivery.id, visible(failure.error_message, 200))
            return None
        if held is not None:
            try:
                held.drop()
            except Exception as lost:  # noqa: BLE001 - the lease ends by itself
                log.warning(
                    "message %s: its key stays in progress: %s", delivery.id, describe(lost)
                )
        return failure

    def _succeeded(
        self, delivery: Delivery, held: HeldKey | None, encoded: str | None
    ) -> Failure | None:
        if delivery.settled:
            if encoded is not None and delivery.transaction_result not in {None, encoded}:
                _warn_dropped(delivery.message, "has tx.result already")
            elif encoded is not None and delivery.transaction_result is None:
                _warn_dropped(delivery.message, "ended in its transaction: set tx.result there")
            return None
        if held is None:
            return None
        try:
            if held.complete(encoded):
                return None
        except Exception as error:  # noqa: BLE001 - of the store
            return failure_of(error)
        return failure_of(StaleReceipt(delivery.id, "another invocation took its key over"))

    def _batch(self, deliveries: Sequence[SQSDelivery]) -> dict[str, Failure]:
        no_store: Any = None  # they are in SQS
        batch = Batch(deliveries, no_store, in_order=self._handler.by_group)
        try:
            named = failed_of_batch(self._call(batch), batch.ids)
        except BaseException as error:  # noqa: BLE001 - a handler may raise anything
            batch.fail_rest(failure_of(error))
        else:
            batch.fail_rest(_NAMED, named)
        ended = {one.id: how for one, how in batch.endings() if isinstance(how, Failure)}
        return ended | {one.id: _BEHIND for one in batch.behind}

    def _call(self, given: Delivery | Batch) -> Any:
        result = self._handler.function(given)
        return result if self._loop is None else self._loop.run(result)


_BEHIND: Final = Failure(Reason.HANDLER_ERROR, "", "it is behind another of its group that failed")


def _is_behind(record: Record, stopped: set[str]) -> bool:
    """Return whether a message of the record's group has failed before it, in a FIFO queue."""
    return is_ordered(record) and (group_of(record) or "") in stopped


def _left_ms(context: Any) -> int:
    ask = getattr(context, "get_remaining_time_in_millis", None)
    return int(ask()) if callable(ask) else MAX_FUNCTION_MS


def _warn_dropped(message: Message, why: str) -> None:
    log.warning(
        "the handler of %s returned a value for message %s, which %s: it is dropped",
        *(message.queue, message.id, why),
        extra=logs.facts("result_dropped", message_id=message.id, queue=message.queue),
    )


def _log(queue: str, record: Record, failure: Failure) -> None:
    """Log a failure with its traceback, which is kept nowhere else."""
    said = ": ".join(filter(None, (failure.error_type, failure.error_message)))
    trace = f"\n{failure.traceback}" if failure.traceback else ""
    log.warning(
        "message %s of %s failed: %s; SQS delivers it again, or moves it to its dead-letter "
        "queue%s",
        *(record[MESSAGE_ID], queue, visible(said, 300) or failure.reason.sentence, trace),
        extra=logs.facts(
            "failed", message_id=record[MESSAGE_ID], queue=queue, reason=failure.reason
        ),
    )
