"""The metrics that a database knows: they survive restarts, and any process reads the same."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from durableq.admin.status import Overview, QueueView, look
from durableq.model.flow.breaker import Phase
from durableq.store.core import Store

#: The values of durableq_breaker_state and durableq_recovery_breaker_state.
PHASES: Final = {Phase.CLOSED: 0, Phase.HALF_OPEN: 1, Phase.OPEN: 2}
#: The states of durableq_workers that each queue has, with 0 where no worker is in one.
WORKER_STATES: Final = ("starting", "idle", "working", "draining", "dead", "unknown")


class _OfQueue(NamedTuple):
    """A metric with the label `queue` alone."""

    name: str
    text: str
    #: None: this queue has no such value, because the limit is off.
    value: Callable[[QueueView], float | None]


_COUNTERS: Final = (
    _OfQueue("sent", "Messages sent to the queue.", lambda v: v.counters.sent),
    _OfQueue("completed", "Messages that ended in success.", lambda v: v.counters.completed),
    _OfQueue(
        "duplicates",
        "Messages skipped because their idempotency key had succeeded.",
        lambda v: v.counters.duplicates,
    ),
    _OfQueue("dead", "Messages moved to the queue's dead-letter queue.", lambda v: v.buried),
    _OfQueue("redriven", "Dead letters of the queue that were sent back.", lambda v: v.redriven),
    _OfQueue("discarded", "Dead letters discarded by a decision.", lambda v: v.counters.discarded),
    _OfQueue("expired", "Messages ended by retention or expires_in.", lambda v: v.counters.expired),
    _OfQueue("cancelled", "Messages cancelled on request.", lambda v: v.counters.cancelled),
    _OfQueue("purged", "Messages purged on request.", lambda v: v.counters.purged),
    _OfQueue(
        "replaced", "Messages replaced by a newer one of their key.", lambda v: v.counters.replaced
    ),
    _OfQueue(
        "shed", "Messages dropped at send because the queue was full.", lambda v: v.counters.shed
    ),
    _OfQueue(
        "deduplicated",
        "Sends that stored nothing because of their deduplication id.",
        lambda v: v.counters.deduplicated,
    ),
)
_GAUGES: Final = (
    _OfQueue(
        "oldest_ready_seconds",
        "Age of the oldest ready message; 0 without one.",
        lambda v: _age_seconds(v.info.oldest_ready_ms),
    ),
    _OfQueue("queue_paused", "1 while the queue is paused.", lambda v: int(v.info.settings.paused)),
    _OfQueue(
        "breaker_state",
        "Circuit breaker of the queue: 0 closed, 1 half-open, 2 open.",
        lambda v: None if v.info.limits.breaker is None else PHASES[v.info.limits.breaker],
    ),
    _OfQueue(
        "rate_room", "Messages that the queue's rate allows now.", lambda v: v.info.limits.tokens
    ),
    _OfQueue(
        "in_flight_room",
        "Messages that max_in_flight allows now.",
        lambda v: v.info.limits.places,
    ),
    _OfQueue("retry_room", "Retries that retry_share allows now.", lambda v: v.info.limits.retries),
    _OfQueue(
        "backlog_bytes",
        "Bytes of the stored bodies, where max_backlog_bytes is set.",
        lambda v: v.info.limits.backlog_bytes,
    ),
)


class DatabaseMetrics(Collector):
    """Reads a database at each collection.

    Args:
        store: an open store.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def collect(self) -> Iterator[Metric]:
        """Return the metrics of this moment."""
        seen = look(self._store)
        yield from _of_queues(seen)
        yield _messages(seen)
        yield _workers(seen)
        yield from _of_file(seen)


def _age_seconds(at_ms: int | None) -> float:
    return 0.0 if at_ms is None else max(0.0, time.time() - at_ms / 1000)


def _of_queues(seen: Overview) -> Iterator[Metric]:
    for kind, metrics in ((CounterMetricFamily, _COUNTERS), (GaugeMetricFamily, _GAUGES)):
        for metric in metrics:
            family = kind(f"durableq_{metric.name}", metric.text, labels=["queue"])
            for view in seen.queues:
                value = metric.value(view)
                if value is not None:
                    family.add_metric([view.info.name], value)
            yield family


def _messages(seen: Overview) -> Metric:
    family = GaugeMetricFamily(
        "durableq_messages",
        "Messages by state; dead and held ones are in the dead-letter queue, held ones wait for a "
        "person.",
        labels=["queue", "state"],
    )
    for view in seen.queues:
        counts, dead = view.info.counts, view.dead_letters
        for state in ("ready", "delayed", "in_flight", "blocked"):
            family.add_metric([view.info.name, state], getattr(counts, state))
        family.add_metric([view.info.name, "dead"], dead.present - dead.held)
        family.add_metric([view.info.name, "held"], dead.held)
    return family


def _workers(seen: Overview) -> Metric:
    family = GaugeMetricFamily(
        "durableq_workers",
        "Registered workers and recovery processes, by each queue that they receive from.",
        labels=["queue", "state"],
    )
    numbers = Counter({(view.info.name, one): 0 for view in seen.queues for one in WORKER_STATES})
    for worker in seen.workers:
        # A worker of release 0.1 has not said which queues it receives from.
        names = [""] if worker.info.queues is None else worker.info.queues
        numbers.update((name, worker.state) for name in names)
    for labels, number in numbers.items():
        family.add_metric(labels, number)
    return family


def _of_file(seen: Overview) -> Iterator[Metric]:
    breaker = GaugeMetricFamily(
        "durableq_recovery_breaker_state",
        "Circuit breaker of recovery: 0 closed, 1 half-open, 2 open.",
        labels=["queue"],
    )
    for name, state in seen.breakers.items():
        breaker.add_metric([name], PHASES[state.phase])
    yield breaker
    keys = GaugeMetricFamily(
        "durableq_idempotency_keys", "Idempotency keys by status.", labels=["status"]
    )
    for status, number in seen.keys._asdict().items():
        keys.add_metric([status], number)
    yield keys
    kept = seen.storage
    for name, text, value in (
        ("database_bytes", "Size of the file, or of the tables.", kept.size_bytes),
        ("wal_bytes", "Size of the write-ahead log; 0 on PostgreSQL.", kept.log_bytes),
    ):
        yield GaugeMetricFamily(f"durableq_{name}", text, value)
    info = GaugeMetricFamily(
        "durableq_info", "1, with the storage as labels.", labels=["engine", "version"]
    )
    info.add_metric([kept.engine, kept.version], 1)
    yield info
