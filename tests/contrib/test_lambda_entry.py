"""Registered handlers on events of SQS: what they are given, and what is answered."""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic
import pytest

from durableq import AppError, Batch, Delivery, DurableQ, InvalidInput, Reject, Unsupported
from durableq.contrib.awslambda import entry
from durableq.contrib.pytest import fresh
from tests.contrib.lambdas import Context, event, failed, record


@pytest.fixture
def dq(tmp_path: Path) -> DurableQ:
    """An application whose file is never made."""
    return DurableQ(tmp_path / "never.db")


def test_a_handler_sees_the_message_as_from_the_store(dq: DurableQ) -> None:
    seen: list[Delivery] = []
    dq.handler("orders")(seen.append)
    given = record("059f36b4", '{"total": 12}')
    given["attributes"] |= {"ApproximateReceiveCount": "3", "MessageGroupId": "customer-7"}
    given["messageAttributes"] = {
        "type": {"stringValue": "order", "dataType": "String"},
        "version": {"stringValue": "2", "dataType": "Number.int"},
        "ratio": {"stringValue": "0.5", "dataType": "Number"},
        "blob": {"binaryValue": "AAE=", "dataType": "Binary"},
    }
    assert failed(entry(dq, "orders")(event(given), Context())) == []
    [message] = seen
    assert (message.id, message.queue, message.body) == ("059f36b4", "orders", {"total": 12})
    assert (message.receive_count, message.message.group) == (3, "customer-7")
    assert message.attributes == {"type": "order", "version": 2, "ratio": 0.5, "blob": "AAE="}
    assert (message.key, message.message.sent_at_ms) == (None, 1545082649183)
    assert message.receipt.token == "handle-059f36b4"
    assert not Path(dq.url).exists()


def test_a_body_that_is_no_json_is_text(dq: DurableQ) -> None:
    seen: list[Any] = []
    dq.handler("orders")(lambda message: seen.append(message.body))
    function = entry(dq, "orders")
    assert failed(function(event(record("1", "plain text"), record("2", '"json"')), None)) == []
    assert seen == ["plain text", "json"]


def test_the_messages_that_fail_are_answered_and_the_others_go_on(
    dq: DurableQ, caplog: pytest.LogCaptureFixture
) -> None:
    @dq.handler("orders")
    def handle(message: Delivery) -> None:
        if message.body == 1:
            raise ValueError("no such customer")
        if message.body == 2:
            raise Reject("it can never succeed")
        if message.body == 3:
            raise SystemExit

    with caplog.at_level(logging.WARNING, "durableq"):
        answer = entry(dq, "orders")(event(*(record(f"m{n}", str(n)) for n in range(5))), None)
    assert failed(answer) == ["m1", "m2", "m3"]
    assert "ValueError: no such customer" in caplog.text
    assert "in handle" in caplog.text  # the traceback is kept nowhere else


def test_of_a_fifo_queue_nothing_behind_a_groups_first_failure_is_handled(dq: DurableQ) -> None:
    called: list[str] = []

    @dq.handler("orders")
    def handle(message: Delivery) -> None:
        called.append(message.id)
        if message.id == "a2":
            raise ValueError

    batch = [record(f"{group}{n}", "1", group) for n in (1, 2, 3) for group in "ab"]
    assert failed(entry(dq, "orders")(event(*batch), None)) == ["a2", "a3"]
    assert called == ["a1", "b1", "a2", "b2", "b3"]


def test_a_batch_has_nothing_behind_a_message_of_its_group_that_cannot_be_read(
    dq: DurableQ,
) -> None:
    called: list[str] = []

    @dq.handler("orders", batch=10)
    def handle(batch: Batch) -> None:
        called.extend(batch.ids)

    given = [record(f"{group}{n}", "1", group) for n in (1, 2, 3) for group in "ab"]
    given[2]["messageAttributes"] = {"size": {"stringValue": "big", "dataType": "Number"}}
    assert failed(entry(dq, "orders")(event(*given), None)) == ["a2", "a3"]
    assert called == ["a1", "b1", "b2", "b3"]


