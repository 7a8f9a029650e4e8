"""sent, assert_sent and assert_not_sent: the messages whose sends have committed."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest

from durableq import InvalidInput, Queue
from durableq.contrib.pytest import assert_not_sent, assert_sent, fresh, run_pending, sent
from tests.contrib.shop import Shop

pytestmark = pytest.mark.usefixtures("clock")


def failure(*args: Any, **options: Any) -> str:
    with pytest.raises(AssertionError) as caught:
        assert_sent(*args, **options)
    return str(caught.value)


def test_messages_are_there_with_their_options_also_after_they_were_handled(shop: Shop) -> None:
    shop.orders.send({"order": 1}, key="k", attributes={"a": 1}, delay=5, priority=3, group="g")
    shop.orders.send({"order": 2})
    run_pending(shop.dq)
    first, second = sent(shop.orders)
    assert (first.body, first.key, first.attributes) == ({"order": 1}, "k", {"a": 1})
    assert (first.delay, first.priority, first.group, first.queue) == (5, 3, "g", "orders")
    assert (second.body, second.key, second.delay) == ({"order": 2}, None, None)
    assert_sent(shop.receipts, {"order": 2}, key="receipt-2", count=1)
    assert_not_sent(shop.receipts, {"order": 1})


def test_an_assertion_returns_the_messages_that_match(shop: Shop) -> None:
    shop.receipts.send_many([1, 1, (2, 3)])
    assert [one.body for one in assert_sent(shop.receipts, 1, count=2)] == [1, 1]
    assert_sent(shop.receipts, (2, 3))
    assert_sent(shop.receipts, mock.ANY, count=3)
    assert_sent(shop.receipts, [2, mock.ANY])
    assert_sent(shop.receipts, key=None, count=3)
    assert_sent(shop.receipts, 4, count=0)


def test_a_failure_shows_all_sends_and_the_difference(shop: Shop) -> None:
    assert failure(shop.receipts, 1) == (
        "No messages with body 1 sent to 'receipts', expected at least 1. "
        "Nothing was sent to 'receipts'."
    )
    shop.receipts.send({"order": 7, "paid": 120}, key="r-7")
    shop.receipts.send("something else")
    (number, _) = (one.id for one in sent(shop.receipts))
    assert failure(shop.receipts, {"order": 7, "paid": 100}, key="r-7").splitlines() == [
        "No messages with body {'order': 7, 'paid': 100} and key 'r-7' sent to 'receipts', "
        "expected at least 1. These were sent:",
        f"  {number}: {{'order': 7, 'paid': 120}}, key 'r-7'",
        f"  {int(number) + 1}: 'something else'",
        f"Message {number} differs (- expected, + sent):",
        "    {",
        '      "order": 7,',
        '  -   "paid": 100',
        '  +   "paid": 120',
        "    }",
    ]
    assert "1 message of any kind sent to" not in failure(shop.receipts, count=1)
    assert failure(shop.receipts, "something else", count=2).startswith(
        "1 message with body 'something else' sent to 'receipts', expected 2. These were sent:"
    )


def test_many_messages_are_cut_short(shop: Shop) -> None:
    shop.receipts.send_many(range(25))
    assert failure(shop.receipts, "x").count("\n  and 15 more") == 1


def test_a_message_that_should_not_be_there_is_shown(shop: Shop) -> None:
    shop.receipts.send({"order": 7})
    with pytest.raises(AssertionError) as caught:
        assert_not_sent(shop.receipts)
    assert str(caught.value).splitlines()[0] == (
        "1 message of any kind sent to 'receipts', expected none:"
    )
    assert_not_sent(shop.receipts, key="other")
    assert_not_sent(shop.orders)


def test_sends_that_were_rolled_back_were_not_sent(shop: Shop) -> None:
    shop.orders.send({"order": 7})
    (message,) = shop.orders.receive()

    def stumble() -> None:
        with message.transaction() as tx:
            tx.send("receipts", 1)
            assert_not_sent(shop.receipts)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        stumble()
    assert_not_sent(shop.receipts)
    with pytest.raises(InvalidInput):
        shop.receipts.send(1, priority=1000)
    assert_not_sent(shop.receipts)
    with message.transaction() as tx:
        tx.send("receipts", 2)
    assert_sent(shop.receipts, 2)


def test_shed_deduplicated_and_replaced_messages(shop: Shop) -> None:
    full = shop.dq.queue("full", max_backlog=1, on_full="shed")
    full.send(1)
    assert full.send(2) == ""
    assert [one.body for one in sent(full)] == [1]
    shop.receipts.send(1, deduplication_id="d")
    shop.receipts.send(2, deduplication_id="d")
    assert [one.body for one in sent(shop.receipts)] == [1]
    newest = shop.dq.queue("newest")
    newest.send(1, replace_key="r")
    newest.send(2, replace_key="r")
    assert [one.body for one in sent(newest)] == [1, 2]


def test_the_sends_of_a_test_are_its_own(shop: Shop) -> None:
    another = Shop()
    with fresh(another.dq):
        another.orders.send({"order": 1})
        assert_not_sent(shop.orders)
        assert_sent(another.orders)
    with pytest.raises(InvalidInput, match="not a store of this test"):
        sent(another.orders)


@pytest.mark.parametrize("queue", ["orders", None, 7])
def test_a_queue_is_given_itself(queue: Any) -> None:
    for function in (sent, assert_sent, assert_not_sent):
        with pytest.raises(InvalidInput, match=r'Give the queue itself, dq\.queue\("orders"\)'):
            function(queue)


@pytest.mark.parametrize("count", [-1, True, "1", 1.0])
def test_a_count_is_a_number(shop: Shop, count: Any) -> None:
    with pytest.raises(InvalidInput, match="count is a whole number"):
        assert_sent(shop.orders, count=count)


def test_sends_that_join_a_transaction_count_once_it_has_committed() -> None:
    shop = Shop()
    with fresh(shop.dq, store="file"):
        shop.create_ledger()
        with shop.dq.engine.connect() as connection:
            with connection.begin() as transaction:
                shop.orders.send({"order": 1}, connection=connection)
                transaction.rollback()
            with connection.begin():
                shop.orders.send({"order": 2}, connection=connection)
                assert_not_sent(shop.orders)
        assert [one.body for one in sent(shop.orders)] == [{"order": 2}]
        with shop.dq.engine.begin() as connection:
            shop.orders.send({"order": 3}, connection=connection)
        run_pending(shop.dq)  # it is handled before anybody asks
        assert [one.body for one in sent(shop.orders)] == [{"order": 2}, {"order": 3}]


def test_a_queue_of_the_application_is_the_same_by_name(shop: Shop) -> None:
    queue: Queue = shop.dq.queue("receipts")
    queue.send(1)
    assert_sent(shop.receipts, 1)
