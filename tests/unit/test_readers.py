"""The queues that running workers receive from, according to their registration."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from durableq.admin.readers import Readers
from durableq.model.info import QueueInfo, WorkerInfo
from durableq.model.queues import Counters, Counts
from durableq.model.settings import QueueSettings
from durableq.supervisor.liveness import FRESH_BEAT_MS, this_process

ME = this_process("worker-1")
HIDDEN = replace(ME, pid_namespace="pid:[1]")


def reading(*queues: str, worker: WorkerInfo = ME) -> WorkerInfo:
    return replace(worker, queues=queues)


def queue(
    name: str = "orders", *, paused: int = 0, dead: str | None = "orders-dlq", **counts: int
) -> QueueInfo:
    return QueueInfo(name, QueueSettings(paused=paused), dead, Counters(), Counts(**counts), None)


def test_workers_count_for_the_queues_that_they_registered() -> None:
    readers = Readers([reading("orders", "mail"), reading("orders"), reading()])
    assert [readers.of(name) for name in ("orders", "mail", "legacy")] == [2, 1, 0]


def test_a_dead_worker_handles_nothing() -> None:
    assert Readers([replace(reading("orders"), created_ms=1)]).of("orders") == 0


def test_a_worker_of_an_older_revision_may_handle_any_queue() -> None:
    readers = Readers([ME, reading("mail")])
    assert (readers.of("mail"), readers.of("orders")) == (1, None)
    assert readers.neglect(queue(ready=1)) == ""
    assert Readers([replace(ME, created_ms=1)]).of("orders") == 0


@pytest.mark.parametrize(("silent_ms", "number"), [(0, 1), (FRESH_BEAT_MS + 1_000, 0)])
def test_a_worker_of_another_container_counts_while_its_beat_is_fresh(
    silent_ms: int, number: int
) -> None:
    beat_at_ms = int(time.time() * 1000) - silent_ms
    worker = replace(reading("orders", worker=HIDDEN), beat_at_ms=beat_at_ms)
    assert Readers([worker]).of("orders") == number


def test_a_backlog_without_a_worker_is_named_with_the_queues_of_the_workers() -> None:
    others = Readers([reading("e", "a", "b", "c", "d", "orders-dlq")])
    assert others.neglect(queue(ready=2, delayed=1, in_flight=7)) == (
        "no running worker handles 'orders'; those that run handle 'a', 'b', 'c' and 2 more; "
        "3 messages wait there"
    )
    assert Readers([reading("orders-dlq")]).neglect(queue(ready=1)) == (
        "no running worker is registered, so none handles 'orders'; 1 message waits there"
    )


@pytest.mark.parametrize(
    "info",
    [
        queue(in_flight=1),
        queue(),
        queue(ready=1, paused=1),
        queue("orders-dlq", dead=None, ready=5),
    ],
    ids=["empty but for leases", "empty", "paused", "dead-letter queue"],
)
def test_a_queue_that_needs_no_worker_is_no_finding(info: QueueInfo) -> None:
    assert Readers([]).neglect(info) == ""