def test_an_error_of_a_validator_fails_its_message_alone(dq: DurableQ) -> None:
    class Order(pydantic.BaseModel):
        number: int

        @pydantic.field_validator("number")
        @classmethod
        def check(cls, value: int) -> int:
            if value == 1:
                raise ConnectionError("the catalogue is down")
            return value

    seen: list[Any] = []

    def handle(order: Any) -> None:
        seen.append(order.number)

    handle.__annotations__["order"] = Order
    dq.handler("orders")(handle)
    given = event(record("m1", '{"number": 1}'), record("m2", '{"number": 2}'))
    assert failed(entry(dq, "orders")(given, None)) == ["m1"]
    assert seen == [2]


@pytest.mark.parametrize("store", ["memory", "file"])
def test_an_entry_with_keys_is_tested_on_a_fresh_store(store: Any) -> None:
    dq = DurableQ("postgresql://nowhere/orders")
    calls: list[str] = []
    dq.handler("orders")(lambda message: calls.append(message.id))
    function = entry(dq, "orders", key="messageId")
    with fresh(dq, store=store):
        for _ in range(2):
            assert failed(function(event(record("m1", "1"), record("m2", "2")), Context())) == []
    assert calls == ["m1", "m2"]


def test_groups_of_a_standard_queue_have_no_order(dq: DurableQ) -> None:
    @dq.handler("orders")
    def handle(message: Delivery) -> None:
        if message.id == "1":
            raise ValueError

    batch = [record(str(n), "1") for n in (1, 2)]
    for one in batch:
        one["attributes"]["MessageGroupId"] = "tenant"
    assert failed(entry(dq, "orders")(event(*batch), None)) == ["1"]


def test_a_record_that_cannot_be_read_fails_alone(dq: DurableQ) -> None:
    dq.handler("orders")(lambda message: None)
    bad = record("bad", "1")
    bad["messageAttributes"] = {"size": {"stringValue": "big", "dataType": "Number"}}
    assert failed(entry(dq, "orders")(event(bad, record("good", "1")), None)) == ["bad"]


def test_a_coroutine_is_run_to_its_end(dq: DurableQ) -> None:
    seen: list[str] = []

    @dq.handler("orders")
    async def handle(message: Delivery) -> None:
        seen.append(message.id)
        if message.id == "1":
            raise ValueError

    function = entry(dq, "orders")
    for _ in range(2):
        assert failed(function(event(record("1", "1"), record("2", "2")), None)) == ["1"]
    assert seen == ["1", "2", "1", "2"]


@dataclass
class Order:
    total: int


def test_a_body_of_a_type_is_read_and_one_that_does_not_fit_fails(dq: DurableQ) -> None:
    seen: list[Order] = []

    @dq.handler("orders")
    def handle(order: Order) -> None:
        seen.append(order)

    batch = [record("1", '{"total": 5}'), record("2", '{"total": "x"}'), record("3", "{}")]
    assert failed(entry(dq, "orders")(event(*batch), None)) == ["2", "3"]
    assert seen == [Order(5)]


def test_handlers_by_type_are_found(dq: DurableQ) -> None:
    seen: list[str] = []
    dq.handler("orders", type="created")(lambda message: seen.append(message.id))
    created = record("1", "1")
    created["messageAttributes"] = {"type": {"stringValue": "created", "dataType": "String"}}
    assert failed(entry(dq, "orders")(event(created, record("2", "2")), None)) == ["2"]
    assert seen == ["1"]


