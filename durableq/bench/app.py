"""The application of the benchmark's fleets; an environment variable chooses its handler."""

from __future__ import annotations

import asyncio
import importlib
import os
import time
from collections.abc import Callable
from typing import Any, Final

from durableq.client.app import DurableQ
from durableq.client.delivery import Batch, Delivery

QUEUE: Final = "bench"
NOTES_VARIABLE: Final = "DURABLEQ_BENCH_NOTES"
HANDLER_VARIABLE: Final = "DURABLEQ_BENCH_HANDLER"
#: The body of a message whose first handler runs until its worker is killed.
HOLD: Final = "hold"
EFFECT: Final = "INSERT INTO bench_effect (message_id, amount) VALUES (:message_id, :amount)"
CPU_NS: Final = 1_000_000
WAIT_SECONDS: Final = 0.010
BATCH: Final = 50

dq = DurableQ()
dq.queue(QUEUE, visibility_timeout=60, max_receives=1000)


def note(message: Delivery) -> None:
    """Append the message, this process and the time to the file of notes."""
    line = f"{message.id} {os.getpid()} {time.monotonic_ns()}\n"
    handle = os.open(os.environ[NOTES_VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(handle, line.encode())
    os.close(handle)
    while message.body == HOLD and message.receive_count == 1:
        time.sleep(60)


def nothing(message: Delivery) -> None:
    """Decode the body."""
    _ = message.body


async def nothing_async(message: Delivery) -> None:
    """Decode the body, in a coroutine."""
    _ = message.body


def compute(message: Delivery) -> None:
    """Use 1 ms of processor time."""
    _ = message.body
    end = time.thread_time_ns() + CPU_NS
    while time.thread_time_ns() < end:
        pass


def wait(message: Delivery) -> None:
    """Wait 10 ms, as for an answer from elsewhere."""
    _ = message.body
    time.sleep(WAIT_SECONDS)


async def wait_async(message: Delivery) -> None:
    """Wait 10 ms in a coroutine."""
    _ = message.body
    await asyncio.sleep(WAIT_SECONDS)


def transact(message: Delivery) -> None:
    """Write one row in the commit that ends the message."""
    with message.transaction() as tx:
        tx.execute(EFFECT, {"message_id": int(message.id), "amount": 1})


def transact_batch(batch: Batch) -> None:
    """Write a row for each message in the commit that ends them all."""
    with batch.transaction() as tx:
        tx.execute(EFFECT, [{"message_id": int(one.id), "amount": 1} for one in batch])


HANDLERS: Final[dict[str, Callable[..., Any]]] = {
    "note": note,
    "no-op": nothing,
    "async no-op": nothing_async,
    "1 ms CPU": compute,
    "10 ms wait": wait,
    "async 10 ms wait": wait_async,
    "transaction": transact,
    "batch": transact_batch,
}

_chosen = os.environ.get(HANDLER_VARIABLE, "note")
if HANDLERS[_chosen] in {transact, transact_batch}:
    # As an application that writes rows has it before its first message.
    importlib.import_module("sqlalchemy")
dq.handler(QUEUE, batch=BATCH if _chosen == "batch" else None)(HANDLERS[_chosen])
