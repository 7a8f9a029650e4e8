"""The number of messages that a worker leases at a time."""

from __future__ import annotations

from itertools import pairwise

from durableq.worker.state import MAX_PREFETCH, AdaptivePrefetch


def test_a_fast_handler_gets_at_most_twice_as_many_messages_each_time() -> None:
    prefetch = AdaptivePrefetch()
    capacities = [prefetch.capacity("orders")]
    while capacities[-1] < MAX_PREFETCH:
        prefetch.record("orders", capacities[-1] * 20e-6, capacities[-1])
        capacities.append(prefetch.capacity("orders"))
    assert capacities[0] == 1
    assert len(capacities) <= 9
    assert all(after <= 2 * before + 1 for before, after in pairwise(capacities))


def test_a_handler_that_became_slow_gets_one_message_again_after_two() -> None:
    prefetch = AdaptivePrefetch()
    for _ in range(20):
        prefetch.record("orders", 100 * 20e-6, 100)
    for _ in range(2):
        prefetch.record("orders", 0.1)
    assert (prefetch.capacity("orders"), prefetch.capacity("another")) == (1, 1)


def test_one_interruption_among_many_messages_changes_little() -> None:
    prefetch = AdaptivePrefetch()
    for _ in range(20):
        prefetch.record("orders", 100 * 20e-6, 100)
    prefetch.record("orders", 100 * 20e-6 + 0.005, 100)
    assert prefetch.capacity("orders") == MAX_PREFETCH


def test_slow_receives_bring_more_messages_but_no_more_than_a_tenth_of_a_second_of_work() -> None:
    prefetch = AdaptivePrefetch()
    for _ in range(20):
        prefetch.record("orders", 0.0048)
    capacities = []
    for receive_seconds in (0.0003, 0.005, 5.0):
        for _ in range(20):
            prefetch.record_receive(receive_seconds)
        capacities.append(prefetch.capacity("orders"))
    assert capacities == [2, 10, 20]
