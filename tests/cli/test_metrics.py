"""`durableq metrics`: its numbers are those of `status --json`, and Prometheus can read them."""

from __future__ import annotations

import builtins
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from durableq import DurableQ, metrics
from durableq.metrics.database import PHASES, WORKER_STATES
from durableq.model.flow.breaker import Phase
from durableq.model.info import WorkerStats
from durableq.recovery.circuit_breaker import METADATA_PREFIX, BreakerState
from durableq.supervisor.liveness import this_process
from tests.cli.console import COMMAND, Result, Run, Shop, environment
from tests.support import scaled, wait_for

ODD = "A.b-c_9"
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def read(text: str) -> Samples:
    """Return the samples of a text, as the library's own parser reads them."""
    families = [*text_string_to_metric_families(text)]
    assert all(family.documentation for family in families)
    found = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }
    assert len(found) == sum(len(family.samples) for family in families)
    return found


def value(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((f"durableq_{name}", frozenset(labels.items())))


def fill(dq: DurableQ) -> None:
    """Leave messages in each state, limits, a worker and the breaker of recovery."""
    orders = dq.queue("orders", max_receives=1, max_in_flight=4, breaker=True)
    dq.queue(ODD, paused=True).send(1)
    orders.send(0, key="private-key")
    orders.receive()[0].complete()
    orders.send(1)
    orders.receive()[0].fail("boom")
    orders.send(2, delay=3600)
    orders.send_many([3, 4, 5])
    dq.queue("orders", rate=5, burst=5)
    store: Any = dq.store
    me = store.register(this_process("worker-1:17"))
    store.receive("orders", 1, owner_id=me.owner_id)
    store.beat(me.owner_id, WorkerStats("working", 40, 2, 1, 1), queues=["orders", ODD])
    state = BreakerState(Phase.OPEN, since_ms=1_000).to_json()
    assert store.compare_and_set(f"{METADATA_PREFIX}orders", state, expected=None)


def expected_of(queue: dict[str, Any], dead: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the metrics of a queue, as `status --json` tells them."""
    ends = "completed duplicates discarded expired cancelled purged replaced shed deduplicated"
    for name in ends.split():
        yield f"{name}_total", queue["counters"][name] + dead["counters"][name]
    yield "sent_total", queue["counters"]["sent"]
    yield "dead_total", dead["counters"]["moved_in"]
    yield "redriven_total", dead["counters"]["moved_out"]
    yield "queue_paused", queue["paused"]
    limits = queue["limits"]
    yield "breaker_state", limits["breaker"] and PHASES[Phase(limits["breaker"])]
    yield "in_flight_room", limits["places"]
    yield "retry_room", limits["retries"]
    yield "backlog_bytes", limits["backlog_bytes"]


def assert_equal_to_status(run: Run, url: str) -> None:
    before = run("status", "--json", "--db", url).json
    printed = run("metrics", "--db", url)
    assert (printed.code, printed.err) == (0, "")
    found = read(printed.out)
    queues = {queue["name"]: queue for queue in before["queues"]}
    for name in ("orders", ODD):
        queue, dead = queues[name], queues[f"{name}-dlq"]
        for metric, wanted in expected_of(queue, dead):
            assert value(found, metric, queue=name) == wanted, metric
        counts = {state: queue["counts"][state] for state in queue["counts"] if state != "held"}
        counts |= {
            "dead": dead["counts"]["ready"] + dead["counts"]["delayed"],
            "held": dead["counts"]["held"],
        }
        for state, number in counts.items():
            assert value(found, "messages", queue=name, state=state) == number, state
        numbers = [value(found, "workers", queue=name, state=state) for state in WORKER_STATES]
        assert numbers == [0, 0, 1, 0, 0, 0], "the one that works"
    assert value(found, "recovery_breaker_state", queue="orders") == 2
    assert value(found, "idempotency_keys", status="completed") == 1
    assert value(found, "wal_bytes") == before["storage"]["log_bytes"]
    assert value(found, "rate_room", queue="orders") in {3, 4, 5, 2, 1, 0}
    assert value(found, "rate_room", queue=ODD) is None, "it has no rate"
    assert (value(found, "oldest_ready_seconds", queue="orders") or 0) > 0
    assert {label for _, labels in found for label, _ in labels} == {
        *("queue", "state", "status", "version", "engine")
    }
    assert "private-key" not in printed.out


def test_metrics_are_the_numbers_of_status(run: Run, tmp_path: Path) -> None:
    url = str(tmp_path / "shop.db")
    with DurableQ(url) as dq:
        fill(dq)
        assert read(metrics.exposition(dq.store).decode()).keys()
        assert_equal_to_status(run, url)


def test_metrics_of_postgresql_are_the_numbers_of_status(run: Run, postgres_url: str) -> None:
    with DurableQ(postgres_url) as dq:
        fill(dq)
        assert_equal_to_status(run, postgres_url)


def test_json_has_the_same_samples(run: Run, shop: Shop) -> None:
    shop.queue.send(1)
    families = run("metrics", "--json").json["metrics"]
    samples = {
        (one["name"], frozenset(one["labels"].items())): one["value"]
        for family in families
        for one in family["samples"]
    }
    assert samples.keys() == read(run("metrics").out).keys()
    assert value(samples, "messages", queue="orders", state="ready") == 1


def test_a_textfile_is_replaced_at_once_and_readable_by_others(
    run: Run, shop: Shop, tmp_path: Path
) -> None:
    target = tmp_path / "durableq.prom"
    target.write_text("old")
    os.link(target, tmp_path / "old")
    shop.queue.send(1)
    assert run("metrics", "--textfile", target) == (0, "", "")
    assert value(read(target.read_text()), "sent_total", queue="orders") == 1
    assert (tmp_path / "old").read_text() == "old", "it was renamed over the old file"
    assert target.stat().st_mode & 0o444 == 0o444
    assert not [*tmp_path.glob("*.prom.*")]


def refused(result: Result, code: int, *sentences: str) -> None:
    assert result.code == code
    assert result.out == ""
    assert all(sentence in result.err for sentence in sentences), result.err


@pytest.mark.usefixtures("shop")
def test_bad_arguments_are_refused(run: Run) -> None:
    refused(run("metrics", "--textfile", "x.txt"), 2, "end in .prom, got x.txt")
    refused(run("metrics", "--textfile", "no/x.prom"), 1, "no/x.prom cannot be written: No such")
    refused(run("metrics", "--listen", "x"), 2, "--listen is HOST:PORT", "got 'x'")
    refused(run("metrics", "--listen", "localhost:70000"), 2, "--listen is HOST:PORT")
    refused(run("metrics", "--listen", "192.0.2.1:9464"), 1, "192.0.2.1:9464 cannot be listened")
    refused(run("metrics", "--listen", ":1", "--textfile", "x.prom"), 2, "choose one")
    refused(run("work", "--metrics", "9465"), 2, "--metrics is HOST:PORT", "got '9465'")
    refused(run("metrics", "--db", "nowhere.db"), 3, "There is no database at nowhere.db")


@pytest.mark.usefixtures("shop")
def test_without_the_library_the_command_to_install_it_is_named(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [*sys.modules]:
        if name.partition(".")[0] == "prometheus_client":
            monkeypatch.delitem(sys.modules, name)
    ours = builtins.__import__

    def without(name: str, *arguments: Any, **more: Any) -> Any:
        if name.partition(".")[0] == "prometheus_client":
            raise ModuleNotFoundError(name)
        return ours(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    refused(run("metrics"), 1, "pip install 'durableq[metrics]'")


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=scaled(10)) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_server_answers_with_the_numbers_of_now(shop: Shop, tmp_path: Path) -> None:
    said = tmp_path / "said"
    command = [*COMMAND, "metrics", "--listen", "127.0.0.1:0"]
    with (
        said.open("wb") as stderr,
        subprocess.Popen(command, cwd=tmp_path, env=environment(), stderr=stderr) as child,
    ):
        found = wait_for(lambda: re.search(r"http://\S+/metrics", said.read_text()), what="a URL")
        url = found[0]
        for number in range(2):
            assert value(read(get(url)[1]), "sent_total", queue="orders") == number
            shop.queue.send(1)
        assert get(url.replace("/metrics", "/other"))[0] == 404
        shop.dq.close()
        for file in tmp_path.glob("durableq.db*"):
            file.rename(tmp_path / f"{file.name}.away")
        status, text = get(url)
        assert status == 503
        assert "durableq.db" in text
        child.send_signal(signal.SIGINT)
        assert child.wait(scaled(30)) == 130
    assert "Traceback" not in said.read_text()
    assert said.read_text().count("the metrics cannot be read") == 1
