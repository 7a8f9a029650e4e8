"""Message move tasks: dead letters go back to their sources, or to another queue.

A task is a redrive task for each queue whose dead letters the dead-letter queue has, carried out
one after another, so that its rate is that of all of them. They are kept in the store: a server
that starts goes on with those of one that has ended.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import threading
from collections.abc import Iterable
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from durableq.client.coroutines import read, write
from durableq.model.dead_letters import DeadLetterFilter, RedriveState, RedriveTask
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
#: The actor of the redrive tasks, before the token of the move task and the dead-letter queue.
ACTOR: Final = "sqs move"
#: The reason that AWS gives where the target of a task is gone.
_NO_TARGET: Final = "AWS.SimpleQueueService.NonExistentQueue"
_FORMAT: Final = "arn:<partition>:<service>:<region>:<account-id>:<resource-id>"
_STATUS: Final = {
    RedriveState.RUNNING: "RUNNING",
    RedriveState.DONE: "COMPLETED",
    RedriveState.CANCELLED: "CANCELLED",
}
#: Of several requests that start a task, one looks for a running one at a time.
_starting = threading.Lock()


_started: WeakKeyDictionary[asyncio.AbstractEventLoop, WeakKeyDictionary[Store, asyncio.Event]] = (
    WeakKeyDictionary()
)


def started(store: Store) -> asyncio.Event:
    """Return the event of this event loop that a task of a store was started."""
    of_loop = _started.setdefault(asyncio.get_running_loop(), WeakKeyDictionary())
    return of_loop.setdefault(store, asyncio.Event())


class Move(NamedTuple):
    """A move task: its token, its dead-letter queue, and its redrive tasks in order."""

    token: str
    key: str
    parts: list[RedriveTask]

    @property
    def state(self) -> RedriveState:
        """The state of the task."""
        states = {part.state for part in self.parts}
        for state in (RedriveState.RUNNING, RedriveState.CANCELLED):
            if state in states:
                return state
        return RedriveState.DONE

    @property
    def following(self) -> RedriveTask | None:
        """The part to be carried out next."""
        return next((part for part in self.parts if part.state is RedriveState.RUNNING), None)

    @property
    def moved(self) -> int:
        """The number of messages that were moved."""
        return sum(part.moved for part in self.parts)


async def start_message_move(context: Context, parameters: dict[str, Any]) -> dict[str, Any]:
    """Start to move the messages of a dead-letter queue: StartMessageMoveTask."""
    source = await _queue(context, required_text(parameters, "SourceArn"), "SourceArn")
    given = text(parameters, "DestinationArn")
    target = await _queue(context, given, "DestinationArn") if given else None
    reason = f"Must be between 1 and {MAX_RATE}, if provided."
    rate = bounded(parameters, "MaxNumberOfMessagesPerSecond", 1, MAX_RATE, reason)
    token = await write(context.store, _start, context.store, source, target, rate)
    started(context.store).set()
    return {"TaskHandle": move_handle(token, source.arn)}


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


def _start(store: Store, source: QueueName, target: QueueName | None, rate: int | None) -> str:
    """Start a task, and return its token.

    Raises:
        ServiceError: the source is no dead-letter queue, or a task is running.
    """
    sources = sources_of(store, source)
    if not sources:
        raise invalid("Source queue must be configured as a Dead Letter Queue.")
    redrive = store.require(Capability.REDRIVE)
    token = secrets.token_hex(16)
    to_queue = None if target is None else target.key
    with _starting:
        if any(move.following for move in moves_of(store, source.key)):
            raise invalid(
                "There is already a task running. Only one active task is allowed for a source "
                "queue arn at a given time."
            )
        actor = f"{ACTOR} {token} {source.key}"
        try:
            for queue in sources:
                wanted = DeadLetterFilter(queue=queue.key)
                redrive.start_redrive(wanted, Requeue(), to_queue=to_queue, actor=actor, rate=rate)
        except Conflict as error:
            _cancel(store, moves_of(store, source.key), token)
            raise invalid(str(error)) from error
    return token


def moves_of(store: Store, key: str | None = None) -> list[Move]:
    """Return the move tasks of a dead-letter queue, or of all, newest first."""
    found: dict[tuple[str, str], list[RedriveTask]] = {}
    for task in store.require(Capability.REDRIVE).redrive_tasks():
        if task.actor.startswith(f"{ACTOR} "):
            token, queue = task.actor.removeprefix(f"{ACTOR} ").split(" ", 1)
            if key in {None, queue}:
                found.setdefault((token, queue), []).append(task)
    return [
        Move(token, queue, sorted(parts, key=lambda part: int(part.id)))
        for (token, queue), parts in found.items()
    ]


async def list_message_moves(context: Context, parameters: dict[str, Any]) -> dict[str, Any]:
    """Return the newest move tasks of a dead-letter queue: ListMessageMoveTasks."""
    source = await _queue(context, required_text(parameters, "SourceArn"), "SourceArn")
    reason = f"Must be between 1 and {MAX_RESULTS}, if provided."
    most = bounded(parameters, "MaxResults", 1, MAX_RESULTS, reason) or 1
    return {"Results": await read(context.store, _listed, context.store, source, most)}


def _listed(store: Store, source: QueueName, most: int) -> list[dict[str, Any]]:
    failed = _failed(store, source.key)
    return [_entry(move, source, failed) for move in moves_of(store, source.key)[:most]]


def _entry(move: Move, source: QueueName, failed: Iterable[str]) -> dict[str, Any]:
    first = move.parts[0]
    entry: dict[str, Any] = {
        "Status": _STATUS[move.state],
        "SourceArn": source.arn,
        "ApproximateNumberOfMessagesMoved": move.moved,
        "ApproximateNumberOfMessagesToMove": sum(part.total for part in move.parts),
        "StartedTimestamp": first.started_at_ms,
    }
    if move.following is not None:
        entry["TaskHandle"] = move_handle(move.token, source.arn)
    if first.to_queue is not None:
        entry["DestinationArn"] = from_key(first.to_queue).arn
    if first.rate is not None:
        entry["MaxNumberOfMessagesPerSecond"] = int(first.rate)
    if move.token in failed:
        entry |= {"Status": "FAILED", "FailureReason": _NO_TARGET}
    return entry


async def cancel_message_move(context: Context, parameters: dict[str, Any]) -> dict[str, Any]:
    """End a move task; the messages that it has moved stay moved: CancelMessageMoveTask."""
    token, arn = parse_move(required_text(parameters, "TaskHandle"))
    source = await _queue(context, arn, "SourceArn")
    moved = await write(context.store, _cancelled, context.store, source, token)
    return {"ApproximateNumberOfMessagesMoved": moved}


def _cancelled(store: Store, source: QueueName, token: str) -> int:
    """Cancel a task, and return the number of messages that it has moved.

    Raises:
        ServiceError: there is no such task, or it has ended.
    """
    moves = moves_of(store, source.key)
    move = next((one for one in moves if one.token == token), None)
    if move is None:
        raise ServiceError(RESOURCE_NOT_FOUND, "Task does not exist.")
    if move.following is None:
        raise invalid("Only active tasks can be cancelled.")
    _cancel(store, moves, token)
    return next(one for one in moves_of(store, source.key) if one.token == token).moved


def _cancel(store: Store, moves: Iterable[Move], token: str) -> None:
    redrive = store.require(Capability.REDRIVE)
    for move in moves:
        for part in move.parts:
            if move.token == token and part.state is RedriveState.RUNNING:
                redrive.cancel_redrive(part.id)


def fail(store: Store, move: Move) -> None:
    """End a task whose target was deleted, with that reason."""
    metadata = store.require(Capability.METADATA)
    present = metadata.get_metadata(_failures(move.key))
    failed = [*json.loads(present or "[]"), move.token][-100:]
    metadata.compare_and_set(_failures(move.key), json.dumps(failed), expected=present)
    _cancel(store, [move], move.token)


def _failed(store: Store, key: str) -> list[str]:
    found = store.require(Capability.METADATA).get_metadata(_failures(key))
    tokens: list[str] = json.loads(found or "[]")
    return tokens


def _failures(key: str) -> str:
    """Return the name of the metadata, which is deleted together with the queue."""
    return f"sqs-failed:{key}"