class TestBatches:
    """Handlers of batches."""

    def test_it_is_given_as_many_as_it_takes_and_names_those_that_fail(self, dq: DurableQ) -> None:
        sizes: list[int] = []

        @dq.handler("orders", batch=2)
        def handle(batch: Batch) -> Any:
            sizes.append(len(batch))
            if batch[0].id == "2":
                raise ValueError
            batch.fail(batch[0], "this one")
            return {"batchItemFailures": [{"itemIdentifier": batch[-1].id}]}

        answer = entry(dq, "orders")(event(*(record(str(n), "1") for n in range(5))), None)
        assert (sizes, failed(answer)) == ([2, 2, 1], ["0", "1", "2", "3", "4"])

    def test_a_batch_of_one_group_ends_at_its_first_failure(self, dq: DurableQ) -> None:
        seen: list[list[str]] = []

        @dq.handler("orders", batch=10, group_by="group")
        def handle(batch: Batch) -> Any:
            seen.append(batch.ids)
            return {"batchItemFailures": [{"itemIdentifier": "a2"}]} if batch[0].id == "a1" else {}

        batch = [record(f"{group}{n}", "1", group) for n in (1, 2, 3) for group in "ab"]
        assert failed(entry(dq, "orders")(event(*batch), None)) == ["a2", "a3"]
        assert seen == [["a1", "a2", "a3"], ["b1", "b2", "b3"]]

    def test_a_batch_of_one_group_ends_before_a_body_that_does_not_fit(self, dq: DurableQ) -> None:
        seen: list[list[Order]] = []

        @dq.handler("orders", batch=10, group_by="group")
        def handle(orders: list[Order]) -> None:
            seen.append(orders)

        bodies = ['{"total": 1}', "{}", '{"total": 3}']
        batch = [record(f"a{n}", body, "a") for n, body in enumerate(bodies, 1)]
        assert failed(entry(dq, "orders")(event(*batch), None)) == ["a2", "a3"]
        assert seen == [[Order(1)]]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "not of SQS"),
        ({"Records": [{"eventSource": "aws:sns"}]}, "no other source"),
        ({"Records": [{"eventSource": "aws:sqs", "messageId": "1"}]}, "has no receiptHandle"),
        (None, "not of SQS"),
    ],
)
def test_another_event_fails_the_invocation(dq: DurableQ, given: Any, says: str) -> None:
    dq.handler("orders")(lambda message: None)
    with pytest.raises(InvalidInput, match=says):
        entry(dq, "orders")(given, None)


@pytest.mark.parametrize("verb", ["complete", "reject", "release", "extend", "fail"])
def test_verbs_that_do_not_reach_sqs_are_refused(dq: DurableQ, verb: str) -> None:
    refused: list[str] = []

    @dq.handler("orders")
    def handle(message: Any) -> None:
        given: dict[str, list[Any]] = {"reject": ["x"], "extend": [1], "fail": ["x"]}
        with pytest.raises(Unsupported) as caught:
            getattr(message, verb)(*given.get(verb, []))
        refused.append(str(caught.value))

    assert failed(entry(dq, "orders")(event(record("1", "1")), None)) == []
    assert f"message.{verb}()" in refused[0]


@pytest.mark.parametrize("verb", ["complete", "reject", "release", "extend", "fail"])
def test_verbs_of_coroutines_are_refused_in_the_same_sentence(dq: DurableQ, verb: str) -> None:
    refused: list[str] = []
    of_verbs: dict[str, list[Any]] = {"reject": ["x"], "extend": [1], "fail": ["x"]}
    given = of_verbs.get(verb, [])

    @dq.handler("orders")
    async def handle(message: Any) -> None:
        with pytest.raises(Unsupported) as caught:
            getattr(message, verb)(*given)
        refused.append(str(caught.value))
        with pytest.raises(Unsupported) as caught:
            await getattr(message, f"a{verb}")(*given)
        refused.append(str(caught.value))

    assert failed(entry(dq, "orders")(event(record("1", "1")), None)) == []
    assert refused[1] == refused[0].replace(f".{verb}()", f".a{verb}()")


