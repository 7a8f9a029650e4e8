"""An application whose handlers run many at a time: coroutines, functions and batches.

As in `app`, a message's body names the act to do, and its effect is a row of `effect`.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from durableq import Batch, Delivery, DurableQ, Reject, RetryLater
from tests.process.app import RECORD_EFFECT, Ledger

APP = "tests.process.crowd:dq"

dq = DurableQ()
_waiting: dict[str, asyncio.Future[None]] = {}


async def breaker(ledger: Ledger) -> None:
    """Wait at the gate, on one thread for all of them."""
    if "gate" not in _waiting:
        _waiting["gate"] = asyncio.ensure_future(asyncio.to_thread(ledger.wait_at_gate))
    await asyncio.shield(_waiting["gate"])


def misdo(do: str | None, message: Delivery) -> None:
    if do == "fail" and message.receive_count == 1:
        raise RuntimeError("once")
    if do == "reject":
        raise Reject("never")
    if do == "later" and message.receive_count == 1:
        raise RetryLater(0)


@dq.handler("orders")
async def charge_async(message: Delivery) -> Any:
    ledger = Ledger(dq.url)
    key = message.key or message.id
    ledger.note("invoke", key)
    do = message.body.get("do")
    misdo(do, message)
    if do == "wait" or (do == "wait once" and message.receive_count == 1):
        await breaker(ledger)
    if do == "never end":
        await asyncio.Event().wait()
    await asyncio.to_thread(lambda: None)  # others may run now
    with message.transaction() as tx:
        tx.execute(RECORD_EFFECT, {"key": key, "pid": os.getpid()})
        tx.result = {"charged": key}
    ledger.note("done", key)
    return None


@dq.handler("letters", batch=5)
async def post(batch: Batch) -> None:
    ledger = Ledger(dq.url)
    ledger.note("batch", str(len(batch)))
    await asyncio.to_thread(lambda: None)
    with batch.transaction() as tx:
        for message in batch:
            key = message.key or message.id
            if message.body.get("do") == "reject":
                batch.fail(message, Reject("never"))
            else:
                tx.execute(RECORD_EFFECT, {"key": key, "pid": os.getpid()})


@dq.handler("plain")
def charge_plainly(message: Delivery) -> None:
    with message.transaction() as tx:
        tx.execute(RECORD_EFFECT, {"key": message.key, "pid": os.getpid()})


@dq.handler("plain-batch", batch=5)
def post_plainly(batch: Batch) -> None:
    with batch.transaction() as tx:
        for message in batch:
            tx.execute(RECORD_EFFECT, {"key": message.key, "pid": os.getpid()})


@dq.handler("noted", prefetch=3)  # a second receive would settle what waits
def note(message: Delivery) -> None:
    """Leave the settling to the worker, unless the body says otherwise."""
    ledger = Ledger(dq.url)
    key = str(message.key)
    ledger.note("invoke", key)
    if message.body == "stay" and message.receive_count == 1:
        ledger.wait_at_gate()
    if message.body == "transaction":
        with message.transaction() as tx:
            tx.execute(RECORD_EFFECT, {"key": key, "pid": os.getpid()})
