"""Keyed idempotency of a Lambda function's messages, on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from durableq import Delivery, DurableQ, StaleReceipt
from durableq.contrib.awslambda import entry
from tests.contrib.lambdas import Context, event, failed, record
from tests.support import wait_for


@pytest.fixture
def dq(postgres_url: str) -> Iterator[DurableQ]:
    server, _, name = postgres_url.rpartition("schema=")
    with DurableQ(f"{server}options=-csearch_path%3D{name}&schema={name}") as dq:
        yield dq


def ordered(number: str, key: str, body: str = "1") -> dict[str, Any]:
    """Return a record with a key in the attribute `order`."""
    attributes = {"order": {"stringValue": key, "dataType": "String"}}
    return record(number, body, messageAttributes=attributes)


def take_over(failures: Callable[[], list[str]]) -> None:
    """Invoke until the key of an invocation without time is free."""
    wait_for(lambda: failures() == [], what="the end of the key's lease")


class Calls:
    """A handler that counts its calls, and fails the first of them if told to."""

    def __init__(self, fails: int = 0) -> None:
        self.number, self._fails = 0, fails

    def __call__(self, message: Delivery) -> dict[str, str]:
        self.number += 1
        if self.number <= self._fails:
            raise ValueError
        return {"charged": str(message.key)}


def test_a_key_that_has_succeeded_is_acknowledged_without_a_call(dq: DurableQ) -> None:
    calls = Calls()
    dq.handler("orders")(calls)
    function = entry(dq, "orders", key="order")
    for number in ("1", "2"):
        assert failed(function(event(ordered(number, "k")), Context())) == []
    assert calls.number == 1
    assert failed(function(event(ordered("3", "another")), Context())) == []
    assert calls.number == 2


def test_a_key_that_has_failed_is_free_at_once(dq: DurableQ) -> None:
    calls = Calls(fails=1)
    dq.handler("orders")(calls)
    function = entry(dq, "orders", key="messageId")
    assert failed(function(event(record("1", "1")), Context())) == ["1"]
    assert failed(function(event(record("1", "1")), Context())) == []
    assert calls.number == 2


def test_another_payload_under_a_key_fails(dq: DurableQ) -> None:
    calls = Calls()
    dq.handler("orders")(calls)
    function = entry(dq, "orders", key="order")
    answer = function(event(ordered("1", "k"), ordered("2", "k", "2")), Context())
    assert (failed(answer), calls.number) == (["2"], 1)


def test_a_message_without_its_key_fails(dq: DurableQ) -> None:
    dq.handler("orders")(Calls())
    answer = entry(dq, "orders", key="order")(event(record("1", "1")), Context())
    assert failed(answer) == ["1"]


def test_a_key_in_progress_is_not_handled_by_another_invocation(dq: DurableQ) -> None:
    nested: list[list[str]] = []

    @dq.handler("orders")
    def handle(message: Delivery) -> None:
        nested.append(failed(invoke(event(ordered("2", "k")), Context())))

    invoke = entry(dq, "orders", key="order")
    assert failed(invoke(event(ordered("1", "k")), Context())) == []
    assert nested == [["2"]]


def test_an_invocation_whose_key_was_taken_over_completes_nothing(dq: DurableQ) -> None:
    """A function that the service had frozen past its timeout goes on."""
    order: list[str] = []

    @dq.handler("orders")
    def handle(message: Delivery) -> str:
        order.append(message.id)
        if message.id == "frozen":
            take_over(lambda: failed(invoke(event(ordered("second", "k")), Context())))
        return message.id

    invoke = entry(dq, "orders", key="order")
    assert failed(invoke(event(ordered("frozen", "k")), Context(left_ms=0))) == ["frozen"]
    assert order == ["frozen", "second"]
    assert failed(invoke(event(ordered("frozen", "k")), Context())) == []
    assert order == ["frozen", "second"]


class TestTransactions:
    """Writes that commit together with the record of the key."""

    @pytest.fixture(autouse=True)
    def ledger(self, dq: DurableQ) -> None:
        dq.queue("mail")
        with dq.engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE ledger (entry text)")

    def entries(self, dq: DurableQ) -> list[str]:
        with dq.engine.begin() as connection:
            return list(connection.exec_driver_sql("SELECT entry FROM ledger").scalars())

    def test_a_delivery_after_the_commit_is_not_handled(self, dq: DurableQ) -> None:
        calls = Calls()

        @dq.handler("orders")
        def handle(message: Delivery) -> None:
            calls(message)
            with message.transaction() as tx:
                tx.execute("INSERT INTO ledger VALUES (:entry)", {"entry": message.id})
                tx.send("mail", message.id)
            raise ValueError  # the invocation ends here, and SQS knows nothing of it

        function = entry(dq, "orders", key="messageId")
        for _ in range(2):
            assert failed(function(event(record("1", "1")), Context())) == []
        assert (calls.number, self.entries(dq)) == (1, ["1"])
        assert [message.body for message in dq.queue("mail").receive(10)] == ["1"]

    def test_a_function_of_a_coroutine_commits_with_the_record(self, dq: DurableQ) -> None:
        @dq.handler("orders")
        async def handle(message: Delivery) -> None:
            await message.atransaction(
                lambda tx: tx.execute("INSERT INTO ledger VALUES (:entry)", {"entry": message.id})
            )
            raise ValueError

        function = entry(dq, "orders", key="messageId")
        for _ in range(2):
            assert failed(function(event(record("1", "1")), Context())) == []
        assert self.entries(dq) == ["1"]

    def test_an_exception_inside_writes_nothing(self, dq: DurableQ) -> None:
        @dq.handler("orders")
        def handle(message: Delivery) -> None:
            with message.transaction() as tx:
                tx.execute("INSERT INTO ledger VALUES ('never')")
                raise ValueError

        function = entry(dq, "orders", key="messageId")
        assert failed(function(event(record("1", "1")), Context())) == ["1"]
        assert self.entries(dq) == []

    def test_a_key_that_was_taken_over_writes_nothing(self, dq: DurableQ) -> None:
        @dq.handler("orders")
        def handle(message: Delivery) -> None:
            if message.id == "frozen":
                take_over(lambda: failed(invoke(event(ordered("second", "k")), Context())))
                with pytest.raises(StaleReceipt):
                    self.write(message)
            self.write(message)

        invoke = entry(dq, "orders", key="order")
        assert failed(invoke(event(ordered("frozen", "k")), Context(left_ms=0))) == ["frozen"]
        assert self.entries(dq) == ["second"]

    def write(self, message: Delivery) -> None:
        with message.transaction() as tx:
            tx.execute("INSERT INTO ledger VALUES (:entry)", {"entry": message.id})
