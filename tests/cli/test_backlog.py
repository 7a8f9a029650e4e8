"""Backlog limits as people see them."""

from __future__ import annotations

import pytest

from tests.cli.console import Run, Shop


@pytest.fixture
def full(shop: Shop) -> Shop:
    """A shop whose queue has as many messages as it may have, and room for bytes."""
    shop.store.declare_queue("orders", {"max_backlog": 3, "max_backlog_bytes": 1_000})
    shop.queue.send_many(["abc"] * 3)
    shop.queue.receive(1)
    return shop


@pytest.mark.usefixtures("full")
def test_status_shows_the_backlog_beside_its_limits(run: Run) -> None:
    (line,) = [line for line in run("status").lines if line.startswith("limits of orders")]
    assert "backlog: 3 of 3 messages, backlog: 15 of 1,000 bytes" in line
    orders, dead = (one["limits"] for one in run("status", "--json").json["queues"])
    assert (orders["backlog_bytes"], dead["backlog_bytes"]) == (15, None)


def test_doctor_warns_of_a_full_queue(run: Run, full: Shop) -> None:
    full.dq.close()
    found = [one for one in run("doctor", "--json").json["findings"] if one["check"] == "backlog"]
    assert [(one["level"], one["what"]) for one in found] == [
        ("warn", "orders is full: backlog: 3 of 3 messages")
    ]


def test_doctor_does_not_warn_while_there_is_room(run: Run, full: Shop) -> None:
    full.store.declare_queue("orders", {"max_backlog": 4})
    full.dq.close()
    checks = [one["check"] for one in run("doctor", "--json").json["findings"]]
    assert "backlog" not in checks
    assert "limits" in checks
