"""SIGKILL, at each point where a message could be lost or handled twice."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import psutil
import pytest

from durableq import DurableQ, Queue
from durableq.store.core import Capability
from tests.engine import plain
from tests.process.app import EFFECT, Ledger
from tests.process.child import Child, Nursery, runs
from tests.process.children import BATCH
from tests.support import new_file, scaled, wait_for

LEASE_SECONDS = 1.0
BODIES = "SELECT id, body FROM durableq_message"


@pytest.fixture
def orders(db: Path) -> Iterator[Queue]:
    """Make a queue in a new file, with its table of effects; a lease lasts an hour."""
    with DurableQ(new_file(db)) as dq:
        queue = dq.queue("orders", max_receives=1000, backoff_base=0, visibility_timeout=3600)
        dq.queue("receipts")
        dq.init()
        dq.close()
        plain.script(db, EFFECT)
        yield queue


def effects(db: Path) -> Counter[str]:
    return Counter(plain.column(db, "SELECT key FROM effect"))


def test_under_a_supervisor_the_message_of_a_killed_worker_is_back_at_once(
    orders: Queue, db: Path, ledger: Ledger, nursery: Nursery
) -> None:
    orders.send({"do": "wait once"}, key="k")
    fleet = nursery.start("fleet", db, 2)
    fleet.wait_until(lambda: ledger.pids("invoke"), "a worker to hold the message")
    (owner_id,) = ledger.pids("invoke")
    killed = next(process for process in fleet.family if process.pid == owner_id)
    killed.kill()
    fleet.wait_until(lambda: ledger.lines("done"), "another worker to finish it")
    assert ledger.pids("done")[0] != owner_id
    assert effects(db) == {"k": 1}
    assert plain.column(db, "SELECT reason FROM durableq_history") == ["worker_lost"]
    fleet.wait_until(lambda: any("SIGKILL" in line for line in fleet.said), "a word about it")


def test_without_a_supervisor_the_message_of_a_killed_worker_is_back_after_its_lease(
    orders: Queue, db: Path, nursery: Nursery
) -> None:
    orders._app.queue("orders", visibility_timeout=LEASE_SECONDS)
    sent = orders.send({})
    child = nursery.start("hold", db)
    child.wait_line("READY")
    child.kill()
    (again,) = wait_for(orders.receive, what="the message to come back")
    held_for = time.clock_gettime(time.CLOCK_BOOTTIME) - float(child.said[0])
    assert (again.id, again.receive_count) == (sent, 2)
    assert LEASE_SECONDS - 0.1 < held_for < LEASE_SECONDS + scaled(5)
    assert plain.column(db, "SELECT reason FROM durableq_history") == ["lease_expired"]


@pytest.mark.parametrize("seed", [1])
def test_answered_sends_of_a_killed_process_are_in_the_file_and_its_batches_are_whole(
    orders: Queue, db: Path, nursery: Nursery, seed: int
) -> None:
    child = nursery.start("send", db)
    batches = random.Random(seed).randint(10, 60)
    child.wait_until(lambda: len(child.said) >= batches, "enough batches")
    child.kill()
    printed = {int(number) for line in child.said for number in line.split()}
    stored = plain.column(db, "SELECT id FROM durableq_message")
    assert len(printed) >= batches * BATCH
    assert printed <= set(stored)
    assert len(stored) % BATCH == 0, "a batch was torn"
    plain.check_sound(db)


@pytest.mark.parametrize("senders", ["threads", "coroutines"])
def test_each_message_that_a_sender_was_told_of_is_there_after_a_kill(
    orders: Queue, db: Path, nursery: Nursery, senders: str
) -> None:
    """Threads, and coroutines, that send at the same time share commits."""
    child = nursery.start(f"send_from_{senders}", db)
    number = random.randrange(100, 400)
    child.wait_until(lambda: len(child.said) >= number, "enough messages")
    child.kill()
    told = [line.split() for line in child.said if " " in line]
    stored = {str(number): body for number, body in plain.rows(db, BODIES)}
    assert len(told) >= 100
    assert {number: stored.get(number) for number, _ in told} == {
        number: f'"{body}"' for number, body in told
    }
    assert len(set(stored.values())) == len(stored), "a message was stored twice"
    (counted,) = plain.column(db, "SELECT sent FROM durableq_counters WHERE sent > 0")
    assert counted == len(stored)
    plain.check_sound(db)


def test_killed_inside_a_transaction_a_worker_leaves_no_trace_and_its_message_comes_back(
    orders: Queue, db: Path, nursery: Nursery
) -> None:
    orders._app.queue("orders", visibility_timeout=LEASE_SECONDS)
    orders.send({}, key="k")
    child = nursery.start("hold_transaction", db)
    child.wait_line("READY")
    child.kill()
    assert effects(db) == {}
    assert plain.column(db, "SELECT status FROM durableq_idempotency") == [0]
    assert orders._app.queue("receipts").info().counts.present == 0
    (again,) = wait_for(orders.receive, what="the message to come back")
    with again.transaction() as tx:
        tx.execute("INSERT INTO effect VALUES ('k', 0)")
    assert effects(db) == {"k": 1}
    plain.check_sound(db)


KEYS, DUPLICATES, KILLS = 135, 45, 5


def send_orders(orders: Queue, rng: random.Random) -> None:
    """Keyed messages, a quarter of them duplicates, three of which kill their worker once."""
    keys = [f"k{number}" for number in range(KEYS)]
    fatal = dict(zip(keys[::40], ["die before", "die inside", "die after"], strict=False))
    sends = keys + rng.sample(keys, DUPLICATES)
    rng.shuffle(sends)
    with orders.producer(batch_size=50) as producer:
        for key in sends:
            producer.send({"do": fatal.get(key)}, key=key)


def done_at_least(ledger: Ledger, number: int) -> bool:
    return len(ledger.lines("done")) >= number


def kill_at_random(fleet: Child, ledger: Ledger, rng: random.Random) -> None:
    """Kill a running worker at each of a few random points."""
    for point in sorted(rng.sample(range(10, KEYS - 20), KILLS)):
        reached = partial(done_at_least, ledger, point)
        fleet.wait_until(reached, f"{point} done")
        wait_for(lambda: fleet.family, what="a worker that runs")
        victims = [p for p in fleet.family if p.pid in ledger.pids("invoke")] or fleet.family
        if victims:
            with suppress(psutil.NoSuchProcess):  # its message was quicker
                rng.choice(victims).kill()


@pytest.mark.parametrize("seed", [7])
def test_a_fleet_under_random_kills_does_everything_exactly_once(
    orders: Queue, db: Path, ledger: Ledger, nursery: Nursery, seed: int
) -> None:
    rng = random.Random(seed)
    send_orders(orders, rng)
    fleet = nursery.start("fleet", db, 3, "drain")
    kill_at_random(fleet, ledger, rng)
    assert fleet.end() == 0
    assert effects(db) == Counter(f"k{number}" for number in range(KEYS))
    assert plain.counters(db, "orders") | {"moved_in": 0} == {
        "sent": KEYS + DUPLICATES,
        "moved_in": 0,
        "moved_out": 0,
        "completed": KEYS,
        "duplicates": DUPLICATES,
        "discarded": 0,
    }
    assert plain.column(db, "SELECT count(*) FROM durableq_message") == [0]
    results = plain.rows(db, "SELECT status, result, key FROM durableq_idempotency")
    assert sorted(results) == sorted(
        (1, f'{{"charged":"k{number}"}}', f"k{number}") for number in range(KEYS)
    )
    plain.check_sound(db)
    check_not_vacuous(fleet, ledger, db)


def check_not_vacuous(fleet: Child, ledger: Ledger, db: Path) -> None:
    assert sum("SIGKILL" in line for line in fleet.said) >= KILLS
    lost = plain.column(db, "SELECT reason FROM durableq_history")
    assert lost.count("worker_lost") >= 2, "no kill met a worker that held a message"
    invoked = Counter(line.of for line in ledger.lines("invoke"))
    assert max(invoked.values()) > 1, "no message was handled again"


def test_workers_stop_when_their_supervisor_was_killed(
    orders: Queue, db: Path, ledger: Ledger, nursery: Nursery
) -> None:
    orders.send({}, key="k")
    fleet = nursery.start("fleet", db, 2)
    fleet.wait_until(lambda: ledger.lines("done"), "a worker at work")
    wait_for(
        lambda: len(orders._app.store.require(Capability.FLEET).workers()) == 2,
        what="both to be registered",
    )
    workers = fleet.family
    fleet.kill()
    wait_for(lambda: not any(map(runs, workers)), what="the workers to stop")
    assert orders._app.store.require(Capability.FLEET).workers() == [], "they did not sign off"


DEAD_LETTERS = 100
DECISIONS = """
SELECT message_id, event FROM durableq_history
WHERE event NOT IN ('failed', 'buried', 'lease_expired') ORDER BY message_id"""


def bury(orders: Queue) -> None:
    """Fill the dead-letter queue, whose leases are short."""
    orders._app.queue("orders-dlq", visibility_timeout=LEASE_SECONDS)
    orders.send_many([{"n": number} for number in range(DEAD_LETTERS)])
    for message in orders.receive(DEAD_LETTERS):
        message.reject("to be recovered")


@pytest.mark.parametrize("seed", [3])
def test_two_recoveries_one_of_them_killed_decide_each_dead_letter_once(
    orders: Queue, db: Path, ledger: Ledger, nursery: Nursery, seed: int
) -> None:
    bury(orders)
    liveness = random.Random(seed).randint(3, 19)
    reading, writing = os.pipe()
    survivor = nursery.start("recover", db, stdin=reading)
    killed = nursery.start("recover", db, liveness)
    killed.wait_until(lambda: ledger.lines("judged"), "it to hold letters")
    survivor.wait_line("READY")
    os.close(writing)  # the end of its stdin: now it joins
    os.close(reading)
    assert killed.end() == -signal.SIGKILL
    dead_letters = orders._app.queue("orders-dlq")
    wait_for(lambda: dead_letters.info().counts.present == 0, seconds=30, what="every decision")
    assert survivor.process.poll() is None
    assert plain.rows(db, DECISIONS) == [
        (number, "discarded" if number % 2 else "requeued") for number in range(1, DEAD_LETTERS + 1)
    ]
    lost = plain.one(db, "SELECT count(*) FROM durableq_history WHERE event = 'lease_expired'")
    assert lost > 0, "the killed process held nothing"
    assert orders.info().counts.ready == DEAD_LETTERS // 2
    plain.check_sound(db)
