"""A delivery on the engine in memory: its properties, and the calls that settle it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from durableq import (
    Batch,
    Delivery,
    DurableQ,
    InvalidInput,
    InvalidResult,
    Outcome,
    Queue,
    Reason,
    Reject,
    RetryLater,
    StaleReceipt,
    Unavailable,
)
from durableq.client.failures import failure_of
from durableq.store.core import Capability
from durableq.testing import FakeClock, FakeRandom


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def dq(clock: FakeClock) -> DurableQ:
    return DurableQ("memory://", clock=clock, rng=FakeRandom(0.5))


@pytest.fixture
def orders(dq: DurableQ) -> Queue:
    return dq.queue("orders", max_receives=2, backoff_base=10)


def take(queue: Queue) -> Delivery:
    (message,) = queue.receive()
    return message


def test_a_delivery_has_the_content_that_was_sent(orders: Queue) -> None:
    sent = orders.send({"a": [1, None]}, key="k", attributes={"from": "shop", "n": 2}, priority=7)
    message = take(orders)
    assert (message.id, message.queue, message.key) == (sent, "orders", "k")
    assert (message.body, message.priority) == ({"a": [1, None]}, 7)
    assert message.attributes == {"from": "shop", "n": 2}
    assert (message.receive_count, message.recovery_count) == (1, 0)
    assert repr(message) == f"<Delivery {sent} of 'orders', receive 1>"
    orders.send(b"\x00\xff")
    assert take(orders).body == b"\x00\xff"


def test_completing_keeps_the_result_under_the_key(orders: Queue) -> None:
    orders.send(1, key="k")
    message = take(orders)
    message.complete({"paid": 1})
    assert message.settled
    record = orders.record("k")
    assert record is not None
    assert record.result == '{"paid":1}'
    message.complete({"paid": 1})  # the same again is safe
    assert orders.info().counters.completed == 1


def test_a_result_that_json_cannot_hold_leaves_the_message_leased(orders: Queue) -> None:
    orders.send(1)
    message = take(orders)
    with pytest.raises(InvalidResult):
        message.complete({1, 2})
    assert not message.settled
    message.complete()


VERBS: dict[str, Callable[[Delivery], object]] = {
    "complete": lambda message: message.complete(),
    "fail": lambda message: message.fail("late"),
    "reject": lambda message: message.reject("late"),
    "release": lambda message: message.release(),
    "extend": lambda message: message.extend(30),
    "transaction": lambda message: message.transaction().__enter__(),
}


@pytest.mark.parametrize("verb", VERBS)
def test_with_a_stale_receipt_every_verb_is_refused(
    orders: Queue, clock: FakeClock, verb: str
) -> None:
    orders.send(1)
    late = take(orders)
    clock.advance(31)
    current = take(orders)
    with pytest.raises(StaleReceipt, match="the message was given to another worker or put back"):
        VERBS[verb](late)
    assert not late.settled
    current.complete()
    with pytest.raises(StaleReceipt, match="the message has ended"):
        VERBS[verb](late)


def test_failing_waits_then_buries(orders: Queue, clock: FakeClock) -> None:
    orders.send(1)
    assert take(orders).fail(ValueError("no")) is Outcome.RETRY
    assert orders.receive() == []
    clock.advance(5)  # half of the backoff, by the random number
    assert take(orders).fail("no again") is Outcome.BURIED


def test_the_wait_after_a_failure_can_be_chosen(orders: Queue, clock: FakeClock) -> None:
    orders.send(1)
    take(orders).fail("busy", retry_in=60)
    clock.advance(59)
    assert orders.receive() == []
    clock.advance(1)
    assert take(orders).receive_count == 2


def test_rejecting_buries_at_once(dq: DurableQ, orders: Queue) -> None:
    sent = orders.send(1)
    assert take(orders).reject("never") is Outcome.BURIED
    dead_letter = dq.store.require(Capability.DEAD_LETTERS).dead_letter(sent)
    assert dead_letter is not None
    assert dead_letter.reason is Reason.REJECTED
    assert dead_letter.last_failure is not None
    assert dead_letter.last_failure.error_message == "never"


def test_releasing_is_uncounted(orders: Queue) -> None:
    orders.send(1)
    take(orders).release()
    assert take(orders).receive_count == 1


def test_extending_counts_from_now(orders: Queue, clock: FakeClock) -> None:
    orders.send(1)
    message = take(orders)
    clock.advance(20)
    message.extend(30)
    clock.advance(29)
    assert orders.receive() == []
    message.complete()


def test_a_result_can_be_added_after_the_transaction(orders: Queue) -> None:
    orders.send(1, key="k")
    message = take(orders)
    with message.transaction():
        pass
    message.attach_result("later")
    record = orders.record("k")
    assert record is not None
    assert record.result == '"later"'
    message.attach_result(None)
    assert orders.record("k") == record


def test_a_result_is_added_only_by_the_delivery_that_completed_the_key(
    orders: Queue, clock: FakeClock
) -> None:
    orders.send(1, key="k")
    late = take(orders)
    clock.advance(31)
    take(orders).complete("first")
    with pytest.raises(StaleReceipt, match="its key was completed by another delivery"):
        late.attach_result("later")


def test_a_message_that_was_read_has_no_receipt(dq: DurableQ, orders: Queue) -> None:
    orders.send(1)
    (message,) = dq.store.require(Capability.INSPECT).peek("orders", 1)
    with pytest.raises(StaleReceipt, match="it was read, not received"):
        Delivery(message, dq.store).complete()


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError


class _Forgetful(RetryLater):
    def __init__(self) -> None:
        """Do not call the base class, whose attributes stay unset."""


def test_the_failure_record_of_an_exception() -> None:
    try:
        raise ValueError("no \ud800")
    except ValueError as error:
        failure = failure_of(error)
    assert (failure.reason, failure.error_type) == (Reason.HANDLER_ERROR, "ValueError")
    assert failure.error_message == r"no \ud800"
    assert failure.traceback.startswith("Traceback")
    assert 'raise ValueError("no \\ud800")' in failure.traceback
    assert failure_of(RetryLater(1.5)).retry_in_ms == 1500
    unavailable = failure_of(Unavailable("the bank is down", retry_after=1.5))
    assert (unavailable.reason, unavailable.retry_in_ms) == (Reason.UNAVAILABLE, 1500)
    assert unavailable.error_message == "the bank is down"
    assert failure_of(Unavailable()).retry_in_ms is None
    assert failure_of(Unavailable(retry_after=9), retry_in=2).retry_in_ms == 2000
    assert failure_of(Reject("x")).reason is Reason.REJECTED
    assert failure_of("text", retry_in=2).retry_in_ms == 2000
    assert failure_of(_Forgetful()).retry_in_ms is None
    assert failure_of(Mute()).error_message == "(its message could not be read: RuntimeError)"
    assert len(failure_of("x" * 9000).error_message) == 2000


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), 1e12])
def test_an_invalid_wait_is_refused(orders: Queue, seconds: float) -> None:
    orders.send(1)
    message = take(orders)
    with pytest.raises(InvalidInput):
        message.fail("x", retry_in=seconds)
    with pytest.raises(InvalidInput):
        message.fail(RetryLater(seconds))
    with pytest.raises(InvalidInput, match=r"^Unavailable has a retry_after of 0 to 31622400 sec"):
        message.fail(Unavailable(retry_after=seconds))
    assert not message.settled


def test_a_batch_is_a_sequence_of_deliveries(dq: DurableQ, orders: Queue) -> None:
    orders.send_many([1, 2, 3])
    batch = Batch(orders.receive(3), dq.store)
    assert len(batch) == 3
    assert [message.body for message in batch] == [1, 2, 3]
    assert [message.body for message in batch[1:]] == [2, 3]
    assert batch.settle() == []
    assert batch.settled
    assert all(message.settled for message in batch)
    assert batch.settle() == [], "once is enough"
    assert orders.info().counters.completed == 3


def test_a_batch_settles_each_delivery_as_requested(dq: DurableQ, orders: Queue) -> None:
    for number in range(3):
        orders.send(number, key=f"k{number}")
    batch = Batch(orders.receive(3), dq.store)
    batch.fail(batch[1], Reject("not this one"))
    batch.set_result(batch[0], "zero")
    with pytest.raises(InvalidResult):
        batch.set_result(batch[2], {1, 2})
    assert batch.settle() == []
    assert [
        record.result for record in dq.store.require(Capability.IDEMPOTENCY).records("orders", 10)
    ] == ['"zero"', None]
    assert dq.queue("orders-dlq").info().counts.ready == 1


def test_a_batch_continues_without_the_messages_with_lost_leases(
    dq: DurableQ, orders: Queue
) -> None:
    orders.send_many([0, 1, 2])
    batch = Batch(orders.receive(3), dq.store)
    batch[0].release()
    batch.fail(batch[2], "no")
    assert batch.settle() == [batch[0]]
    assert orders.info().counters.completed == 1
    assert [m.receive_count for m in dq.store.require(Capability.INSPECT).peek("orders", 3)] == [
        0,
        1,
    ]


def test_a_result_without_a_key_to_keep_it_under_is_refused(orders: Queue) -> None:
    sent = orders.send(1)
    message = take(orders)
    with pytest.raises(InvalidResult, match=f"Message {sent} has no key"):
        message.complete("kept where?")
    with pytest.raises(InvalidResult, match="has no key"), message.transaction() as tx:
        tx.result = "kept where?"
    message.complete()
    with pytest.raises(InvalidResult, match="has no key"):
        message.attach_result("kept where?")
    message.attach_result(None)


def test_a_failure_is_placed_where_the_handler_called_a_verb(orders: Queue) -> None:
    orders.send(1)
    message = take(orders)
    message.complete()
    with pytest.raises(StaleReceipt) as raised:
        message.complete()
    place = failure_of(raised.value).place
    assert place == "test_delivery.py:test_a_failure_is_placed_where_the_handler_called_a_verb"
