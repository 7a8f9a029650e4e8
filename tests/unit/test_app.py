"""The application, which opens nothing before its first use, and its queues."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from durableq import Conflict, Discard, DurableQ, InvalidBody, InvalidInput, UnknownQueue
from durableq.model.limits import MAX_SET_ASIDE
from durableq.model.message import draft
from durableq.recovery.policies import AppPolicies
from durableq.store.core import Capability
from durableq.testing import FakeClock


def test_nothing_is_opened_before_the_first_use(tmp_path: Path) -> None:
    db = tmp_path / "queue.db"
    dq = DurableQ(db)
    orders = dq.queue("orders", max_receives=5)
    dq.handler("mail")(print)
    dq.recovery("orders")(print)
    assert list(tmp_path.iterdir()) == []
    assert repr(orders) == f"<Queue 'orders' in {db}>"
    orders.send(1)
    assert [info.name for info in dq.store.require(Capability.INSPECT).queues()] == [
        "mail",
        "mail-dlq",
        "orders",
        "orders-dlq",
    ]
    assert orders.info().settings.max_receives == 5
    dq.close()


def test_the_database_is_the_named_one_the_environments_or_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert DurableQ().url == "durableq.db"
    monkeypatch.setenv("DURABLEQ_DB", "memory://of-the-environment")
    assert DurableQ().url == "memory://of-the-environment"
    assert DurableQ("memory://named").url == "memory://named"
    assert DurableQ(Path("a") / "b.db").url == "a/b.db"


def test_another_database_can_be_chosen_until_the_first_use() -> None:
    dq = DurableQ("memory://one")
    dq.use("memory://two")
    assert dq.url == "memory://two"
    _ = dq.store
    dq.use("memory://two")
    with pytest.raises(Conflict, match="two is open already, so memory://three cannot be used"):
        dq.use("memory://three")
    dq.close()
    dq.use("memory://three")


def test_settings_given_win_and_those_not_given_stay(tmp_path: Path) -> None:
    db = tmp_path / "queue.db"
    with DurableQ(db) as dq:
        dq.queue("orders", visibility_timeout=1.5, max_receives=9)
        dq.init()
    with DurableQ(db) as dq:
        orders = dq.queue("orders", max_receives=4)
        settings = orders.info().settings
        assert (settings.visibility_timeout_ms, settings.max_receives) == (1500, 4)
        dq.queue("orders", delay=60)  # while it is open
        assert orders.info().settings.delay_ms == 60_000


@pytest.mark.parametrize(
    "options",
    [
        {"max_receives": 0},
        {"visibility_timeout": 0},
        {"visibility_timeout": "soon"},
        {"nonsense": 1},
        {"delay_ms": 5},
    ],
)
def test_an_invalid_setting_is_refused(options: dict[str, Any]) -> None:
    dq = DurableQ("memory://")
    with pytest.raises(InvalidInput):
        dq.queue("orders", **options).info()


BAD_NAMES: tuple[Any, ...] = (
    *("", "a b", "x" * 81, "x" * 1_000_000, "naïve", "-dlq", "a\n", "\ud800"),
    *(None, 5, b"orders", ["orders"], print),
)


@pytest.mark.parametrize("name", BAD_NAMES, ids=range(len(BAD_NAMES)))
def test_an_invalid_name_is_refused_where_it_is_declared(name: Any, tmp_path: Path) -> None:
    dq = DurableQ(tmp_path / "queue.db")
    for is_open in (False, True):
        if is_open:
            dq.queue("orders").send(1)
        for declare in (dq.queue, dq.handler, dq.recovery):
            with pytest.raises(InvalidInput) as refused:
                declare(name)
            assert len(str(refused.value)) < 300
    dq.close()
    assert dq.queue("orders").info().counts.ready == 1, "what was refused was remembered"
    dq.close()


def test_a_decorator_without_its_queue_shows_the_right_form() -> None:
    dq = DurableQ("memory://")
    with pytest.raises(InvalidInput, match=r'@dq.handler\("orders"\), not @dq.handler'):
        dq.handler(print)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match=r'@dq.recovery\("orders"\)'):
        dq.recovery(print)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="give batch or prefetch"):
        dq.handler("orders", batch=2, prefetch=3)


def test_a_policy_is_for_no_private_dead_letter_queue() -> None:
    with DurableQ("memory://") as dq:
        dq.recovery("orders-dlq")(lambda _: Discard("gone"))
        policies = AppPolicies(dq.policies)
        with pytest.raises(InvalidInput, match="for the queue whose messages died, 'orders'"):
            policies.check(dq.store)
        dq.store.declare_queue("orders-dlq", {"dead_letter_queue": None})
        policies.check(dq.store)
        assert policies.queues(dq.store) == ("orders-dlq",)


@pytest.mark.parametrize("declare", ["handler", "queue"])
def test_a_dead_letter_queue_that_is_named_first_is_made_with_its_queue(declare: str) -> None:
    dq = DurableQ("memory://")
    if declare == "handler":
        dq.handler("orders-dlq")(lambda message: message)
    else:
        dq.queue("orders-dlq", visibility_timeout=5)
    assert [info.name for info in dq.store.require(Capability.INSPECT).queues()] == [
        "orders",
        "orders-dlq",
    ]
    with pytest.raises(Conflict, match="is a dead-letter queue"):
        dq.queue("orders-dlq").send(1)


NOT_BODIES: tuple[Any, ...] = ("abc", b"abc", bytearray(b"a"), {"a": 1}, 5, None)


@pytest.mark.parametrize("bodies", NOT_BODIES, ids=repr)
def test_one_body_is_not_accepted_as_many(bodies: Any) -> None:
    orders = DurableQ("memory://").queue("orders")
    with pytest.raises(InvalidInput, match="takes a list of bodies"):
        orders.send_many(bodies)
    assert orders.info().counters.sent == 0


def test_one_key_for_many_messages_is_refused() -> None:
    orders = DurableQ("memory://").queue("orders")
    with pytest.raises(InvalidInput, match="a key for each"):
        orders.send_many([1, 2], key="k")
    with pytest.raises(InvalidInput, match="at most 10000"):
        orders.send_many(itertools.count())
    assert orders.info().counters.sent == 0


def test_sent_messages_are_received() -> None:
    clock = FakeClock()
    orders = DurableQ("memory://", clock=clock).queue("orders")
    ids = orders.send_many(range(3), priority=1)
    later = orders.send("later", delay=10)
    assert [message.id for message in orders.receive(10)] == ids
    clock.advance(10)
    (delayed,) = orders.receive(10, visibility_timeout=2.5)
    assert (delayed.id, delayed.message.lease_left_ms) == (later, 2500)
    assert orders.info().counts.in_flight == 4
    assert orders.purge() == 4
    assert orders.info().counters.purged == 4


def test_a_batch_with_one_that_cannot_be_sent_sends_none() -> None:
    orders = DurableQ("memory://").queue("orders", max_body_bytes=10)
    for bodies in ([1, {2}], [1, "x" * 20]):
        with pytest.raises(InvalidBody):
            orders.send_many(bodies)
    with pytest.raises(InvalidInput, match="A batch has at most 10000 messages"):
        orders.send_many([1] * 10_001)
    assert orders.info().counters.sent == 0


@pytest.mark.parametrize("limit", [0, -1, 10_001])
def test_a_receive_out_of_bounds_is_refused(limit: int) -> None:
    with pytest.raises(InvalidInput):
        DurableQ("memory://").queue("orders").receive(limit)


def test_a_queue_that_was_deleted_is_unknown() -> None:
    dq = DurableQ("memory://")
    orders = dq.queue("orders")
    dq.store.require(Capability.CONTROL).delete_queue("orders")
    with pytest.raises(UnknownQueue, match="durableq queue create orders"):
        orders.send(1)


def test_duplicates_are_not_returned_by_a_receive() -> None:
    orders = DurableQ("memory://").queue("orders")
    for _ in range(3):
        orders.send(1, key="k")
    (first,) = orders.receive(3)
    first.complete("done")
    assert orders.receive(3) == []
    assert orders.info().counters.duplicates == 2
    assert orders.record("other") is None


def test_memory_has_nothing_to_create() -> None:
    assert DurableQ("memory://").init() == "empty"


def test_a_producer_knows_the_limit_of_its_queue() -> None:
    orders = DurableQ("memory://").queue("orders", max_body_bytes=10)
    with orders.producer(batch_size=2) as producer:
        with pytest.raises(InvalidBody):
            producer.send("x" * 20)
        futures = [producer.send(number, key=str(number)) for number in range(3)]
    assert [future.result(0) for future in futures] == ["1", "2", "3"]
    assert [message.key for message in orders.receive(3)] == ["0", "1", "2"]


def test_a_setting_out_of_bounds_is_refused_where_it_is_given(tmp_path: Path) -> None:
    with DurableQ(tmp_path / "queue.db") as dq:
        with pytest.raises(InvalidInput, match="max_receives"):
            dq.queue("orders", max_receives=0)
        assert not list(tmp_path.iterdir()), "it was opened"
        assert dq.queue("orders").info().settings.max_receives == 3


def test_a_receive_that_ended_only_duplicates_says_that_there_may_be_more() -> None:
    with DurableQ("memory://") as dq:
        orders = dq.queue("orders")
        orders.send(1, key="k")
        orders.receive()[0].complete()
        dq.store.send("orders", [draft(1, key="k")] * (MAX_SET_ASIDE + 1))
        orders.send("fresh")
        found = []
        while (batch := orders.receive()) or batch.more:
            found += [message.body for message in batch]
        assert found == ["fresh"]
        assert orders.receive() == []
