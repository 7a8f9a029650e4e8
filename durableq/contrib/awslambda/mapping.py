"""A plain Lambda function as the handler of a queue, fed as AWS's event source mapping does."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from durableq.client.answers import FAILURES, IDENTIFIER, refuse_unrun
from durableq.client.app import DurableQ
from durableq.client.delivery import Batch
from durableq.client.handlers import is_async, load
from durableq.contrib.awslambda.context import LambdaContext, set_environment
from durableq.contrib.awslambda.records import RECORDS, record_of
from durableq.model.errors import AppError, InvalidInput, InvalidResult, Reject
from durableq.model.settings import QueueSettings
from durableq.model.text import shown, visible
from durableq.worker.options import WorkerOptions

Function = Callable[[Any, Any], Any]

#: The largest batch without a window, and of a FIFO queue.
PLAIN_BATCH: Final = 10
#: The shortest window of a larger batch.
LEAST_WINDOW_MS: Final = 1_000
#: The visibility timeout that AWS advises, in timeouts of the function; the window is added.
ADVISED: Final = 6


def application(options: WorkerOptions) -> DurableQ:
    """Return an application with a Lambda function as the handler of its queues.

    Raises:
        AppError: the function cannot be imported, or is none.
        UnknownQueue: a queue does not exist.
    """
    function = load_function(options.function)
    app = DurableQ(options.url)
    for queue in options.queues:
        ordered = is_fifo(app.store.settings(queue))
        app.handler(
            queue,
            batch=options.batch_size,
            group_by="group" if ordered else None,
            window=options.batch_window_ms / 1000 or None,
        )(Invocations(function, options, ordered=ordered))
    return app


def load_function(spec: str) -> Function:
    """Import a Lambda function named as `module:attribute`, in the environment of one.

    Raises:
        AppError: it does not import, or is no plain function.
    """
    if not spec.partition(":")[2]:
        raise AppError(
            f"{shown(spec)} names no function. Write module:handler, as in shop:handler."
        )
    set_environment(spec)
    kind: Any = Callable
    function: Function = load(spec, kind)
    if is_async(function):
        raise AppError(
            f"{spec!r} is `async def`, which AWS Lambda does not await: call asyncio.run in a "
            "plain function."
        )
    return function


def is_fifo(settings: QueueSettings) -> bool:
    """Return whether a queue keeps the order of its groups, as a FIFO queue of SQS does."""
    return settings.group_concurrency == 1


def check(queue: str, settings: QueueSettings, options: WorkerOptions) -> str | None:
    """Check a mapping by the rules of AWS; return an advice, or None.

    Raises:
        InvalidInput: AWS refuses it too.
    """
    timeout_s, visible_s = options.timeout_ms / 1000, settings.visibility_timeout_ms / 1000
    size, window_ms = options.batch_size, options.batch_window_ms
    if is_fifo(settings) and (size > PLAIN_BATCH or window_ms):
        raise InvalidInput(
            f"Queue {queue!r} keeps the order of its groups, as a FIFO queue does, and such a "
            f"queue has batches of at most {PLAIN_BATCH}, and no window."
        )
    if size > PLAIN_BATCH and window_ms < LEAST_WINDOW_MS:
        raise InvalidInput(
            f"A batch of more than {PLAIN_BATCH} needs a window of at least one second: "
            "--batch-window 1."
        )
    if visible_s < timeout_s:
        raise InvalidInput(
            f"The function may run {timeout_s:g} s (--timeout), longer than the visibility timeout "
            f"of queue {queue!r}, {visible_s:g} s. AWS refuses this. Allow six times as long: "
            f"durableq queue set {queue} --visibility-timeout {_advised(options):g}."
        )
    if visible_s < _advised(options):
        return (
            f"the visibility timeout of queue {queue} is {visible_s:g} s; AWS advises six times "
            f"the function's timeout and the window: {_advised(options):g} s"
        )
    return None


def _advised(options: WorkerOptions) -> float:
    return (ADVISED * options.timeout_ms + options.batch_window_ms) / 1000


class Invocations:
    """The invocations of a function, as a handler of batches.

    Args:
        function: the function.
        options: of the worker.
        ordered: whether the batches are of one group, in order.
    """

    def __init__(self, function: Function, options: WorkerOptions, *, ordered: bool) -> None:
        self._function = function
        self._timeout_ms = options.timeout_ms
        self._reports = options.report_failures
        self._ordered = ordered

    def __call__(self, batch: Batch) -> dict[str, Any] | None:
        """Invoke the function with a batch; return its failures as a batch handler does.

        Raises:
            InvalidResult: its answer is not JSON, or no partial batch response: all fail.
        """
        records: list[dict[str, Any]] = []
        region = os.environ["AWS_REGION"]
        for one in batch:
            try:
                records.append(record_of(one.message, one.receipt, region, ordered=self._ordered))
            except Reject as error:
                batch.fail(one, error)
                if self._ordered:
                    break
        if not records:
            return None
        answer = _as_json(self._function({RECORDS: records}, LambdaContext(self._timeout_ms)))
        if not self._reports:
            return None
        named = reported(answer, [record["messageId"] for record in records])
        return {FAILURES: [{IDENTIFIER: message_id} for message_id in named]}


def _as_json(answer: Any) -> Any:
    """Return an answer as AWS reads it.

    Raises:
        InvalidResult: it is not JSON; AWS fails the invocation.
    """
    refuse_unrun(answer)
    try:
        return json.loads(json.dumps(answer))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidResult(f"The function's answer is not JSON: {error}.") from error


def reported(answer: Any, ids: Collection[str]) -> list[str]:
    """Return the ids of the messages that failed, by AWS's rules of ReportBatchItemFailures.

    Args:
        answer: as JSON; None, {}, and a list that is empty or null mean that none has failed.
        ids: of the messages in the batch.

    Raises:
        InvalidResult: it is malformed, or an id is null, empty or unknown: all fail.
    """
    if answer is None:
        return []
    if not isinstance(answer, Mapping):
        raise InvalidResult(f"The function answered {_shown(answer)}. {_EXPECTED}")
    entries = answer.get(FAILURES)
    if entries is None:
        return []
    if not isinstance(entries, list):
        raise InvalidResult(f"{FAILURES!r} is {_shown(entries)}. {_EXPECTED}")
    found: list[str] = []
    for entry in entries:
        message_id = entry.get(IDENTIFIER) if isinstance(entry, Mapping) else None
        if not isinstance(message_id, str) or message_id not in ids:
            raise InvalidResult(
                f"{FAILURES!r} holds {_shown(entry)}, which names no message of this batch, so "
                f"all {len(ids)} fail. {_EXPECTED}"
            )
        found.append(message_id)
    return found


_EXPECTED: Final = (
    f'With ReportBatchItemFailures it returns {{"{FAILURES}": [{{"{IDENTIFIER}": messageId}}, '
    "...]}, or None."
)


def _shown(value: Any) -> str:
    return visible(json.dumps(value), 80)
