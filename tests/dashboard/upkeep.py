"""Stores with keys, values, redrive tasks, workers and decisions, for the pages that show them."""

from __future__ import annotations

import json
from dataclasses import replace
from urllib.parse import urlencode

from durableq import DurableQ
from durableq.model.dead_letters import DeadLetterFilter, RedriveTask
from durableq.model.decisions import Decision, Requeue
from durableq.model.flow.breaker import Phase
from durableq.model.info import WorkerInfo
from durableq.model.message import Completion, Failure, IdempotencyRecord, Reason
from durableq.recovery.circuit_breaker import METADATA_PREFIX, BreakerState, Result
from durableq.store.core import Capability
from durableq.supervisor.liveness import this_process
from tests.dashboard.test_escaping import TEXT, poisoned


def complete(dq: DurableQ, key: str, result: str | None = None) -> str:
    """Send a message with a key, let it succeed, and return its id."""
    one = dq.queue("orders").send({"key": key}, key=key)
    received = dq.store.receive("orders", 1).messages[0]
    assert received.receipt is not None
    dq.store.complete([Completion(received.receipt, result, key)])
    return one


def record(dq: DurableQ, key: str) -> IdempotencyRecord | None:
    return dq.store.require(Capability.IDEMPOTENCY).record("orders", key)


def bury(dq: DurableQ, number: int = 1) -> list[str]:
    """Send messages to `orders`, let them fail, and return their ids."""
    ids = dq.queue("orders").send_many([{"n": n} for n in range(number)])
    received = dq.store.receive("orders", number).messages
    failure = Failure(Reason.HANDLER_ERROR, "ValueError", "it failed")
    dq.store.fail([(one.receipt, failure) for one in received if one.receipt], actor="worker")
    return ids


def decide(dq: DurableQ, decision: Decision, actor: str = "recovery:1") -> None:
    """Let a message die, and decide about it."""
    dead_letters = dq.store.require(Capability.DEAD_LETTERS)
    assert dead_letters.decide_by_id("orders-dlq", bury(dq), decision, actor=actor)


def start_redrive(
    dq: DurableQ, rate: float | None = None, note: str = "", actor: str = "ada"
) -> RedriveTask:
    """Start a redrive task that no process carries out."""
    wanted = DeadLetterFilter("orders")
    redrive = dq.store.require(Capability.REDRIVE)
    return redrive.start_redrive(wanted, Requeue(note), actor=actor, rate=rate)


def register(dq: DurableQ, name: str) -> WorkerInfo:
    """Register this process as a worker."""
    described = replace(this_process(name), queues=("orders",), state="idle")
    return dq.store.require(Capability.FLEET).register(described)


def open_recovery_breaker(dq: DurableQ, died: int = 7) -> None:
    state = BreakerState(Phase.OPEN, 1_800_000_000_000, 2, 4_000_000_000_000, died, 9)
    name = f"{METADATA_PREFIX}orders"
    assert dq.store.require(Capability.METADATA).compare_and_set(
        name, state.to_json(), expected=None
    )


def closed_breaker() -> str:
    seen = tuple(Result(1, str(number), number < 2) for number in range(5))
    return BreakerState(Phase.CLOSED, 1_800_000_000_000, seen=seen).to_json()


def poison(dq: DurableQ) -> list[str]:
    """Put the corpus into every field of these pages; return their addresses."""
    dq.queue("orders", max_receives=1)
    key = TEXT[:200]
    complete(dq, "k" + key, json.dumps({TEXT: [TEXT]}))
    complete(dq, "j" + key, TEXT)
    dq.once("v" + key, lambda: {TEXT: [TEXT]}, ttl=3600)
    decide(dq, Requeue(TEXT, 3600), "recovery:" + TEXT[:60])
    bury(dq)
    task = start_redrive(dq, note=TEXT, actor=TEXT[:60])
    poisoned(dq)
    register(dq, TEXT[:80])
    register(dq, "recovery:" + TEXT[:60])
    dq.store.declare_queue("orders", {"breaker": 1})
    control = dq.store.require(Capability.CONTROL)
    control.set_breaker("orders", is_open=True, actor=TEXT[:60])
    open_recovery_breaker(dq)
    keys = {name: f"{name}{key}" for name in "kjv"}
    of = {name: urlencode({"queue": "orders", "key": each}) for name, each in keys.items()}
    return [
        *(
            "/keys?queue=orders",
            f"/keys?{of['k']}",
            f"/keys?{of['j']}",
            "/values",
            f"/values?{of['v']}",
        ),
        *("/redrives", f"/redrives/{task.id}", "/workers", "/recovery", "/health", "/"),
    ]
