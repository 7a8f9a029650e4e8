"""Scenarios of Powertools with functions of any signature; see test_powertools_scenarios.py."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pydantic
import pytest
from aws_lambda_powertools.utilities.data_classes import APIGatewayProxyEventV2, event_source
from aws_lambda_powertools.utilities.idempotency import (
    IdempotencyConfig,
    idempotent,
    idempotent_function,
)
from aws_lambda_powertools.utilities.idempotency.exceptions import (
    IdempotencyKeyError,
)
from aws_lambda_powertools.utilities.idempotency.serialization.custom_dict import (
    CustomDictSerializer,
)
from aws_lambda_powertools.utilities.idempotency.serialization.dataclass import DataclassSerializer
from aws_lambda_powertools.utilities.idempotency.serialization.pydantic import PydanticSerializer
from aws_lambda_powertools.warnings import PowertoolsUserWarning

from durableq import DurableQ
from durableq.contrib.powertools import PersistenceLayer
from tests.contrib.invocations import EVENT, Body, CountedLayer, function, handler
from tests.contrib.lambdas import Context
from tests.support import new_file

#: A function without a Lambda context is warned about; one test looks for that.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Couldn't determine the remaining time", "ignore:No idempotency key value found"
)


@pytest.fixture
def dq(tmp_path: Path) -> Iterator[DurableQ]:
    with DurableQ(new_file(tmp_path / "q.db")) as dq:
        yield dq


@pytest.fixture
def layer(dq: DurableQ) -> CountedLayer:
    return CountedLayer(dq)


def test_a_decorator_may_unwrap_the_event(layer: CountedLayer) -> None:
    inner = handler(layer, Body())

    def unwrap(event: Any, context: Any) -> Any:
        return inner(event["body"], context)

    wrapped = [{"id": number, "body": EVENT} for number in range(2)]
    assert [unwrap(event, Context()) for event in wrapped] == [{"call": 1}] * 2


def test_a_function_without_a_context_is_warned_about(layer: CountedLayer) -> None:
    with pytest.warns(UserWarning, match="Couldn't determine the remaining time left"):
        assert function(layer, Body())(record=EVENT) == {"call": 1}


def test_an_event_source_before_the_decorator(layer: CountedLayer) -> None:
    @event_source(data_class=APIGatewayProxyEventV2)
    @idempotent(persistence_store=layer)
    def lambda_handler(event: Any, context: Any) -> str:
        assert isinstance(event, APIGatewayProxyEventV2)
        return event.raw_path

    invoke: Any = lambda_handler
    given = {"rawPath": "/orders/7", "version": "2.0"}
    assert [invoke(given, Context()) for _ in range(2)] == ["/orders/7"] * 2
    assert layer.calls == ["put", "update", "put"]


def test_a_function_and_a_handler_share_a_layer(layer: CountedLayer) -> None:
    results = {"message": "Foo"}

    def record_handler(one: str, two: str, record: Any, is_record: bool) -> Any:
        return dict(results)

    call: Any = idempotent_function(
        record_handler, persistence_store=layer, data_keyword_argument="record"
    )
    invoke = handler(layer, lambda _event, _context: dict(results))

    def both(event: Any) -> list[Any]:
        return [call("a", "b", record=event, is_record=True), invoke(event, Context())]

    assert both(EVENT) == [{"message": "Foo"}] * 2
    results["message"] = "Bar"
    assert both(EVENT) == [{"message": "Foo"}] * 2
    assert both({**EVENT, "order": 8}) == [{"message": "Bar"}] * 2


@dataclasses.dataclass
class Payment:
    """A payment, as a function is given it and returns it."""

    customer: str
    transaction: str


class PaymentModel(pydantic.BaseModel):
    """The same, as a pydantic model."""

    customer: str
    transaction: str


def test_a_response_is_serialized(layer: CountedLayer) -> None:
    written, read = list[Any](), list[Any]()

    def to_dict(data: Any) -> Any:
        written.append(data)
        return {"as": "dict"}

    def from_dict(data: Any) -> Any:
        read.append(data)
        return "read"

    serializer = CustomDictSerializer(to_dict=to_dict, from_dict=from_dict)
    call = function(layer, lambda _: "answer", output_serializer=serializer)
    assert [call(record=1), call(record=1)] == ["answer", "read"]
    assert (written, read) == (["answer"], [{"as": "dict"}])
    nothing = function(layer, lambda _: None, output_serializer=serializer)
    assert [nothing(record=2), nothing(record=2)] == [None, None]
    assert len(written) == len(read) == 1
    for given in (DataclassSerializer, DataclassSerializer(model=Payment)):
        of = returning(Payment, layer, output_serializer=given)
        payment = Payment("ann", str(given))
        assert [of(record=payment), of(record=payment)] == [payment, payment]


def returning(kind: type, layer: PersistenceLayer, **options: Any) -> Any:
    """Return a function that returns what it is given, annotated with its type."""

    def collect(record: Any) -> Any:
        return record

    collect.__annotations__ = {"record": kind, "return": kind}
    decorate: Any = idempotent_function(
        data_keyword_argument="record", persistence_store=layer, **options
    )
    return decorate(collect)


def test_a_pydantic_model_comes_back(layer: CountedLayer) -> None:
    config = IdempotencyConfig(event_key_jmespath="transaction")
    of = returning(PaymentModel, layer, config=config, output_serializer=PydanticSerializer)
    payment = PaymentModel(customer="ann", transaction="t1")
    assert of(record=payment) == payment
    assert of(record=PaymentModel(customer="eve", transaction="t1")) == payment


def test_a_function_is_given_its_data_by_name(layer: CountedLayer) -> None:
    call = function(layer, Body())
    with pytest.raises(RuntimeError, match="Unable to extract 'record'"):
        call(EVENT)
    with pytest.raises(RuntimeError, match="Unable to extract 'record'"):
        call(payload=EVENT)
    assert layer.calls == []


@pytest.mark.parametrize("data", [None, 0, False])
def test_data_that_is_falsy(dq: DurableQ, layer: CountedLayer, data: Any) -> None:
    assert function(layer, Body())(record=data) == {"call": 1}
    config = {"event_key_jmespath": "key", "raise_on_no_idempotency_key": True}
    with pytest.raises(IdempotencyKeyError, match="No data found"):
        function(CountedLayer(dq), Body(), config=config)(record=data)


def test_the_order_of_names_makes_no_other_key(layer: CountedLayer) -> None:
    invoke = handler(layer, Body())
    turned = dict(reversed(EVENT.items()))
    assert [invoke(event, Context()) for event in (EVENT, turned)] == [{"call": 1}] * 2


@pytest.mark.parametrize("value", ["1", "true", "0", "off"])
def test_the_environment_switches_it_off(
    layer: CountedLayer, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("POWERTOOLS_IDEMPOTENCY_DISABLED", value)
    call, invoke = function(layer, Body()), handler(layer, Body())
    is_off = value in {"1", "true"}
    says = "Disabling idempotency is intended for development"
    with pytest.warns(PowertoolsUserWarning, match=says) if is_off else nullcontext():
        call(record=EVENT)
        invoke(EVENT, Context())
    assert layer.calls == ([] if is_off else ["put", "update"] * 2)


def test_two_functions_have_records_of_their_own(layer: CountedLayer) -> None:
    def one(data: Any) -> str:
        return "one"

    def two(data: Any) -> str:
        return "two"

    options: Any = {"data_keyword_argument": "data", "persistence_store": layer}
    first, second = (idempotent_function(each, **options) for each in (one, two))
    for _ in range(2):
        assert (first(data=EVENT), second(data=EVENT)) == ("one", "two")


def test_a_key_from_a_dataclass(layer: CountedLayer) -> None:
    call = function(layer, Body(), config={"event_key_jmespath": "transaction"})
    payments = (Payment("ann", "t1"), Payment("eve", "t1"), Payment("ann", "t2"))
    assert [call(record=payment)["call"] for payment in payments] == [1, 1, 2]


def test_threads_have_records_of_their_own(layer: CountedLayer) -> None:
    names = function(layer, lambda record: {"record": record})
    with ThreadPoolExecutor(4) as threads:
        answers = [future.result() for future in [
            threads.submit(names, record=number) for number in range(8)
        ]]  # fmt: skip
    assert answers == [{"record": number} for number in range(8)]
    assert names(record=3) == {"record": 3}
