"""Samples become the lines of charts."""

import json

from durableq import DurableQ
from durableq.dashboard import charts
from durableq.model.info import QueueInfo, Sample
from durableq.model.queues import Counters, Counts
from durableq.store.core import Capability
from tests.dashboard.client import Client

NOW = 1_800_000_000_000
MINUTE = 60_000


def sample(minutes_ago: int, sent: int, completed: int) -> Sample:
    counters = Counters(sent=sent, completed=completed)
    return Sample(NOW - minutes_ago * MINUTE, counters, Counts(ready=sent - completed))


def info(dq: DurableQ, of: Sample) -> QueueInfo:
    found = dq.store.require(Capability.INSPECT).queue("orders")
    return QueueInfo(
        found.name, found.settings, found.dead_letter_queue, of.counters, of.counts, None
    )


def test_a_day_has_rates_between_samples(dq: DurableQ) -> None:
    found = charts.day(
        [sample(30, 0, 0), sample(20, 1200, 600)], info(dq, sample(0, 1200, 1200)), NOW
    )
    assert found is not None
    lines = json.loads(found.lines)
    assert [NOW // 1000 - at for at in lines["at"]] == [1800, 1200, 0]
    assert lines["depth"] == [[0, 600, 0], [0, 0, 0], [0, 0, 0]]
    assert lines["rates"] == [[None, 2.0, 0.0], [None, 1.0, 0.5]]
    assert (found.sent, found.ended, found.most) == (1200, 1200, 600)
    assert charts.day([], info(dq, sample(0, 0, 0)), NOW) is None


def test_a_sparkline_begins_at_its_left_edge(dq: DurableQ) -> None:
    found = charts.spark([sample(60, 4, 0), sample(15, 2, 0)], info(dq, sample(0, 0, 0)), NOW)
    assert found == charts.Spark("0.0,0.0 0.0,8.0 80.0,16.0", 0, 4)
    assert charts.spark([], info(dq, sample(0, 0, 0)), NOW) is None


def test_pages_have_charts_once_there_are_samples(dq: DurableQ, client: Client) -> None:
    assert "24 hours" not in client.page("/queues/orders").text
    dq.queue("orders").send_many([1, 2, 3])
    assert dq.store.require(Capability.MAINTENANCE).maintain().due
    dq.queue("orders").send_many([4, 5])
    page = client.page("/queues/orders")
    assert "2 sent, 0 ended, 5 messages at most" in page.text
    assert page.values("svg", "aria-label") == []
    assert client.page("/").values("svg", "aria-label") == [
        "0 to 0 messages",
        "3 to 5 messages",
    ]
