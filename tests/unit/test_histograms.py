"""The histograms that workers add to and their supervisor reads."""

from __future__ import annotations

import os
import time
from types import SimpleNamespace
from typing import Any

import pytest

from durableq.supervisor.histograms import (
    BOUNDS,
    QUEUES,
    FleetHistograms,
    QueueTimes,
    WorkerHistograms,
)

LONGEST_NAME = "q" * 80


def delivery(waited_ms: int, receive_count: int = 1) -> Any:
    arrived_ms = time.time_ns() // 1_000_000 - waited_ms
    message = SimpleNamespace(enqueued_at_ms=arrived_ms, receive_count=receive_count)
    return SimpleNamespace(message=message)


def test_the_supervisor_reads_the_times_that_a_worker_records() -> None:
    ours = WorkerHistograms()
    theirs = WorkerHistograms(os.dup(ours.fileno))
    for ns in (1_000_000, 1_000_001, 10**18):
        theirs.end("orders", ns, failed=ns > 10**9)
    theirs.begin(LONGEST_NAME, [delivery(20_000), delivery(60_000, 2), delivery(-5_000)])
    theirs.close()
    found = ours.read()
    ours.close()
    assert [*found] == ["orders", LONGEST_NAME]
    handler = found["orders"].handler
    assert (handler.buckets[0], handler.buckets[1], handler.buckets[-1]) == (1, 1, 1)
    assert sum(handler.buckets) == 3
    assert handler.sum_seconds == pytest.approx(1e9 + 0.002, abs=1e-3)
    assert found["orders"].failed == 1
    wait = found[LONGEST_NAME].wait
    assert sum(wait.buckets) == 2, "a retry is not counted"
    assert wait.buckets[BOUNDS.index(30.0)] == 1
    assert wait.buckets[0] == 1, "a clock that differs makes no negative wait"


def test_the_memory_of_an_ended_worker_goes_to_the_next() -> None:
    fleet = FleetHistograms()
    first, second = fleet.take(), fleet.take()
    first.end("a", 1, failed=False)
    second.end("b", 1, failed=False)
    second.end("a", 1, failed=True)
    fleet.give_back(first)
    third = WorkerHistograms(os.dup(fleet.take().fileno))
    third.end("c", 1, failed=False)
    third.end("a", 1, failed=False)
    third.close()
    assert fleet.starts == 3
    found = fleet.read()
    fleet.close()
    assert {name: sum(times.handler.buckets) for name, times in found.items()} == {
        "a": 3,
        "c": 1,
        "b": 1,
    }
    assert found["a"].failed == 1
    assert sum((found["a"] + found["b"] + QueueTimes()).handler.buckets) == 4


def test_queues_beyond_the_memory_are_not_recorded() -> None:
    histograms = WorkerHistograms()
    for number in range(QUEUES + 1):
        histograms.end(f"queue-{number}", 1, failed=False)
        histograms.begin(f"queue-{number}", [delivery(1)])
    found = histograms.read()
    histograms.close()
    assert len(found) == QUEUES
    assert all(sum(times.wait.buckets) == 1 for times in found.values())