def test_a_transaction_of_a_coroutine_needs_a_key_too(dq: DurableQ) -> None:
    says: list[str] = []

    @dq.handler("orders")
    async def handle(message: Delivery) -> None:
        with pytest.raises(Unsupported) as caught:
            await message.atransaction(lambda _tx: None)
        says.append(str(caught.value))

    assert failed(entry(dq, "orders")(event(record("1", "1")), None)) == []
    assert "Give the entry a key" in says[0]


class TestRefused:
    """Entries that could not keep their promise."""

    @pytest.mark.parametrize("url", ["orders.db", "sqlite:///orders.db", "memory://"])
    def test_keys_in_a_file(self, url: str) -> None:
        dq = DurableQ(url)
        dq.handler("orders")(lambda message: None)
        with pytest.raises(Unsupported, match=r"PostgreSQL .* Powertools"):
            entry(dq, "orders", key="messageId")

    def test_a_transaction_in_a_file(self, dq: DurableQ) -> None:
        def handle(message: Delivery) -> None:
            with message.transaction():
                pass

        dq.handler("orders")(functools.partial(handle))
        with pytest.raises(Unsupported, match=r"(?s)message\.transaction\(\).*Powertools"):
            entry(dq, "orders")
        assert not Path(dq.url).exists()

    def test_a_transaction_of_a_coroutine_or_an_object(self, dq: DurableQ) -> None:
        class Handles:
            def __call__(self, message: Delivery) -> None:
                with message.transaction():
                    pass

        @dq.handler("mail")
        async def handle(message: Delivery) -> None:
            with message.transaction():
                pass

        dq.handler("orders")(Handles())
        for queue in ("orders", "mail"):
            with pytest.raises(Unsupported, match="Powertools"):
                entry(dq, queue)

    def test_not_the_transaction_of_another_library(self, dq: DurableQ) -> None:
        @dq.handler("orders")
        def handle(message: Delivery) -> None:
            other: Any = message.body
            other.transaction()

        assert failed(entry(dq, "orders")(event(record("1", "1")), None)) == ["1"]

    def test_a_transaction_that_the_entry_could_not_see(self, dq: DurableQ) -> None:
        says: list[str] = []

        def inner(given: Delivery) -> None:
            with pytest.raises(Unsupported) as caught:
                given.transaction()
            says.append(str(caught.value))

        dq.handler("orders")(lambda message: inner(message))  # noqa: PLW0108 - its own code
        assert failed(entry(dq, "orders")(event(record("1", "1")), None)) == []
        assert "PostgreSQL" in says[0]
        assert "Powertools" in says[0]

    def test_a_transaction_without_a_key(self) -> None:
        dq = DurableQ("postgresql://localhost/none")

        @dq.handler("orders")
        def handle(message: Delivery) -> None:
            with message.transaction():
                pass

        with pytest.raises(Unsupported, match="key='messageId'"):
            entry(dq, "orders")

    def test_no_handler(self, dq: DurableQ) -> None:
        dq.handler("mail")(lambda message: None)
        with pytest.raises(AppError, match=r"no handler for queue 'orders'; it has: mail"):
            entry(dq, "orders")

    def test_a_key_of_a_batch(self) -> None:
        dq = DurableQ("postgresql://localhost/none")
        dq.handler("orders", batch=2)(lambda batch: None)
        with pytest.raises(InvalidInput, match="takes batches"):
            entry(dq, "orders", key="messageId")


def test_progress_is_a_line_of_the_log(dq: DurableQ, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="durableq.awslambda")

    @dq.handler("orders")
    def handle(message: Delivery) -> None:
        message.progress(0.4, "page 4\nof 10")
        message.progress(0.999)
        with pytest.raises(InvalidInput, match="from 0 to 1, got 40"):
            message.progress(40)

    assert failed(entry(dq, "orders")(event(record("1", "{}")), Context())) == []
    assert "message 1 of orders is at 40%: page 4\\nof 10" in caplog.text
    assert "message 1 of orders is at 99%" in caplog.text
