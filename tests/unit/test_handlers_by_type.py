"""Several handlers of one queue, chosen by the attribute `type` of a message."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from durableq import Delivery, DurableQ
from durableq.model.errors import InvalidInput
from durableq.model.message import Reason
from durableq.store.core import Capability
from durableq.worker.options import WorkerOptions
from durableq.worker.worker import Worker


@dataclass
class Created:
    number: int


@pytest.fixture
def dq() -> DurableQ:
    dq = DurableQ("memory://")
    dq.queue("orders", max_receives=5)
    return dq


def send(dq: DurableQ, body: Any, kind: str | int | None) -> None:
    dq.queue("orders").send(body, attributes=None if kind is None else {"type": kind})


def drain(dq: DurableQ) -> None:
    Worker(dq, WorkerOptions("", dq.url, "worker", drain=True)).run()


def register(dq: DurableQ, calls: list[tuple[str, Any]]) -> None:
    @dq.handler("orders", type="created")
    def created(order: Created) -> None:
        calls.append(("created", order))

    @dq.handler("orders", type="cancelled")
    def cancelled(message: Delivery) -> None:
        calls.append(("cancelled", message.body))


def test_each_type_has_its_handler_and_its_type_of_body(dq: DurableQ) -> None:
    calls: list[tuple[str, Any]] = []
    register(dq, calls)
    send(dq, Created(1), "created")
    send(dq, {"number": 2}, "cancelled")
    drain(dq)
    assert calls == [("created", Created(1)), ("cancelled", {"number": 2})]


@pytest.mark.parametrize(
    ("kind", "named"), [("paid", "type 'paid'"), (7, "type 7"), (None, "no type")]
)
def test_a_message_that_no_handler_takes_is_rejected(
    dq: DurableQ, kind: str | int | None, named: str
) -> None:
    register(dq, [])
    send(dq, {}, kind)
    drain(dq)
    (message,) = dq.store.require(Capability.INSPECT).peek("orders-dlq", 10)
    letter = dq.store.require(Capability.DEAD_LETTERS).dead_letter(message.id)
    assert letter is not None
    assert letter.reason is Reason.REJECTED
    assert letter.history[-1].error_message == (
        f"queue 'orders' has handlers for 'created' and 'cancelled', and this has {named}"
    )


@pytest.mark.parametrize("is_first", [True, False])
def test_a_handler_without_a_type_takes_all_others(dq: DurableQ, is_first: bool) -> None:
    calls: list[tuple[str, Any]] = []

    def other(message: Delivery) -> None:
        calls.append(("other", message.attributes.get("type")))

    if is_first:
        dq.handler("orders")(other)
    register(dq, calls)
    if not is_first:
        dq.handler("orders")(other)
    for kind in ("paid", "cancelled", None, 7):
        send(dq, None, kind)
    drain(dq)
    assert calls == [("other", "paid"), ("cancelled", None), ("other", None), ("other", 7)]


def test_coroutines_are_chosen_by_type_too(dq: DurableQ) -> None:
    calls = []

    @dq.handler("orders", type="a")
    async def first(body: int) -> None:
        calls.append(body)

    @dq.handler("orders", type="b")
    async def second(message: Delivery) -> None:
        calls.append(-message.body)

    send(dq, 1, "a")
    send(dq, 2, "b")
    drain(dq)
    assert sorted(calls) == [-2, 1]


def handle(message: Any) -> None: ...
async def wait(message: Any) -> None: ...


@pytest.mark.parametrize(
    ("first", "second", "function", "sentence"),
    [
        ({"type": "a"}, {"type": "a"}, handle, "has a handler for messages of type 'a' already"),
        ({}, {}, handle, 'name their type: type="created"'),
        ({"type": "a"}, {"type": "b", "batch": 2}, handle, "given one message at a time"),
        ({"batch": 2}, {"type": "a"}, handle, "given one message at a time"),
        ({"type": "a"}, {"type": "b"}, wait, "partly `async def`"),
        (
            {"type": "a", "prefetch": 2},
            {"type": "b", "prefetch": 3},
            handle,
            "share one prefetch: give the same",
        ),
        ({}, {"type": ""}, handle, "the text of an attribute"),
        ({}, {"type": 7}, handle, "the text of an attribute"),
    ],
)
def test_handlers_that_cannot_share_a_queue_are_refused(
    dq: DurableQ, first: dict[str, Any], second: dict[str, Any], function: Any, sentence: str
) -> None:
    dq.handler("orders", **first)(handle)
    before = dq.handlers["orders"]
    with pytest.raises(InvalidInput, match=sentence):
        dq.handler("orders", **second)(function)
    assert dq.handlers["orders"] is before


def test_one_prefetch_serves_all(dq: DurableQ) -> None:
    dq.handler("orders", type="a", prefetch=2)(handle)
    dq.handler("orders", type="b")(handle)
    assert dq.handlers["orders"].prefetch == 2
