"""`work --metrics`: the histograms of a fleet, over all processes of its workers."""

from __future__ import annotations

import signal
import urllib.request
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from durableq import DurableQ
from tests.process.child import Nursery, Supervisor
from tests.support import scaled, wait_for

CODE = """
import os, signal, time
from durableq import DurableQ, Reject

dq = DurableQ()


@dq.handler("orders")
def act(message):
    if message.body == "reject":
        raise Reject("no")
    if message.body == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(message.body)


@dq.handler("batches", batch=10)
async def act_on_batch(batch):
    return {"batchItemFailures": [{"itemIdentifier": batch[0].id}]}
"""


class Scraped:
    """The answer of a fleet, by name and queue."""

    def __init__(self, url: str) -> None:
        with urllib.request.urlopen(url, timeout=scaled(10)) as answer:
            families = text_string_to_metric_families(answer.read().decode())
            self._samples = [sample for family in families for sample in family.samples]

    def __call__(self, name: str, queue: str = "", le: str = "") -> float:
        wanted = {"queue": queue, "le": le}
        labels = {name: value for name, value in wanted.items() if value}
        found = [one.value for one in self._samples if (one.name, one.labels) == (name, labels)]
        return found[0] if found else 0


def start(db: Path, folder: Path, nursery: Nursery) -> tuple[Supervisor, str]:
    (folder / "shop.py").write_text(CODE)
    fleet = nursery.fleet(db, app="shop:dq", cwd=folder, procs=2, metrics="127.0.0.1:0")
    said = fleet.wait_event("metrics")
    fleet.wait_event("ready", times=2)
    return fleet, said.text.rpartition(" ")[2]


def test_the_histograms_of_a_fleet_survive_its_workers(
    dq: DurableQ, db: Path, tmp_path: Path, nursery: Nursery
) -> None:
    orders = dq.queue("orders", max_receives=1)
    orders.send_many([0, 0, 0.06, "reject"])
    orders.send(0, delay=0.2)
    dq.queue("batches", max_receives=1).send_many(range(3))
    fleet, url = start(db, tmp_path, nursery)
    count = "durableq_handler_seconds_count"
    fleet.wait_until(lambda: Scraped(url)(count, "orders") == 5, "five calls")
    orders.send_many(["die"])
    fleet.wait_event("ready", times=3)
    fleet.process.send_signal(signal.SIGHUP)
    fleet.wait_event("ready", times=5)
    orders.send_many([0])
    fleet.wait_until(lambda: Scraped(url)(count, "orders") == 6, "another call")
    now = Scraped(url)
    assert now("durableq_handler_seconds_bucket", "orders", "0.05") <= 5, "one slept for longer"
    assert now("durableq_handler_seconds_bucket", "orders", "+Inf") == 6
    assert 0.06 <= now("durableq_handler_seconds_sum", "orders") < scaled(5)
    assert now("durableq_wait_seconds_count", "orders") == 7, "the killed one was called too"
    assert 0.2 <= now("durableq_wait_seconds_sum", "orders") < scaled(60)
    assert now("durableq_handler_failures_total", "orders") == 1
    wait_for(lambda: Scraped(url)("durableq_wait_seconds_count", "batches") == 3, what="a batch")
    now = Scraped(url)
    assert now(count, "batches") == now("durableq_handler_failures_total", "batches") >= 1
    assert now("durableq_worker_starts_total") == 5
