"""The numbers of dead letters, of queues that share a dead-letter queue."""

from pathlib import Path
from typing import Any

import pytest

from durableq import DurableQ
from tests.cli.console import Run
from tests.cli.findings import findings
from tests.cli.test_metrics import read, value


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, run: Run, tmp_path: Path) -> str:
    """A database in which `failed` has two dead letters of `orders`, and a message of its own."""
    is_file = request.param == "sqlite"
    url = str(tmp_path / "shop.db") if is_file else request.getfixturevalue("postgres_url")
    with DurableQ(url) as dq:
        failed = dq.queue("failed")
        for name in ("mail", "orders"):
            dq.queue(name, dead_letter_queue="failed")
        orders = dq.queue("orders")
        for body in range(3):
            orders.send(body)
            orders.receive()[0].reject("no")
        failed.send("sent")
        store: Any = dq.store
        first, *_ = store.peek("failed", 9)
    run("dlq", "redrive", first.id, "--db", url)
    return url


def test_status_has_them_at_their_queue_only(run: Run, url: str) -> None:
    queues = run("status", "--json", "--db", url).json["queues"]
    dead = {queue["name"]: queue["dead"]["present"] for queue in queues if "dead" in queue}
    assert dead == {"failed": 0, "mail": 0, "orders": 2}
    names = [queue["name"] for queue in queues]
    assert sorted(names) == ["failed", "failed-dlq", "mail", "orders"], "each once"
    rows = {line.split()[0]: line.split()[1:6] for line in run("status", "--db", url).lines if line}
    assert rows["orders"] == ["1", "0", "0", "2", "0"]
    assert rows["mail"] == ["0", "0", "0", "0", "0"]
    assert rows["failed"] == ["3", "0", "0", "0", "0"]


@pytest.mark.parametrize("command", ["list", "groups"])
def test_their_list_says_whose_dead_letters_come_to_a_queue(
    run: Run, url: str, command: str
) -> None:
    says = (
        "Dead letters of mail, orders come to failed. They are listed by the queue where they "
        "failed: --queue mail."
    )
    asked = run("dlq", command, "--queue", "failed", "--db", url)
    assert asked.code == 0
    assert says in " ".join(asked.err.split())
    assert says not in " ".join(run("dlq", command, "--queue", "orders", "--db", url).err.split())


def test_metrics_count_them_once(run: Run, url: str) -> None:
    found = read(run("metrics", "--db", url).out)
    dead = {name: value(found, "messages", queue=name, state="dead") for name in ("mail", "orders")}
    assert dead == {"mail": 0, "orders": 2}
    for metric, wanted in (("dead", 3), ("redriven", 1), ("sent", 3)):
        assert value(found, f"{metric}_total", queue="orders") == wanted, metric
        assert value(found, f"{metric}_total", queue="mail") == 0, metric
    assert value(found, "sent_total", queue="failed") == 1


def test_the_threshold_is_for_dead_letters_not_for_messages(run: Run, url: str) -> None:
    within = findings(run("doctor", "--json", "--max-dead=2", "--db", url))
    assert within["thresholds"]["level"] == "ok"
    over = findings(run("doctor", "--json", "--max-dead=1", "--db", url))
    assert over["max_dead"]["what"] == "failed: dead letters 2, threshold 1"
