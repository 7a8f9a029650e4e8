"""The window of a receive: its arguments, its settings, and when it is over."""

from typing import Any

import pytest

from durableq import DurableQ, InvalidInput
from durableq.client.gathering import Gathering, gathering
from durableq.model.message import draft
from durableq.testing import FakeClock


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((10, 5, None), "min is the number of messages that a window ends with: give both"),
        ((None, None, 1), "A window gathers the messages of a batch: give limit too"),
        ((10, 11, 1), r"min \(11\) is more than limit \(10\)"),
        ((10, 0, 1), "min .* from 1 to"),
        ((10, 5, 0), "A window in ms .* from 1 to"),
        ((10, 5, float("nan")), "window is a number of seconds"),
    ],
)
def test_arguments_that_contradict_are_refused(arguments: Any, why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        gathering(*arguments)


def test_a_window_without_min_waits_for_a_full_batch() -> None:
    assert gathering(10, None, 0.5) == Gathering(10, 500)
    assert gathering(10, None, None) is None


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def dq(clock: FakeClock) -> DurableQ:
    return DurableQ("memory://", clock=clock)


def test_a_window_ends_when_there_are_enough_messages_or_the_first_has_waited(
    dq: DurableQ, clock: FakeClock
) -> None:
    queue, wanted = dq.queue("orders"), Gathering(3, 5_000)
    assert wanted.left_ms(dq.store, "orders") is None
    queue.send(1)
    assert wanted.left_ms(dq.store, "orders") == 5_000
    clock.advance(2)
    queue.send(2)
    assert wanted.left_ms(dq.store, "orders") == 3_000, "it counts from the first message"
    clock.advance(3)
    assert wanted.left_ms(dq.store, "orders") == 0
    queue.purge()
    queue.send_many([1, 2, 3])
    assert wanted.left_ms(dq.store, "orders") == 0


def test_a_message_waits_at_most_a_third_of_a_lease_that_was_shortened(
    dq: DurableQ, clock: FakeClock
) -> None:
    dq.queue("orders", visibility_timeout=3).send(1)
    assert Gathering(3, 5_000).left_ms(dq.store, "orders") == 1_000
    assert Gathering(3, 5_000, lease_ms=9_000).left_ms(dq.store, "orders") == 3_000


def test_the_end_of_a_window_that_is_not_there_yet_is_that_of_the_next_message(
    dq: DurableQ, clock: FakeClock
) -> None:
    dq.queue("orders").send(1, delay=7)
    assert Gathering(3, 5_000).left_ms(dq.store, "orders") == 7_000


@pytest.mark.parametrize(
    ("settings", "arguments", "why"),
    [
        (
            {"visibility_timeout": 3},
            {"window": 1.001},
            r"window of 1[.]001 s .* a third of the visibility_timeout of queue 'orders' \(3 s\)",
        ),
        ({"max_in_flight": 4}, {"min": 5, "window": 1}, r"min is 5, .* only 4 .*max_in_flight"),
    ],
)
def test_a_window_beyond_the_settings_of_its_queue_is_refused(
    dq: DurableQ, settings: Any, arguments: Any, why: str
) -> None:
    queue = dq.queue("orders", **settings)
    with pytest.raises(InvalidInput, match=why):
        queue.receive(10, **arguments)


def test_a_window_of_group_batches_is_refused(dq: DurableQ) -> None:
    with pytest.raises(InvalidInput, match="give window or group_by"):
        dq.handler("orders", batch=10, window=1, group_by="group")


def test_a_receive_with_an_empty_queue_ends_with_the_window() -> None:
    with DurableQ("memory://") as dq:
        assert dq.queue("orders").receive(5, window=0.05) == []


def test_a_receive_takes_fewer_when_its_window_is_over() -> None:
    with DurableQ("memory://") as dq:
        dq.store.declare_queue("orders", {})
        dq.store.send("orders", [draft(1), draft(2)])
        received = dq.queue("orders").receive(5, min=4, window=0.05)
        assert [one.body for one in received] == [1, 2]
