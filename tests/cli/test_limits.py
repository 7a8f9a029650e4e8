"""Limits as people see them: `status`, `explain`, `doctor` and `audit`."""

from __future__ import annotations

import re

import pytest

from durableq import Reject
from durableq.model.errors import DatabaseUnusable
from tests.cli.console import Run, Shop
from tests.cli.findings import OF_ORDERS, findings
from tests.engine import plain

IN_A_DAY = re.compile(r"rate: next token in 2[34] h")


@pytest.fixture
def limited(shop: Shop) -> Shop:
    """A shop whose queue has used its token of the day, and one of two places in flight."""
    shop.store.declare_queue("orders", {"rate": 1 / 86_400, "max_in_flight": 2})
    shop.queue.send_many(range(3))
    shop.queue.receive(1)
    return shop


@pytest.mark.usefixtures("limited")
def test_status_shows_the_state_of_each_limit(run: Run) -> None:
    shown = run("status")
    (line,) = [line for line in shown.lines if line.startswith("limits of orders")]
    assert "in flight: 1 of 2" in line
    assert IN_A_DAY.search(line)
    orders, dead = (one["limits"] for one in run("status", "--json").json["queues"])
    assert (orders["tokens"], orders["in_flight"], orders["places"]) == (0, 1, 2)
    assert 86_300_000 < orders["next_token_ms"] <= 86_400_001
    assert set(dead.values()) == {None, 1.0}


@pytest.mark.usefixtures("limited")
def test_explain_names_the_rate(run: Run) -> None:
    (because,) = run("explain", 2, "--json").json["because"][-1:]
    assert IN_A_DAY.match(because)


def test_explain_names_the_places_in_flight(run: Run, shop: Shop) -> None:
    shop.store.declare_queue("orders", {"max_in_flight": 2})
    shop.queue.send_many(range(3))
    shop.queue.receive(2)
    (because,) = run("explain", 3, "--json").json["because"][-1:]
    assert because.startswith("in flight: 2 of 2. ")


def test_explain_names_the_group_that_blocks_a_message(run: Run, shop: Shop) -> None:
    shop.store.declare_queue("orders", {"group_concurrency": 1, "group_on_dead": 1})
    shop.queue.send_many(range(3), group="customer 7")
    assert "limits of orders  groups: 2 blocked" in run("status").out
    shop.queue.receive()
    explained = run("explain", 3, "--json").json
    assert explained["state"] == "blocked"
    behind, head = explained["because"][-2:]
    assert behind == (
        "It is blocked behind message 1 of its group customer 7, of which 1 is active at most "
        "(group_concurrency)."
    )
    assert head.startswith("Message 1: It is with a receiver that is not registered as a worker")


def test_explain_names_the_dead_letter_that_holds_a_group(run: Run, shop: Shop) -> None:
    shop.store.declare_queue("orders", {"group_concurrency": 1, "group_on_dead": 1})
    shop.queue.send_many(range(2), group="a")
    [message] = shop.queue.receive()
    message.fail(Reject("never"))
    assert run("explain", 2, "--json").json["because"][-1] == (
        "It is blocked: message 1 of its group a is a dead letter, and holds it until it is "
        "decided (group_on_dead is hold; see durableq dlq)."
    )


def test_a_message_that_a_limit_lets_through_is_ready(run: Run, shop: Shop) -> None:
    shop.store.declare_queue("orders", {"max_in_flight": 2, "rate": 100})
    shop.queue.send(1)
    assert "the next receive of 'orders' may bring it" in run("explain", 1).out


def test_doctor_shows_limits(run: Run, limited: Shop) -> None:
    limited.dq.close()
    (found,) = [one for one in run("doctor", "--json").json["findings"] if one["check"] == "limits"]
    assert found["level"] == "ok"
    assert "in flight: 1 of 2" in found["what"]
    assert IN_A_DAY.search(found["what"])


def test_audit_counts_the_messages_in_flight(run: Run, limited: Shop) -> None:
    """SQLite has a counter for a high limit; it counts the leases where few may be in flight."""
    limited.store.declare_queue("orders", {"max_in_flight": 200})
    limited.dq.close()
    right = findings(run("audit", "--json"))["in_flight"]
    assert (right["level"], right["queue"]) == ("ok", "orders")
    plain.script(limited.path, "UPDATE durableq_counters SET in_flight = 2 WHERE " + OF_ORDERS)
    shown = run("audit", "--json")
    wrong = findings(shown)["in_flight"]
    assert shown.code == 6
    assert "1 messages in flight, but their counter says 2" in wrong["what"]
    run("queue", "set", "orders", "--max-in-flight", "off")
    run("queue", "set", "orders", "--max-in-flight", "200")
    assert findings(run("audit", "--json"))["in_flight"]["level"] == "ok"


def test_the_state_of_limits_is_audited(run: Run, limited: Shop) -> None:
    limited.dq.close()
    plain.script(limited.path, "DELETE FROM durableq_counters WHERE " + OF_ORDERS)
    assert findings(run("audit", "--json"))["queues_without_counters"]["level"] == "bad"
    with pytest.raises(DatabaseUnusable, match="state of a queue's limits is missing"):
        limited.queue.receive(1)
