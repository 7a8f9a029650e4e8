"""The base of the contract tests: a store with one queue, and short names for operations."""
# ruff: noqa: S101 - tests assert

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar, cast

import pytest

from durableq.model.decisions import Decision
from durableq.model.message import (
    Completion,
    Draft,
    Failure,
    HistoryEvent,
    Message,
    Outcome,
    Reason,
    Receipt,
    draft,
)
from durableq.store import capabilities
from durableq.store.core import Capability, Store
from durableq.testing.fakes import FakeClock, FakeRandom

T = TypeVar("T")

ORDERS = "orders"
DEAD = "orders-dlq"
#: The lease's length in a queue with default settings.
VISIBILITY_SECONDS = 30


class FullStore(
    capabilities.Transactions,
    capabilities.Idempotency,
    capabilities.DeadLetters,
    capabilities.Redrive,
    capabilities.Fleet,
    capabilities.Inspect,
    capabilities.Control,
    capabilities.Maintenance,
    capabilities.Metadata,
    capabilities.Once,
    capabilities.ProgressReports,
    capabilities.Schedules,
    capabilities.Items,
    capabilities.Endpoint,
    Store,
    Protocol,
):
    """A store with every capability: the type of the contract's fixture, which the tests narrow."""


def needs(*wanted: Capability) -> Callable[[T], T]:
    """Mark a test, or each test of a class, as one for engines that state these capabilities."""

    def mark(target: T) -> T:
        tests = contract_tests(target).values() if isinstance(target, type) else [target]
        for test in tests:
            vars(test)["needs"] = needs_of(test).union(wanted)
        return target

    return mark


def needs_of(test: object) -> frozenset[Capability]:
    """Return the capabilities beyond the core that a test needs."""
    found: frozenset[Capability] = getattr(test, "needs", frozenset())
    return found


def contract_tests(case: type) -> dict[str, object]:
    """Return the tests of a class by name, those included that it does not collect."""
    classes = reversed(case.__mro__)
    named = {name: test for one in classes for name, test in vars(one).items() if test is not None}
    return {name: test for name, test in named.items() if name.startswith("test_")}


class ContractCase:
    """A group of contract tests, of which a subclass collects those for its engine."""

    #: The capabilities that the engine states. Tests that need another one are not collected.
    capabilities: ClassVar[frozenset[Capability]] = frozenset(Capability)

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name, test in contract_tests(cls).items():
            if not needs_of(test) <= cls.capabilities:
                setattr(cls, name, None)  # pytest collects no test that is None

    def check(self, store: Store) -> FullStore:
        """Return the store, which must state the capabilities of this class."""
        differ = store.capabilities ^ self.capabilities
        if differ:
            pytest.fail(
                f"A {store.scheme}:// store and {type(self).__name__}.capabilities disagree about "
                f"{sorted(capability.label for capability in differ)}: let the class name those of "
                "its store."
            )
        return cast(FullStore, store)


class StoreCase(ContractCase):
    """The fixtures; `make_store` is yours to override."""

    #: Whether the engine stores the character U+0000 in keys; PostgreSQL has no such text.
    stores_nul: ClassVar[bool] = True

    def make_store(self, clock: FakeClock, rng: Callable[[], float], tmp_path: Path) -> Store:
        """Return a new, empty store of your engine, with this clock and these random numbers."""
        raise NotImplementedError(f"{type(self).__name__} must override make_store.")

    @pytest.fixture
    def clock(self) -> FakeClock:
        """The store's clock."""
        return FakeClock()

    @pytest.fixture
    def rng(self) -> FakeRandom:
        """The store's random numbers."""
        return FakeRandom()

    @pytest.fixture
    def store(self, clock: FakeClock, rng: FakeRandom, tmp_path: Path) -> Iterator[FullStore]:
        """A store with one queue, `orders`."""
        with closing(self.make_store(clock, rng, tmp_path)) as store:
            store.declare_queue(ORDERS, {})
            yield self.check(store)


def send(store: Store, body: Any = "a", queue: str = ORDERS, **options: Any) -> str:
    """Send one message, with `draft`'s options, and return its id."""
    [message_id] = store.send(queue, [draft(body, **options)])
    return message_id


def drafts(*bodies: Any) -> list[Draft]:
    """Return a draft of each body."""
    return [draft(body) for body in bodies]


def receive(store: Store, limit: int = 10, queue: str = ORDERS, **options: Any) -> list[Message]:
    """Receive, and return the messages."""
    return store.receive(queue, limit, **options).messages


def take(store: Store, queue: str = ORDERS, **options: Any) -> Receipt:
    """Receive one message, which must be there, and return its receipt."""
    [message] = receive(store, 1, queue, **options)
    return receipt(message)


def receipt(message: Message) -> Receipt:
    """Return the receipt that a received message must have."""
    assert message.receipt is not None
    return message.receipt


def bodies(messages: list[Message]) -> list[Any]:
    """Return the bodies as stored."""
    return [message.body for message in messages]


def look(store: Store, message_id: str) -> Message:
    """Return a message that must be there."""
    message = store.require(Capability.INSPECT).message(message_id)
    assert message is not None
    return message


def complete(store: Store, *receipts: Receipt, result: str | None = None) -> list[Outcome]:
    """Complete these."""
    return store.complete([Completion(receipt, result) for receipt in receipts])


def failure(reason: Reason = Reason.HANDLER_ERROR, retry_in_ms: int | None = None) -> Failure:
    """Return a failure with every field filled."""
    return Failure(reason, "ValueError", "no such order", "Traceback ...", retry_in_ms)


def fail(store: Store, receipt: Receipt, **options: Any) -> Outcome:
    """Fail this one, with `failure`'s options."""
    [outcome] = store.fail([(receipt, failure(**options))], actor="worker-1")
    return outcome


def kill(store: Store, body: Any = "a", **options: Any) -> str:
    """Send a message to a queue with none ready, and let it die; return its id."""
    message_id = send(store, body, **options)
    assert fail(store, take(store), reason=Reason.REJECTED) is Outcome.BURIED
    return message_id


def decide(store: Store, decision: Decision, actor: str = "recovery:1") -> Outcome:
    """Apply a decision to the one dead letter that is ready."""
    decisions = [(take(store, DEAD), decision)]
    [outcome] = store.require(Capability.DEAD_LETTERS).decide(decisions, actor=actor)
    return outcome


def story(store: Store, message_id: str) -> list[tuple[str, str]]:
    """Return a message's history as (event, reason)."""
    return [
        (event.event.value, event.reason)
        for event in store.require(Capability.DEAD_LETTERS).history(message_id)
    ]


def newest(store: Store, message_id: str) -> HistoryEvent:
    """Return the newest event of a message."""
    return store.require(Capability.DEAD_LETTERS).history(message_id)[-1]


def counters_reconcile(store: Store) -> bool:
    """Return whether the counters of every queue reconcile with its messages."""
    return all(
        info.counters.expected == info.counts.present
        for info in store.require(Capability.INSPECT).queues(recount=True)
    )
