"""The breaker with real processes: a policy that is wrong, and then corrected."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from durableq import DurableQ, Queue
from durableq.model.flow.breaker import Phase
from durableq.recovery import circuit_breaker
from tests.engine import plain
from tests.process.child import Child, Nursery, Recoverer
from tests.process.recovery_app import APP
from tests.support import new_file, wait_for

BREAKER = """
[breaker]
window = 8
share = 0.5
least = 4
cool_down = 0.3
longest_cool_down = 0.6
probes = 2

[[rule]]
name = "junk"
when.queue = "orders"
when.body.kind = "junk"
then = "discard"
"""
WRONG = f"""{BREAKER}
[[rule]]
name = "all"
when.queue = "orders"
then = "requeue"
"""
RIGHT = f"""{BREAKER}
[[rule]]
name = "less"
when.queue = "orders"
then = "retry"
set.amount = 5
"""
DEAD_LETTERS = 12
SENT_BACK = """
SELECT at_ms, message_id FROM durableq_history WHERE event IN ('requeued', 'retried')
ORDER BY at_ms"""


@pytest.fixture
def orders(db: Path) -> Iterator[Queue]:
    with DurableQ(new_file(db)) as dq:
        queue = dq.queue("orders", max_receives=1, max_recoveries=1000)
        dq.init()
        yield queue


@pytest.fixture
def worker(orders: Queue, db: Path, nursery: Nursery) -> Child:
    """A fleet whose handler fails on every one of these orders."""
    orders.send_many([{"amount": 99}] * DEAD_LETTERS)
    return nursery.work("--db", db, "--app", APP, "--procs", 1)


def start(nursery: Nursery, db: Path, text: str) -> Recoverer:
    path = db.with_name(f"rules-{abs(hash(text))}.toml")
    path.write_text(text)
    return nursery.recover("--db", db, "--policy", path)


def changes(*processes: Recoverer) -> list[dict[str, Any]]:
    told = [change for process in processes for change in process.told("breaker")]
    return sorted(told, key=lambda change: int(change["since_ms"]))


def test_it_opens_probes_and_closes_as_a_wrong_policy_is_corrected(
    orders: Queue, db: Path, nursery: Nursery, worker: Child
) -> None:
    wrong = start(nursery, db, WRONG)
    wrong.wait_until(lambda: wrong.phases.count("open") >= 3, "it to open again and again")
    trips = [change["trips"] for change in changes(wrong) if change["phase"] == "open"]
    waits = [change["cool_down_ms"] for change in changes(wrong) if change["phase"] == "open"]
    assert trips[:3] == [1, 2, 3]
    assert waits[:3] == [300, 600, 600]
    junk = orders.send({"amount": 99, "kind": "junk"})
    wrong.wait_until(
        lambda: any(d["id"] == junk for d in wrong.told("decision")), "discards to go on"
    )
    wrong.process.terminate()
    assert wrong.end() == 0
    told = changes(wrong)

    right = start(nursery, db, RIGHT)
    right.wait_until(lambda: right.phases[-1:] == ["closed"], "it to close")
    wait_for(
        lambda: orders.info().counters.completed == DEAD_LETTERS, seconds=30, what="every order"
    )
    state = circuit_breaker.read(orders._app.store, "orders")
    assert state is not None
    assert state.phase is Phase.CLOSED
    assert orders._app.queue("orders-dlq").info().counts.present == 0
    check_nothing_went_while_open(db, told + changes(right))


def check_nothing_went_while_open(db: Path, told: list[dict[str, Any]]) -> None:
    sent = [at_ms for at_ms, _ in plain.rows(db, SENT_BACK)]
    spans = [
        (one["phase"], one["since_ms"], two["since_ms"])
        for one, two in pairwise(told)
    ]  # fmt: skip
    for phase, since_ms, until_ms in spans:
        during = [at_ms for at_ms in sent if since_ms < at_ms < until_ms]
        if phase == "open":
            assert during == []
        elif phase == "half_open":
            assert len(during) <= 2
    assert {phase for phase, _, _ in spans} >= {"open", "half_open"}


def test_two_processes_are_one_breaker(
    orders: Queue, db: Path, nursery: Nursery, worker: Child
) -> None:
    both = [start(nursery, db, WRONG) for _ in range(2)]
    for one in both:
        one.wait_until(lambda: sum(p.phases.count("open") for p in both) >= 3, "it to open thrice")
    for one in both:
        one.process.terminate()
        assert one.end() == 0
    told = changes(*both)
    opened = [change["trips"] for change in told if change["phase"] == "open"]
    assert opened == list(range(1, len(opened) + 1)), "one opening was told twice, or not at all"
    probing = [c["since_ms"] for c in told if c["phase"] == "half_open"]
    sent = [at_ms for at_ms, _ in plain.rows(db, SENT_BACK)]
    for since_ms in probing:
        until_ms = min((c["since_ms"] for c in told if c["since_ms"] > since_ms), default=since_ms)
        assert len([at for at in sent if since_ms <= at < until_ms]) <= 2


def test_while_it_is_open_a_person_can_decide(
    orders: Queue, db: Path, nursery: Nursery, worker: Child
) -> None:
    text = WRONG.replace("cool_down = 0.3", "cool_down = 600").replace("0.6", "600")
    recovery = start(nursery, db, text)
    recovery.wait_until(lambda: recovery.phases == ["open"], "it to open")
    dead_letters = orders._app.queue("orders-dlq")

    def untouched() -> bool:
        counts = dead_letters.info().counts
        return counts.ready == DEAD_LETTERS and counts.in_flight == 0

    recovery.wait_until(untouched, "every dead letter to have died again, and to be released")
    worker.process.terminate()
    assert worker.end() == 0
    held = [message.receipt for message in dead_letters.receive(DEAD_LETTERS)]
    assert len(held) == DEAD_LETTERS
    assert "lease_expired" not in plain.column(db, "SELECT event FROM durableq_history")
