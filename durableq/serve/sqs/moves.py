"""Message move tasks: the messages of a dead-letter queue go to their sources, or to another queue.

A move task is a redrive task of a whole queue. It is kept in the store: a server that starts goes
on with those of one that has ended.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final
from uuid import UUID
from weakref import WeakKeyDictionary

from durableq.client.coroutines import read, write
from durableq.model.dead_letters import (
    RedriveFailure,
    RedriveRunning,
    RedriveState,
    RedriveTask,
    WholeQueue,
)
from durableq.model.decisions import Requeue
from durableq.model.errors import Conflict, UnknownQueue
from durableq.serve.context import Context
from durableq.serve.errors import RESOURCE_NOT_FOUND, ServiceError
from durableq.serve.sqs.dead_letters import sources_of
from durableq.serve.sqs.handles import move_handle, parse_move
from durableq.serve.sqs.names import QueueName, from_arn, from_key
from durableq.serve.sqs.reading import bounded, invalid, required_text, text
from durableq.store.core import Capability, Store

MAX_RATE: Final = 500
MAX_RESULTS: Final = 10
#: The actor of the redrive tasks: a server carries out those that were started over SQS.
ACTOR: Final = "sqs move"
_FORMAT: Final = "arn:<partition>:<service>:<region>:<account-id>:<resource-id>"
_STATUS: Final = {
    RedriveState.RUNNING: "RUNNING",
    RedriveState.DONE: "COMPLETED",
    RedriveState.CANCELLED: "CANCELLED",
    RedriveState.FAILED: "FAILED",
}
#: As AWS gives them: "DLQ redrive issues" in the Amazon SQS Developer Guide.
_REASONS: Final = {
    RedriveFailure.NO_TARGET: "AWS.SimpleQueueService.NonExistentQueue",
    RedriveFailure.NO_SOURCE: "CouldNotDetermineMessageSource",
}

_started: WeakKeyDictionary[asyncio.AbstractEventLoop, WeakKeyDictionary[Store, asyncio.Event]] = (
    WeakKeyDictionary()
)


def started(store: Store) -> asyncio.Event:
    """Return the event of this event loop that a task of a store was started."""
    of_loop = _started.setdefault(asyncio.get_running_loop(), WeakKeyDictionary())
    return of_loop.setdefault(store, asyncio.Event())


async def start_message_move(context: Context, parameters: dict[str, Any]) -> dict[str, Any]:
    """Start to move the messages of a dead-letter queue: StartMessageMoveTask."""
    source = await _queue(context, required_text(parameters, "SourceArn"), "SourceArn")
    given = text(parameters, "DestinationArn")
    target = await _queue(context, given, "DestinationArn") if given else None
    reason = f"Must be between 1 and {MAX_RATE}, if provided."
    rate = bounded(parameters, "MaxNumberOfMessagesPerSecond", 1, MAX_RATE, reason)
    task = await write(context.store, _start, context.store, source, target, rate)
    started(context.store).set()
    return {"TaskHandle": _handle(task, source)}


def _handle(task: RedriveTask, source: QueueName) -> str:
    return move_handle(str(UUID(int=int(task.id))), source.arn)


async def _queue(context: Context, arn: str, name: str) -> QueueName:
    """Return the queue of an ARN.

    Raises:
        ServiceError: it is no ARN, or there is no such queue.
    """
    found = from_arn(arn)
    if found is None:
        raise invalid(f"You must use this format to specify the {name}: {_FORMAT}")
    try:
        await read(context.store, context.store.settings, found.key)
    except UnknownQueue:
        raise ServiceError(
            RESOURCE_NOT_FOUND,
            f"The resource that you specified for the {name} parameter doesn't exist.",
        ) from None
    return found


def _start(
    store: Store, source: QueueName, target: QueueName | None, rate: int | None
) -> RedriveTask:
    """Start a task.

    Raises:
        ServiceError: the source is no dead-letter queue, the target is of another type, or a task
            is running.
    """
    if not sources_of(store, source):
        raise invalid("Source queue must be configured as a Dead Letter Queue.")
    if target is not None and target.is_fifo != source.is_fifo:
        raise invalid("Destination queue must be same type of queue as the source.")
    to_queue = None if target is None else target.key
    redrive = store.require(Capability.REDRIVE)
    try:
        return redrive.start_redrive(
            WholeQueue(source.key), Requeue(), to_queue=to_queue, actor=ACTOR, rate=rate
        )
    except RedriveRunning as error:
        raise invalid(
            "There is already a task running. Only one active task is allowed for a source queue "
            "arn at a given time."
        ) from error
    except Conflict as error:
        raise invalid(str(error)) from error


def running(store: Store) -> list[RedriveTask]:
    """Return the move tasks that run, of all queues."""
    return [
        task
        for task in store.require(Capability.REDRIVE).redrive_tasks()
        if task.whole_queue and (task.actor, task.state) == (ACTOR, RedriveState.RUNNING)
    ]


def _moves(store: Store, source: QueueName) -> list[RedriveTask]:
    """Return the tasks of a queue, also those that Python programs started, newest first."""
    tasks = store.require(Capability.REDRIVE).redrive_tasks()
    return [task for task in tasks if task.whole_queue == source.key]


async def list_message_moves(context: Context, parameters: dict[str, Any]) -> dict[str, Any]:
    """Return the newest move tasks of a dead-letter queue: ListMessageMoveTasks."""
    source = await _queue(context, required_text(parameters, "SourceArn"), "SourceArn")
    reason = f"Must be between 1 and {MAX_RESULTS}, if provided."
    most = bounded(parameters, "MaxResults", 1, MAX_RESULTS, reason) or 1
    tasks = await read(context.store, _moves, context.store, source)
    return {"Results": [_entry(task, source) for task in tasks[:most]]}


def _entry(task: RedriveTask, source: QueueName) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "Status": _STATUS[task.state],
        "SourceArn": source.arn,
        "ApproximateNumberOfMessagesMoved": task.moved,
        "ApproximateNumberOfMessagesToMove": task.total,
        "StartedTimestamp": task.started_at_ms,
    }
    if task.state is RedriveState.RUNNING:
        entry["TaskHandle"] = _handle(task, source)
    if task.to_queue is not None:
        entry["DestinationArn"] = from_key(task.to_queue).arn
    if task.rate is not None:
        entry["MaxNumberOfMessagesPerSecond"] = int(task.rate)
    if task.failure is not None:
        entry["FailureReason"] = _REASONS[task.failure]
    return entry


async def cancel_message_move(context: Context, parameters: dict[str, Any]) -> dict[str, Any]:
    """End a move task; the messages that it has moved stay moved: CancelMessageMoveTask."""
    task_id, arn = parse_move(required_text(parameters, "TaskHandle"))
    source = await _queue(context, arn, "SourceArn")
    moved = await write(context.store, _cancel, context.store, source, task_id)
    return {"ApproximateNumberOfMessagesMoved": moved}


def _cancel(store: Store, source: QueueName, task_id: str) -> int:
    """Cancel a task, and return the number of messages that it has moved.

    Raises:
        ServiceError: there is no such task, or it has ended.
    """
    of_id = {str(UUID(int=int(task.id))): task for task in _moves(store, source)}
    task = of_id.get(task_id)
    if task is None:
        raise ServiceError(RESOURCE_NOT_FOUND, "Task does not exist.")
    if task.state is RedriveState.RUNNING:
        task = store.require(Capability.REDRIVE).cancel_redrive(task.id)
        if task.state is RedriveState.CANCELLED:
            return task.moved
    raise invalid("Only active tasks can be cancelled.")
