"""Odd arguments of every public function: accepted, or refused in a short line with no effect."""

from __future__ import annotations

import asyncio
import inspect
import itertools
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import SQLAlchemyError

import durableq
from durableq import (
    Batch,
    Delivery,
    DurableQ,
    DurableQError,
    Producer,
    Queue,
    Receipt,
    Retry,
    RetryLater,
    Transaction,
    Unavailable,
)
from durableq.model.drafts import SEND_OPTIONS
from durableq.model.settings import OPTIONS
from durableq.store.core import Capability
from tests.support import new_file

LONGEST_MESSAGE = 600


class Unreadable:
    """An object that answers few questions; Hypothesis itself needs its `repr`."""

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no equality")

    def __hash__(self) -> int:
        raise RuntimeError("no hash")

    def __bool__(self) -> bool:
        raise RuntimeError("no truth")


ODD: tuple[Any, ...] = (
    *(Unreadable(), object(), object, print, Decimal("1.5"), 1j, ..., NotImplemented),
    *("x" * 1_000_000, b"x" * 1_000_000, 10**400, -(10**400), float("nan"), float("inf"), -0.0),
    *("", "\ud800", "\0", "a\nb", "orders", "orders-dlq", "memory://x", "sqlite://[", "?", "#"),
    *({1: 1, "1": 2}, {None: 1}, {"a": {"b": {1, 2}}}, (1, (2,)), range(3), bytearray(b"a")),
    *(ValueError("x"), ValueError, Path("a?b"), [Unreadable()], {"a": Unreadable()}),
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
odd = st.integers(0, len(ODD) - 1).map(ODD.__getitem__)  # sampled_from() hashes
arguments = odd | scalars | st.lists(scalars) | st.dictionaries(st.text(), scalars)


numbers = itertools.count()


class World:
    """An application with one queue, and one received message of it."""

    def __init__(self, dq: DurableQ) -> None:
        self.dq = dq
        self.orders = dq.queue("orders", max_receives=1000)
        self.orders.send("in hand", key=f"k{next(numbers)}")
        [self.message] = self.orders.receive()

    @property
    def state(self) -> list[Any]:
        """Return the stored state that a refused call could change."""
        found = [
            (info.name, info.settings, info.counts)
            for info in self.dq.store.require(Capability.INSPECT).queues()
        ]
        return [*found, sorted(self.dq.handlers), sorted(self.dq.policies)]

    def in_transaction(self, call: Callable[[Transaction], Any]) -> None:
        with self.message.transaction() as tx:
            call(tx)

    def produce(self, body: Any, options: Any) -> None:
        with self.orders.producer(linger=None) as producer:
            producer.send(body, **options)

    def batch(self) -> Batch:
        return Batch([self.message], self.dq.store)


def unknown(name: Any, value: Any = 1) -> Any:
    """An option of that name, or of a name that no option has."""
    return {name if isinstance(name, str) else "nonsense": value}


Call = Callable[[World, Any], Any]


async def answer() -> int:
    return 1


def setting(name: str) -> Call:
    return lambda world, value: world.dq.queue("q", **{name: value})


def term(name: str) -> Call:
    """An argument of `once`, of a key that has no value yet."""
    return lambda world, value: world.dq.once(
        f"k{next(numbers)}", lambda: 1, **{"ttl": 60, name: value}
    )


EVERY = (
    *("queue", "tz", "catch_up", "catch_up_limit", "body", "attributes", "priority", "group"),
    *("expires_in", "type"),
)


def planned(name: str) -> Call:
    """An argument of `every`, of a new schedule."""
    return lambda world, value: world.dq.every(
        "@daily", f"s{next(numbers)}", **{"queue": "orders", name: value}
    )


def option(name: str) -> Call:
    return lambda world, value: world.orders.send(1, **unknown(name, value))


def short(value: Any) -> Any:
    """The value, but no wait that takes time."""
    return -1 if isinstance(value, int | float) and value > 0 else value


DECLARING: dict[str, Call] = {
    "DurableQ(url)": lambda _, v: DurableQ(v),
    "DurableQ(clock)": lambda _, v: DurableQ(clock=v),
    "DurableQ(dice)": lambda _, v: DurableQ(rng=v),
    "DurableQ.use": lambda _, v: DurableQ("memory://").use(v),
    "DurableQ.queue(name)": lambda w, v: w.dq.queue(v),
    **{f"DurableQ.queue({name})": setting(name) for name in OPTIONS},
    "DurableQ.queue(unknown)": lambda w, v: w.dq.queue("q", **unknown(v)),
    "DurableQ.handler(queue)": lambda w, v: w.dq.handler(v)(lambda m: m),
    "DurableQ.handler(batch)": lambda w, v: w.dq.handler("q", batch=v)(lambda m: m),
    "DurableQ.handler(prefetch)": lambda w, v: w.dq.handler("q", prefetch=v)(lambda m: m),
    "DurableQ.handler(type)": lambda w, v: w.dq.handler("q", type=v)(lambda m: m),
    "DurableQ.handler(function)": lambda w, v: w.dq.handler("q")(v),
    "DurableQ.every(timing)": lambda w, v: w.dq.every(v, f"s{next(numbers)}", queue="orders"),
    "DurableQ.every(name)": lambda w, v: w.dq.every("@daily", v, queue="orders"),
    "DurableQ.every(function)": lambda w, v: w.dq.every(
        "@daily", f"s{next(numbers)}", queue="orders"
    )(v),
    **{f"DurableQ.every({name})": planned(name) for name in EVERY},
    "DurableQ.recovery(queue)": lambda w, v: w.dq.recovery(v)(lambda m: m),
    "DurableQ.recovery(function)": lambda w, v: w.dq.recovery("q")(v),
    "DurableQ.cached(key)": lambda w, v: w.dq.cached(ttl=60, key=v),
    "DurableQ.cached(function)": lambda w, v: w.dq.cached(ttl=60)(v),
    "DurableQ.cached(argument)": lambda w, v: w.dq.cached(ttl=60)(lambda argument: 1)(v),
    "Queue.producer(batch_size)": lambda w, v: w.orders.producer(batch_size=v),
    "Queue.producer(linger)": lambda w, v: w.orders.producer(linger=v),
    "Queue.producer(max_bytes)": lambda w, v: w.orders.producer(max_bytes=v),
    "Receipt.parse": lambda _, v: Receipt.parse(v),
    "RetryLater(seconds)": lambda _, v: RetryLater(v),
    "Unavailable(retry_after)": lambda _, v: Unavailable(retry_after=v),
    "Retry(delay)": lambda _, v: Retry(1, delay=v).delay_ms,
}
STORING: dict[str, Call] = {
    "DurableQ.once(key)": lambda w, v: w.dq.once(v, lambda: 1, ttl=60),
    "DurableQ.once(compute)": lambda w, v: w.dq.once("k", v, ttl=60),
    "DurableQ.once(value)": lambda w, v: w.dq.once(f"k{next(numbers)}", lambda: v, ttl=60),
    **{f"DurableQ.once({name})": term(name) for name in ("ttl", "stale", "lease", "beta")},
    "DurableQ.once(wait)": term("wait"),
    "DurableQ.once_async(key)": lambda w, v: asyncio.run(w.dq.once_async(v, answer, ttl=60)),
    "DurableQ.once_async(compute)": lambda w, v: asyncio.run(w.dq.once_async("k", v, ttl=60)),
    "DurableQ.forget_once": lambda w, v: w.dq.forget_once(v),
    "Queue.send(body)": lambda w, v: w.orders.send(v, key="x"),
    **{f"Queue.send({name})": option(name) for name in SEND_OPTIONS},
    "Queue.send(unknown)": lambda w, v: w.orders.send(1, **unknown(v)),
    "Queue.send(connection)": lambda w, v: w.orders.send(1, connection=v),
    "Queue.send_many(bodies)": lambda w, v: w.orders.send_many(v),
    "Queue.send_many(delay)": lambda w, v: w.orders.send_many([1, 2], delay=v),
    "Queue.asend(body)": lambda w, v: asyncio.run(w.orders.asend(v, key="x")),
    "Queue.asend(key)": lambda w, v: asyncio.run(w.orders.asend(1, key=v)),
    "Queue.asend(unknown)": lambda w, v: asyncio.run(w.orders.asend(1, **unknown(v))),
    "Queue.asend_many(bodies)": lambda w, v: asyncio.run(w.orders.asend_many(v)),
    "Queue.asend_many(delay)": lambda w, v: asyncio.run(w.orders.asend_many([1, 2], delay=v)),
    "Queue.receive(limit)": lambda w, v: w.orders.receive(v),
    "Queue.receive(visibility_timeout)": lambda w, v: w.orders.receive(visibility_timeout=v),
    "Queue.areceive(limit)": lambda w, v: asyncio.run(w.orders.areceive(v)),
    "Queue.areceive(wait)": lambda w, v: asyncio.run(w.orders.areceive(wait=short(v))),
    "Queue.acomplete_many(deliveries)": lambda w, v: asyncio.run(w.orders.acomplete_many(v)),
    "Queue.aresult(key)": lambda w, v: asyncio.run(w.orders.aresult(v)),
    "Queue.aresult(wait)": lambda w, v: asyncio.run(w.orders.aresult("k", wait=short(v))),
    "Delivery.acomplete": lambda w, v: asyncio.run(w.message.acomplete(v)),
    "Delivery.afail(error)": lambda w, v: asyncio.run(w.message.afail(v, retry_in=0)),
    "Delivery.afail(retry_in)": lambda w, v: asyncio.run(w.message.afail("x", retry_in=v)),
    "Delivery.areject": lambda w, v: asyncio.run(w.message.areject(v)),
    "Delivery.aextend": lambda w, v: asyncio.run(w.message.aextend(v)),
    "Delivery.atransaction": lambda w, v: asyncio.run(w.message.atransaction(v)),
    "Queue.complete_many(deliveries)": lambda w, v: w.orders.complete_many(v),
    "Queue.complete_many(results)": lambda w, v: w.orders.complete_many([w.message], results=v),
    "Queue.record": lambda w, v: w.orders.record(v),
    "Queue.result(key)": lambda w, v: w.orders.result(v),
    "Queue.progress": lambda w, v: w.orders.progress(v),
    "Queue.result(wait)": lambda w, v: w.orders.result("k", wait=short(v)),
    "Producer.send(body)": lambda w, v: w.produce(v, {}),
    "Producer.send(key)": lambda w, v: w.produce(1, {"key": v}),
    "Transaction.send(queue)": lambda w, v: w.in_transaction(lambda tx: tx.send(v, 1)),
    "Transaction.send(body)": lambda w, v: w.in_transaction(lambda tx: tx.send("orders", v)),
    "Transaction.send(key)": lambda w, v: w.in_transaction(lambda tx: tx.send("orders", 1, key=v)),
    "Transaction.execute": lambda w, v: w.in_transaction(lambda tx: tx.execute(v)),
    "Queue.cancel": lambda w, v: w.dq.queue("orders").cancel(v),
    "Queue.reschedule(id)": lambda w, v: w.dq.queue("orders").reschedule(v, delay=1),
    "Queue.reschedule(delay)": lambda w, v: w.dq.queue("orders").reschedule("1", delay=v),
    "Queue.reschedule(at)": lambda w, v: w.dq.queue("orders").reschedule("1", at=v),
    "Queue.open_breaker": lambda w, v: w.dq.queue("orders").open_breaker(seconds=v),
    "Queue.run_now": lambda w, v: w.dq.queue("orders").run_now(v),
    "Delivery.complete": lambda w, v: w.message.complete(v),
    "Delivery.progress(fraction)": lambda w, v: w.message.progress(v),
    "Delivery.progress(text)": lambda w, v: w.message.progress(0.5, v),
    "Delivery.attach_result": lambda w, v: w.message.attach_result(v),
    "Delivery.encoded": lambda w, v: w.message.encoded(v),
    "Delivery.attach_encoded": lambda w, v: None,  # called with the encoded result by attach_result
    "Delivery.fail(error)": lambda w, v: w.message.fail(v, retry_in=0),
    "Delivery.fail(retry_in)": lambda w, v: w.message.fail("x", retry_in=v),
    "Delivery.reject": lambda w, v: w.message.reject(v),
    "Delivery.extend": lambda w, v: w.message.extend(v),
    "Batch.fail(delivery)": lambda w, v: w.batch().fail(v, "x"),
    "Batch.fail(error)": lambda w, v: w.batch().fail(w.message, v),
    "Batch.set_result(delivery)": lambda w, v: w.batch().set_result(v, 1),
    "Batch.set_result(result)": lambda w, v: w.batch().set_result(w.message, v),
}


def check(world: World, call: Call, argument: Any) -> None:
    """Call a function; its refusal is one line of bounded length and changes nothing."""
    before = world.state
    try:
        call(world, argument)
    except SQLAlchemyError:
        says = ""  # the user's own SQL
    except (DurableQError, TypeError) as refused:
        says = str(refused)
    else:
        return
    assert len(says) < LONGEST_MESSAGE
    assert says.isprintable()
    assert world.state == before


@settings(max_examples=settings().max_examples // 5, deadline=None, database=None)
@given(st.data())
@pytest.mark.parametrize("name", [*DECLARING, *STORING])
def test_an_odd_argument_is_accepted_or_refused_in_memory(name: str, data: st.DataObject) -> None:
    check(World(DurableQ("memory://")), {**DECLARING, **STORING}[name], data.draw(arguments))


@pytest.fixture
def dq(tmp_path: Path) -> Iterator[DurableQ]:
    with DurableQ(new_file(tmp_path / "queue.db")) as dq:
        yield dq


@settings(
    max_examples=3,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(argument=arguments)
@pytest.mark.parametrize("name", STORING)
def test_an_odd_argument_is_accepted_or_refused_in_a_file(
    name: str, dq: DurableQ, argument: Any
) -> None:
    dq.queue("orders").purge()
    check(World(dq), STORING[name], argument)


@pytest.mark.parametrize("kind", [DurableQ, Queue, Producer, Transaction, Delivery, Batch])
def test_every_public_method_that_takes_arguments_is_tried(kind: type) -> None:
    tried = {name.partition("(")[0] for name in (*DECLARING, *STORING)}
    for name, method in inspect.getmembers(kind, inspect.isfunction):
        if name.startswith("_") or len(inspect.signature(method).parameters) < 2:
            continue
        if name in {"init", "override", "fail_rest", "read", "index", "count"}:
            continue  # a flag; the testing kit's; a worker's; methods of every sequence
        assert f"{kind.__name__}.{name}" in tried
    assert kind.__name__ in durableq.__all__
