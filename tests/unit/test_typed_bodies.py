"""Handlers that are called with objects of the type of their bodies, and senders that send them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import pydantic
import pytest
from typing_extensions import TypedDict

from durableq import Batch, Delivery, DurableQ, Reject
from durableq.model import codec
from durableq.model.errors import InvalidBody, InvalidInput
from durableq.model.message import Reason
from durableq.store.core import Capability
from durableq.worker.options import WorkerOptions
from durableq.worker.worker import Worker

if TYPE_CHECKING:
    from decimal import Context


@dataclass
class Line:
    item: str
    count: int = 1


@dataclass
class Order:
    number: int
    lines: list[Line] = field(default_factory=list)
    at: datetime | None = None


class Model(pydantic.BaseModel):
    number: int
    price: Decimal = Decimal(1)


class Struct(msgspec.Struct):
    number: int
    name: str = ""


class Named(TypedDict):
    number: int


@pytest.fixture
def dq() -> DurableQ:
    dq = DurableQ("memory://")
    dq.queue("orders", max_receives=5)
    return dq


def drain(dq: DurableQ) -> None:
    Worker(dq, WorkerOptions("", dq.url, "worker", drain=True)).run()


def dead(dq: DurableQ) -> list[tuple[Reason, str]]:
    """The reasons and errors of dead letters, in order."""
    found = []
    for message in dq.store.require(Capability.INSPECT).peek("orders-dlq", 10):
        letter = dq.store.require(Capability.DEAD_LETTERS).dead_letter(message.id)
        assert letter is not None
        found.append((letter.reason, letter.history[-1].error_message))
    return found


def test_an_object_is_sent_as_its_json() -> None:
    made = Order(1, [Line("tea")], datetime(2027, 1, 31, 9, tzinfo=UTC))
    assert codec.encode({"order": made}) == (
        '{"order":{"number":1,"lines":[{"item":"tea","count":1}],"at":"2027-01-31T09:00:00Z"}}'
    )
    assert codec.encode([Model(number=1, price=Decimal("1.50"))]) == '[{"number":1,"price":"1.50"}]'
    assert codec.encode(Struct(1, "n")) == '{"number":1,"name":"n"}'
    assert codec.encode_result(Line("tea")) == '{"item":"tea","count":1}'


OF_ANOTHER_TYPE: Any = "seven"


@pytest.mark.parametrize("value", [Order, object(), {1, 2}, Order(OF_ANOTHER_TYPE)])
def test_another_object_is_refused(value: object) -> None:
    with pytest.raises(InvalidBody, match="JSON cannot hold this body"):
        codec.encode(value)


def test_names_that_json_writes_alike_are_refused_in_objects_too() -> None:
    class Table(msgspec.Struct):
        rows: dict[Any, int]

    @dataclass
    class Other:
        rows: dict[Any, int]

    for kind in (Table, Other):
        with pytest.raises(InvalidBody, match=r"which JSON both writes as '1'|are written alike"):
            codec.encode(kind({1: 1, "1": 2}))
    days = {datetime(2027, 1, 1, tzinfo=UTC): 1, datetime(2027, 1, 2, tzinfo=UTC): 2}
    assert codec.encode(Other(days)) == (
        '{"rows":{"2027-01-01T00:00:00Z":1,"2027-01-02T00:00:00Z":2}}'
    )


@pytest.mark.parametrize(
    ("kind", "sent"),
    [
        (Order, Order(1, [Line("tea", 2)], datetime(2027, 1, 31, 9, tzinfo=UTC))),
        (Model, Model(number=1, price=Decimal("1.50"))),
        (Struct, Struct(1, "n")),
        (Named, {"number": 1}),
        (list[Line], [Line("tea"), Line("milk")]),
    ],
    ids=["dataclass", "pydantic", "msgspec", "TypedDict", "list"],
)
def test_a_handler_gets_the_object_that_was_sent(dq: DurableQ, kind: Any, sent: Any) -> None:
    got = []

    def handle(order: Any) -> None:
        got.append(order)

    handle.__annotations__["order"] = kind
    dq.handler("orders")(handle)
    dq.queue("orders").send(sent)
    drain(dq)
    assert got == [sent]
    assert not dead(dq)


def test_a_delivery_has_a_body_of_its_type(dq: DurableQ) -> None:
    got = []

    @dq.handler("orders")
    def handle(message: Delivery[Order]) -> None:
        got.append((message.body.lines, message.key))

    dq.queue("orders").send({"number": 1, "lines": [{"item": "tea"}]}, key="k")
    drain(dq)
    assert got == [([Line("tea")], "k")]


@pytest.mark.parametrize("as_bodies", [True, False])
def test_a_batch_has_bodies_of_its_type_without_those_that_do_not_fit(
    dq: DurableQ, as_bodies: bool
) -> None:
    got: list[Line] = []

    def bodies(lines: list[Line]) -> None:
        got.extend(lines)

    def deliveries(batch: Batch[Line]) -> None:
        got.extend(one.body for one in batch)

    dq.handler("orders", batch=10)(bodies if as_bodies else deliveries)
    dq.queue("orders").send_many([Line("tea"), {"count": 1}, Line("milk", 2)])
    drain(dq)
    assert got == [Line("tea"), Line("milk", 2)]
    assert dead(dq) == [(Reason.UNDECODABLE, "The body does not fit Line: item: Field required.")]


def test_a_coroutine_gets_a_body_too(dq: DurableQ) -> None:
    got = []

    @dq.handler("orders")
    async def handle(order: Order) -> None:
        got.append(order.number)

    dq.queue("orders").send(Order(7))
    drain(dq)
    assert got == [7]


def test_a_body_that_does_not_fit_is_dead_at_once_and_its_values_are_not_told(
    dq: DurableQ,
) -> None:
    @dq.handler("orders")
    def handle(order: Order) -> None:
        raise AssertionError("It is not called.")

    queue = dq.queue("orders")
    queue.send({"number": "secret", "lines": [{}, {}, {}]})
    queue.send(b"\xff")
    drain(dq)
    first, second = dead(dq)
    assert first == (
        Reason.UNDECODABLE,
        "The body does not fit Order: number: Input should be a valid integer, unable to parse "
        "string as an integer; lines.0.item: Field required; lines.1.item: Field required; "
        "and 1 more.",
    )
    assert second[0] is Reason.UNDECODABLE


@pytest.mark.parametrize(
    ("error", "reason", "text"),
    [
        (KeyError("n"), Reason.HANDLER_ERROR, "'n'"),
        (ConnectionError("down"), Reason.HANDLER_ERROR, "down"),
        (Reject("never"), Reason.REJECTED, "never"),
        (
            ValueError("odd"),
            Reason.UNDECODABLE,
            "The body does not fit Odd: number: Value error, odd.",
        ),
    ],
    ids=["KeyError", "ConnectionError", "Reject", "ValueError"],
)
@pytest.mark.parametrize("batch", [None, 10])
def test_a_validator_of_the_user_fails_like_a_handler_unless_the_body_does_not_fit(
    error: Exception, reason: Reason, text: str, batch: int | None
) -> None:
    class Odd(pydantic.BaseModel):
        number: int

        @pydantic.field_validator("number")
        @classmethod
        def check(cls, value: int) -> int:
            raise error

    def handle(order: Any) -> None:
        raise AssertionError("It is not called.")

    dq = DurableQ("memory://")
    dq.queue("orders", max_receives=2, backoff_base=0)
    handle.__annotations__["order"] = Odd if batch is None else list[Odd]
    dq.handler("orders", batch=batch)(handle)
    dq.queue("orders").send({"number": 1})
    drain(dq)
    assert dead(dq) == [(reason, text)]


class Item(pydantic.BaseModel):
    name: str


class Special(Item):
    extra: int


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True, extra="forbid")

    number: int = pydantic.Field(alias="orderNumber")
    at: datetime
    item: Item | None = None

    @pydantic.computed_field
    def double(self) -> int:
        return 2 * self.number


def test_a_model_with_aliases_strict_types_and_computed_fields_is_read_as_it_was_sent(
    dq: DurableQ,
) -> None:
    got = []

    @dq.handler("orders")
    def handle(order: Strict) -> None:
        got.append(order)

    sent = Strict(orderNumber=3, at=datetime(2027, 1, 31, 9, tzinfo=UTC), item=Item(name="tea"))
    dq.queue("orders").send(sent)
    drain(dq)
    assert not dead(dq)
    assert got == [sent]


def test_fields_of_a_subclass_are_sent() -> None:
    sent = Strict(
        orderNumber=3, at=datetime(2027, 1, 31, tzinfo=UTC), item=Special(name="a", extra=1)
    )
    assert '"item":{"name":"a","extra":1}' in str(codec.encode(sent))


def test_validators_in_annotations_run(dq: DurableQ) -> None:
    def check(order: Order) -> Order:
        raise ValueError("not today")

    def handle(order: Any) -> None:
        raise AssertionError("It is not called.")

    handle.__annotations__["order"] = Annotated[Order, pydantic.AfterValidator(check)]
    dq.handler("orders")(handle)
    dq.queue("orders").send(Order(1))
    drain(dq)
    ((reason, text),) = dead(dq)
    assert reason is Reason.UNDECODABLE
    assert text.endswith("Value error, not today.")


def test_a_class_of_the_user_may_be_named_like_ours(
    dq: DurableQ, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "module_of_a_user.py").write_text(USERS)
    monkeypatch.syspath_prepend(tmp_path)
    handle: Any = importlib.import_module("module_of_a_user").handle
    dq.handler("orders")(handle)
    dq.queue("orders").send({"street": "Main"})
    drain(dq)
    assert handle.got == ["Main"]


USERS = """\
from __future__ import annotations
from dataclasses import dataclass
@dataclass
class Delivery:
    street: str
