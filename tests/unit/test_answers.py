"""Return values of handlers: those that are kept, fail messages, or are refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from durableq import Batch, Delivery, DurableQ, InvalidResult
from durableq.client.answers import encode_answer, failed_of_batch
from durableq.model.errors import Conflict, InvalidInput

IDS = ["1", "2", "3"]


def naming(*ids: object) -> dict[str, Any]:
    return {"batchItemFailures": [{"itemIdentifier": each} for each in ids]}


@pytest.mark.parametrize(
    "answer", [None, {}, {"batchItemFailures": None}, {"batchItemFailures": []}, naming()]
)
def test_an_empty_answer_fails_nothing(answer: object) -> None:
    assert failed_of_batch(answer, IDS) == set()


def test_an_answer_fails_the_messages_that_it_names() -> None:
    assert failed_of_batch(naming("2", "3", "2"), IDS) == {"2", "3"}


@pytest.mark.parametrize(
    "answer",
    [
        naming(""),
        naming(None),
        naming(2),
        naming("2", "4"),
        naming(["2"]),
        {"batchItemFailures": [{"itemIdentifer": "2"}]},
        {"batchItemFailures": [{"itemIdentifier": "2", "error": "no"}]},
        {"batchItemFailures": [{}]},
        {"batchItemFailures": ["2"]},
        {"batchItemFailures": "2"},
        {"batchItemFailures": {"itemIdentifier": "2"}},
        {"batchItemFailures": False},
        {"batchItemFailure": []},
        {"batchItemFailures": [], "statusCode": 200},
        {"statusCode": 200},
        [],
        ["2"],
        True,
        0,
        "done",
        frozenset(),
    ],
    ids=repr,
)
def test_any_other_answer_fails_the_whole_batch(answer: object) -> None:
    with pytest.raises(InvalidResult, match=r"returned|holds|is .* A batch|names"):
        failed_of_batch(answer, IDS)


async def charge() -> None: ...


def generate() -> Iterator[int]:
    yield 1


async def generate_async() -> AsyncIterator[int]:
    yield 1


class Awaitable:
    def __await__(self) -> Iterator[None]:
        yield


@pytest.mark.parametrize("make", [charge, generate, generate_async, Awaitable])
def test_code_that_has_not_run_is_not_a_result(make: Any) -> None:
    for read in (encode_answer, lambda answer: failed_of_batch(answer, IDS)):
        with pytest.raises(InvalidResult, match="its code has not run"):
            read(make())


def test_the_answer_of_a_batch_handler_is_not_a_result_of_one_message() -> None:
    with pytest.raises(InvalidResult, match="register it with batch=N"):
        encode_answer(naming("1"))
    assert encode_answer({"batch": []}) == '{"batch":[]}'


class Plain:
    def __call__(self, message: Delivery) -> None: ...


class Yielding:
    def __call__(self, message: Delivery) -> Iterator[int]:
        yield 1


def no_argument() -> None: ...


def two_arguments(one: object, other: object) -> None: ...


def only_by_name(*, message: object) -> None: ...


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (generate, "yields"),
        (generate_async, "yields"),
        (Yielding(), "yields"),
        (no_argument, "cannot be called with one argument"),
        (two_arguments, "missing a required argument: 'other'"),
        (only_by_name, "cannot be called"),
        (42, "is a function, not 42"),
    ],
)
def test_a_function_that_can_handle_nothing_is_refused_when_it_is_registered(
    function: Any, why: str
) -> None:
    dq = DurableQ("memory://")
    for register in (dq.handler("q"), dq.handler("q", batch=2), dq.recovery("q")):
        with pytest.raises(InvalidInput, match=why):
            register(function)
    assert (dq.handlers, dq.policies) == ({}, {})


def test_every_kind_of_function_that_takes_one_argument_can_be_registered() -> None:
    def optional(message: object, other: object = None) -> None: ...
    async def coroutine(message: object) -> None: ...

    for function in (Plain(), optional, coroutine, print, int, lambda *given: given):
        dq = DurableQ("memory://")
        assert dq.handler("q")(function) is function


def test_a_coroutine_is_not_a_recovery_policy() -> None:
    async def policy(dead_letter: object) -> None: ...

    with pytest.raises(InvalidInput, match="a recovery policy is a plain function"):
        DurableQ("memory://").recovery("q")(policy)
    assert asyncio.iscoroutinefunction(policy)


def test_a_batch_takes_failures_and_results_of_its_own_messages_until_it_is_settled() -> None:
    dq = DurableQ("memory://")
    dq.queue("q").send_many([1, 2, 3])
    *both, other = dq.queue("q").receive(3)
    batch = Batch(both, dq.store)
    for verb in (batch.fail, batch.set_result):
        with pytest.raises(InvalidInput, match="not in this batch"):
            verb(other, "x")
    batch.settle()
    for verb in (batch.fail, batch.set_result):
        with pytest.raises(Conflict, match="is settled already"):
            verb(both[0], "x")


def test_a_batchs_transaction_has_no_result() -> None:
    dq = DurableQ("memory://")
    dq.queue("q").send_many([1, 2])
    batch = Batch(dq.queue("q").receive(2), dq.store)
    with pytest.raises(InvalidInput, match=r"batch\.set_result"), batch.transaction() as tx:
        tx.result = 1
    assert not batch.settled
