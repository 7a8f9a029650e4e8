"""The metrics that only the workers of a fleet know, read from the memory that they share."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from durableq.supervisor.histograms import BOUNDS, FleetHistograms, Histogram


class FleetMetrics(Collector):
    """Reads the histograms of a fleet at each collection.

    Args:
        histograms: the fleet's.
    """

    def __init__(self, histograms: FleetHistograms) -> None:
        self._histograms = histograms

    def collect(self) -> Iterator[Metric]:
        """Return the metrics of this moment."""
        handler = HistogramMetricFamily(
            "durableq_handler_seconds",
            "Duration of the handler calls of this fleet.",
            labels=["queue"],
        )
        wait = HistogramMetricFamily(
            "durableq_wait_seconds",
            "Time from the arrival of a message in the queue to its first handler call.",
            labels=["queue"],
        )
        failures = CounterMetricFamily(
            "durableq_handler_failures",
            "Handler calls of this fleet that failed a message.",
            labels=["queue"],
        )
        for name, times in sorted(self._histograms.read().items()):
            for family, histogram in ((handler, times.handler), (wait, times.wait)):
                family.add_metric([name], _buckets(histogram), histogram.sum_seconds)
            failures.add_metric([name], times.failed)
        yield from (handler, wait, failures)
        yield CounterMetricFamily(
            "durableq_worker_starts",
            "Worker processes that this fleet has started, replacements included.",
            self._histograms.starts,
        )


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """Return the upper bounds with the number of values up to each."""
    bounds = [*map(str, BOUNDS), "+Inf"]
    return [*zip(bounds, accumulate(histogram.buckets), strict=True)]