def handle(delivery: Delivery) -> None:
    handle.got = [delivery.street]
"""


def untyped(message) -> None: ...  # type: ignore[no-untyped-def]
def of_anything(message: Any) -> None: ...
def of_object(message: object) -> None: ...
def of_delivery(message: Delivery) -> None: ...
def of_both(messages: Delivery | Batch) -> None: ...
def with_another_unresolved(message: Delivery, context: Context | None = None) -> None: ...


@pytest.mark.parametrize(
    "function",
    [untyped, of_anything, of_object, of_delivery, of_both, with_another_unresolved, print],
)
def test_other_handlers_get_the_delivery(dq: DurableQ, function: Callable[..., Any]) -> None:
    dq.handler("orders")(function)
    assert dq.handlers["orders"].function is function
    assert dq.handlers["orders"].reader is None


def unresolved(context: Context) -> None: ...
def of_batch(batch: Batch) -> None: ...
def of_bodies(orders: Sequence[Order]) -> None: ...
def of_order(order: Order) -> None: ...
def of_no_json(function: Callable[[int], int], /) -> None: ...


@pytest.mark.parametrize(
    ("function", "batch", "sentence"),
    [
        (unresolved, None, "'Context' of unresolved says what it is called with"),
        (of_batch, None, "of_batch is a handler of single messages, annotated with Batch"),
        (of_delivery, 10, "of_delivery is a handler of batches, annotated with Delivery"),
        (of_order, 10, "annotate its argument with Batch, or with list"),
    ],
)
def test_an_annotation_that_says_nothing_is_refused(
    dq: DurableQ, function: Callable[..., Any], batch: int | None, sentence: str
) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        dq.handler("orders", batch=batch)(function)
    assert not dq.handlers


def test_a_type_that_no_body_has_is_refused(dq: DurableQ) -> None:
    class Connection: ...

    def handle(order: Any) -> None: ...

    handle.__annotations__["order"] = Connection
    with pytest.raises(InvalidInput, match="cannot be the type of a body"):
        dq.handler("orders")(handle)
