"""`status`, once and live; `explain`: why a message does not move; `queue pause` and `resume`."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from durableq import DurableQ, Hold
from durableq.admin.readers import ADVICE
from durableq.cli.output import sparkline
from durableq.model.flow.breaker import Phase
from durableq.model.info import WorkerStats
from durableq.recovery.circuit_breaker import METADATA_PREFIX, BreakerState
from durableq.store.core import WorkerInfo
from durableq.supervisor.liveness import this_process
from tests.cli.console import COMMAND, ROOT, Run, Shop, environment
from tests.engine import plain
from tests.support import scaled, wait_for


def test_a_sparkline_is_as_high_as_its_values() -> None:
    assert sparkline([0, 1, 4, 8]) == "▁▂▅█"
    assert sparkline([0, 0]) == "▁▁"
    assert sparkline([]) == ""


def test_status_shows_workers_as_they_and_the_system_report_them(run: Run, shop: Shop) -> None:
    shop.queue.send(1)
    me = shop.store.register(this_process("worker-1:17"))
    shop.store.receive("orders", 1, owner_id=me.owner_id)
    shop.store.beat(me.owner_id, WorkerStats("working", 40, 2, 1, 1))
    dead = shop.store.register(WorkerInfo("worker-2:18", os.getpid(), 1, me.boot_id, ""))
    shop.dq.close()
    alive, gone = run("status", "--json").json["workers"]
    assert alive == alive | {
        "name": "worker-1:17",
        "alive": True,
        "state": "working",
        "holds": 1,
        "holding": ["1"],
        "handled": 40,
        "failed": 2,
        "restarts": 0,
    }
    assert alive["rss_bytes"] > 1 << 20
    assert alive["cpu_percent"] >= 0
    assert (gone["holder"], gone["alive"], gone["rss_bytes"]) == (dead.owner_id, False, None)
    shown = run("status")
    assert "worker-1:17" in shown.out
    assert "working" in shown.out


def names_in(value: object) -> Iterator[str]:
    """Return the names in a document, except those of settings and queues."""
    if isinstance(value, list):
        for element in value:
            yield from names_in(element)
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield name
            yield from () if name == "settings" else names_in(inner)


def test_every_name_of_the_json_is_documented(run: Run, shop: Shop) -> None:
    shop.store.register(this_process("worker-1:17"))
    shop.dq.every("@daily", "tick", queue="orders")
    state = BreakerState(Phase.CLOSED, since_ms=1_000).to_json()
    assert shop.store.compare_and_set(f"{METADATA_PREFIX}orders", state, expected=None)
    shop.queue.send(1)
    (message,) = shop.queue.receive()
    message.progress(0.4)
    shop.dq.close()
    page = (ROOT / "docs" / "OPERATIONS.md").read_text()
    table = page.split("## Watching from a program", 1)[1].split("## ", 1)[0].split("|---|", 1)[1]
    told = set(re.findall(r"`(\w+)(?:\[\])?`", table)) - set(Phase) - {"null"}
    assert set(names_in(run("status", "--json").json)) - {"orders"} == told


def test_watching_prints_status_repeatedly_with_rates(shop: Shop, tmp_path: Path) -> None:
    shop.queue.send_many(range(5))
    command = [*COMMAND, "status", "--watch", "--every", "0.1", "--json"]
    out = tmp_path / "looks"
    with (
        out.open("wb") as stdout,
        subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=stdout) as child,
    ):

        def looks() -> list[str]:
            return out.read_text().rpartition("\n")[0].splitlines()

        wait_for(lambda: len(looks()) >= 2, what="two looks")
        before = len(looks())
        for delivery in shop.queue.receive(5):
            delivery.complete()

        def rate_was_seen() -> bool:
            documents = [json.loads(line)["queues"] for line in looks()[before - 1 :]]
            orders = [queues[0] for queues in documents]
            return any(queue["out_per_second"] for queue in orders)

        wait_for(rate_was_seen, what="a rate above 0")
        child.send_signal(signal.SIGINT)
        assert child.wait(scaled(30)) == 130
    first = json.loads(looks()[0])["queues"][0]
    assert first["in_per_second"] is None, "a rate needs two looks"


def test_a_paused_queue_takes_messages_and_gives_none(run: Run, shop: Shop) -> None:
    assert run("queue", "pause", "orders").lines == ["orders: paused."]
    assert run("queue", "pause", "orders").lines == ["orders: was paused already."]
    message_id = shop.queue.send("x")
    assert shop.queue.receive() == []
    why = run("explain", message_id, "--json").json
    assert why["state"] == "ready"
    assert why["because"][0].startswith("Queue 'orders' is paused: nothing is received from it.")
    assert "orders (paused)" in run("status").out
    assert run("status", "--json").json["queues"][0]["paused"] is True
    assert run("queue", "resume", "orders").lines == ["orders: resumed."]
    assert [delivery.id for delivery in shop.queue.receive()] == [message_id]
    assert run("queue", "pause", "nowhere").code == 3


def test_explain_names_the_wait_of_a_message(run: Run, shop: Shop) -> None:
    ready = shop.queue.send("ready")
    assert "No running worker is registered, so none handles 'orders'" in run("explain", ready).out
    delayed = shop.queue.send("later", delay=3600)
    assert "It is delayed until" in run("explain", delayed).out
    shop.dq.queue("orders", max_receives=5, backoff_base=600, backoff_max=600)
    (taken,) = shop.queue.receive()
    assert "It is with a receiver that is not registered" in run("explain", ready).out
    taken.fail(ValueError("card 17 refused"))
    assert "after receive 1 failed: ValueError: card 17 refused." in run("explain", ready).out


def test_explain_names_the_obstacle_of_a_message_that_is_due(run: Run, shop: Shop) -> None:
    """Without a receiver nothing is written: the message stays stored as delayed or in flight."""
    leased, delayed = shop.queue.send(1), shop.queue.send(2, delay=3600)
    shop.queue.receive()
    run("queue", "pause", "orders")
    paused = "Queue 'orders' is paused: nothing is received from it."
    waits, why = run("explain", delayed, "--json").json["because"]
    assert waits.startswith("It is delayed until")
    assert why.startswith(paused)
    plain.script(
        shop.path,
        "UPDATE durableq_message SET delayed_until_ms = 1 WHERE delayed_until_ms > 0;"
        "UPDATE durableq_message SET lease_until_ms = lease_until_ms - 60000 WHERE state = 1",
    )
    (why,) = run("explain", delayed, "--json").json["because"]
    assert why.startswith(paused)
    over, why = run("explain", leased, "--json").json["because"]
    assert "its lease has ended: the next receive of 'orders' counts that" in over
    assert why.startswith(paused)
    run("queue", "resume", "orders")
    none = f"No running worker is registered, so none handles 'orders'. {ADVICE}"
    assert run("explain", delayed, "--json").json["because"] == [
        none,
        "Its delay is over: the next receive of 'orders' may bring it.",
    ]
    assert run("explain", leased, "--json").json["because"] == [over, none]


def test_explain_names_the_holder_of_a_message_and_the_messages_behind_it(
    run: Run, shop: Shop
) -> None:
    me = shop.store.register(this_process("worker-1:17"))
    first, second = shop.queue.send(1, key="k"), shop.queue.send(1, key="k")
    received = shop.store.receive("orders", 2, owner_id=me.owner_id)
    assert [message.id for message in received.messages] == [first]
    assert f"with worker-1:17 (pid {os.getpid()}) right now" in run("explain", first).out
    behind = run("explain", second, "--json").json["because"][0]
    assert behind.startswith(f"Key k is in progress: message {first} has it, with worker-1:17")
    third = shop.queue.send(1, key="k")
    shop.store.complete([_completion(received.messages[0])])
    assert "has succeeded already" in run("explain", third).out


def _completion(message: object) -> object:
    from durableq.model.message import Completion, Message

    assert isinstance(message, Message)
    assert message.receipt is not None
    return Completion(message.receipt, None, message.key)


def test_explain_gives_the_reason_of_a_dead_letter_and_the_end_of_a_message(
    run: Run, shop: Shop
) -> None:
    dead_letter = shop.bury("x", ValueError("boom"))
    why = run("explain", dead_letter).out
    assert "dead, because the handler raised an exception (ValueError: boom)." in why
    assert "durableq recover" in why
    (message,) = shop.store.receive(shop.dead, 1).messages
    shop.store.decide([(message.receipt, Hold("ask Ann"))])
    held = run("explain", dead_letter, "--json").json
    assert held["state"] == "held"
    assert "it is held for a person: ask Ann. To decide: durableq dlq redrive" in held["because"][0]
    run("dlq", "discard", dead_letter, "--yes")
    ended = run("explain", dead_letter, "--json").json
    assert ended["state"] == "ended"
    assert "removed by a decision" in ended["because"][0]


def test_explain_refuses_an_unknown_message(run: Run, shop: Shop) -> None:
    shown = run("explain", "999")
    assert (shown.code, shown.out) == (3, "")
    assert "There is no message 999" in shown.err


@pytest.mark.parametrize("option", [["--every", "0"], ["--every", "never"]])
def test_watching_too_often_is_a_usage_error(option: list[str], run: Run, shop: Shop) -> None:
    assert run("status", "--watch", *option).code == 2


def test_a_workers_queue_is_worked_after_a_pause(shop: Shop) -> None:
    with DurableQ(shop.path) as other:
        other.store.declare_queue("orders", {"paused": 1})
        assert other.store.ready_in_ms(["orders"]) is None


def test_status_shows_the_circuit_breaker_of_recovery(run: Run, shop: Shop) -> None:
    opened = BreakerState(Phase.OPEN, since_ms=1_000, trips=2)
    assert shop.store.compare_and_set(f"{METADATA_PREFIX}orders", opened.to_json(), expected=None)
    assert run("status", "--json").json["breakers"] == {
        "orders": {"phase": "open", "since_ms": 1_000, "trips": 2}
    }
    (line,) = [line for line in run("status").lines if line.startswith("breaker of orders")]
    assert "open for" in line
    assert "opened 2 times in a row" in line
    first = BreakerState(Phase.OPEN, since_ms=1_000, trips=1)
    assert shop.store.compare_and_set(
        f"{METADATA_PREFIX}orders", first.to_json(), expected=opened.to_json()
    )
    assert "in a row" not in run("status").out


def test_status_and_show_have_the_progress_of_messages_in_flight(run: Run, shop: Shop) -> None:
    assert run("status", "--json").json["progress"] == []
    assert "PROGRESS" not in run("status").out
    shop.queue.send_many(range(12))
    messages = shop.queue.receive(12)
    for number, message in enumerate(messages):
        message.progress(number / 10 if number < 10 else 1, f"page {number} \x1b[1m" + "." * 100)
    shop.dq.close()
    told = run("status", "--json").json["progress"]
    assert [one["fraction"] for one in told[:5]] == [0, 0.1, 0.2, 0.3, 0.4]
    assert {*told[0]} == {"message_id", "queue", "fraction", "text", "at_ms"}
    shown = run("status").out
    (row,) = [line for line in shown.splitlines() if "page 4" in line]
    assert re.search(r"████░░░░░░  40 %  .* ago  page 4 \\e\[1m\.+…$", row)
    assert "page 10" not in shown
    assert "2 more: durableq status --json" in shown
    last = messages[-1].id
    told = re.escape(r"progress  100 %, page 11 \e[1m...")
    assert re.search(told + r"\.+, reported .* ago", run("show", last).out)
    assert run("show", last, "--json").json["progress"]["fraction"] == 1
    shop.queue.send("waits")
    assert run("show", "13", "--json").json["progress"] is None
