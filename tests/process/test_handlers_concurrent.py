"""Many handlers at a time in one worker, threads and coroutines: every promise is kept."""

from __future__ import annotations

import random
import signal
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from durableq import DurableQ
from tests.engine import plain
from tests.process import app, crowd
from tests.process.app import EFFECT, Ledger
from tests.process.child import Child, Nursery, runs
from tests.support import new_file, wait_for

HANDS: dict[str, list[object]] = {
    "threads": [app.APP, "--threads", 4],
    "coroutines": [crowd.APP],
}
KEYS, DUPLICATES, KILLS = 120, 30, 3
QUEUES = ("orders", "letters", "plain", "plain-batch")


@pytest.fixture
def dq(db: Path) -> Iterator[DurableQ]:
    with DurableQ(new_file(db)) as dq:
        for name in QUEUES:
            dq.queue(name, max_receives=1000, backoff_base=0)
        dq.init()
        plain.script(db, EFFECT)
        yield dq


def start(nursery: Nursery, db: Path, *arguments: object) -> Child:
    return nursery.work("--db", db, "--app", *arguments)


def effects(db: Path) -> Counter[str]:
    return Counter(plain.column(db, "SELECT key FROM effect"))


def keys(number: int) -> list[str]:
    return [f"k{n}" for n in range(number)]


@pytest.mark.parametrize(("hands", "most"), [("threads", 4), ("coroutines", 20)])
def test_the_number_of_handlers_that_run_at_once(
    dq: DurableQ, db: Path, ledger: Ledger, nursery: Nursery, hands: str, most: int
) -> None:
    for key in keys(20):
        dq.queue("orders").send({"do": "wait"}, key=key)
    fleet = start(nursery, db, *HANDS[hands], "--queue", "orders", "--drain")
    fleet.wait_until(lambda: len(ledger.lines("invoke")) == most, f"{most} at once")
    assert ledger.lines("done") == []
    assert len(set(ledger.pids("invoke"))) == 1
    ledger.open_gate()
    assert fleet.end() == 0
    assert effects(db) == Counter(keys(20))
    plain.check_sound(db)


def kill(victim: psutil.Process) -> None:
    victim.kill()
    wait_for(lambda: not runs(victim), what="it to be dead")


def kill_at_random(fleet: Child, ledger: Ledger, rng: random.Random) -> None:
    """Kill who holds `held`, then a worker at each of a few points of the way."""
    fleet.wait_until(lambda: "held" in (line.of for line in ledger.lines("invoke")), "a holder")
    (owner_id,) = (line.pid for line in ledger.lines("invoke") if line.of == "held")
    kill(next(process for process in fleet.family if process.pid == owner_id))
    for point in sorted(rng.sample(range(10, KEYS - 40), KILLS - 1)):
        fleet.wait_until(partial(done_at_least, ledger, point), f"{point} done")
        alive = wait_for(lambda: fleet.family, what="a worker that runs")
        busy = [process for process in alive if process.pid in ledger.pids("invoke")]
        kill(rng.choice(busy or alive))


def done_at_least(ledger: Ledger, number: int) -> bool:
    return len(ledger.lines("done")) >= number


@pytest.mark.parametrize("hands", HANDS)
def test_many_handlers_under_random_kills_do_everything_exactly_once(
    dq: DurableQ, db: Path, ledger: Ledger, nursery: Nursery, hands: str
) -> None:
    rng = random.Random(11)
    sends = keys(KEYS) + rng.sample(keys(KEYS), DUPLICATES)
    rng.shuffle(sends)
    with dq.queue("orders").producer(batch_size=50) as producer:
        for key in sends:
            producer.send({"do": None}, key=key)
    dq.queue("orders").send({"do": "wait once"}, key="held", priority=5)
    fleet = start(nursery, db, *HANDS[hands], "--queue", "orders", "--procs", 2, "--drain")
    kill_at_random(fleet, ledger, rng)
    assert fleet.end() == 0, fleet.complaints
    assert effects(db) == Counter([*keys(KEYS), "held"])
    counters = plain.counters(db, "orders")
    assert (counters["sent"], counters["completed"]) == (KEYS + DUPLICATES + 1, KEYS + 1)
    assert (counters["duplicates"], counters["moved_out"]) == (DUPLICATES, 0)
    results = "SELECT count(*) FROM durableq_idempotency WHERE status = 1 AND result IS NOT NULL"
    assert plain.one(db, results) == KEYS + 1
    assert fleet.complaints.count("SIGKILL") == KILLS
    assert "worker_lost" in plain.column(db, "SELECT reason FROM durableq_history")
    plain.check_sound(db)


@pytest.mark.parametrize("hands", HANDS)
def test_sigterm_lets_all_handlers_under_way_finish_and_gives_the_rest_back(
    dq: DurableQ, db: Path, ledger: Ledger, nursery: Nursery, hands: str
) -> None:
    under_way = 4 if hands == "threads" else 100
    for key in keys(under_way + 50):
        dq.queue("orders").send({"do": "wait"}, key=key)
    fleet = start(nursery, db, *HANDS[hands], "--queue", "orders")
    fleet.wait_until(lambda: len(ledger.lines("invoke")) == under_way, "handlers under way")
    fleet.signal(signal.SIGTERM)
    fleet.wait_until(lambda: "stopping" in fleet.complaints, "it to be told")
    ledger.open_gate()
    assert fleet.end() == 0
    invoked = {line.of for line in ledger.lines("invoke")}
    assert effects(db) == Counter(invoked)
    left = plain.rows(db, "SELECT state, receive_count FROM durableq_message")
    assert left == [(0, 0)] * (under_way + 50 - len(invoked))
    assert left, "it did not stop"
    assert plain.column(db, "SELECT count(*) FROM durableq_history") == [0]


@pytest.mark.parametrize("hands", HANDS)
def test_a_worker_is_replaced_after_its_number_of_messages(
    dq: DurableQ, db: Path, ledger: Ledger, nursery: Nursery, hands: str
) -> None:
    for key in keys(20):
        dq.queue("orders").send({}, key=key)
    limits = ["--queue", "orders", "--max-messages", 12, "--drain"]
    fleet = start(nursery, db, *HANDS[hands], *limits)
    assert fleet.end() == 0
    assert effects(db) == Counter(keys(20))
    shares = Counter(ledger.pids("invoke"))
    assert len(shares) >= 2
    assert all(share < 12 + 4 for share in shares.values()), "beyond what threads race for"
    assert fleet.complaints.count("used up") >= 1
    assert plain.column(db, "SELECT count(*) FROM durableq_history") == [0]


def test_a_mixed_application_and_a_coroutine_that_never_ends(
    dq: DurableQ, db: Path, ledger: Ledger, nursery: Nursery
) -> None:
    for key in keys(20):
        for name in QUEUES:
            dq.queue(name).send({}, key=f"{name}-{key}")
    for do in ("never end", "fail", "later", "reject"):
        dq.queue("orders").send({"do": do}, key=do, priority=5)
    dq.queue("letters").send({"do": "reject"}, key="bad letter")
    fleet = start(nursery, db, crowd.APP, "--threads", 2, "--grace", 0.5)
    total = 20 * len(QUEUES) + 2
    fleet.wait_until(lambda: len(effects(db)) == total, "everything but what never ends")
    assert set(effects(db).values()) == {1}
    fleet.signal(signal.SIGTERM)
    assert fleet.end() == 128 + signal.SIGTERM
    rows = plain.rows(db, "SELECT key, state, receive_count FROM durableq_message ORDER BY id")
    assert [row for row in rows if row[0] == "never end"] == [("never end", 0, 0)]
    stories = "SELECT event, reason, error_type FROM durableq_history ORDER BY message_id, id"
    assert plain.rows(db, stories) == [
        ("failed", "handler_error", "RuntimeError"),
        ("failed", "handler_error", "RetryLater"),
        *[("failed", "rejected", "Reject"), ("buried", "rejected", "Reject")] * 2,
    ]
    plain.check_sound(db)


def test_after_a_kill_unsettled_messages_are_handled_again_and_committed_ones_are_not(
    dq: DurableQ, db: Path, ledger: Ledger, nursery: Nursery
) -> None:
    noted = dq.queue("noted", backoff_base=0)
    for body in ("quick", "transaction", "stay"):
        noted.send(body, key=body)
    worker = nursery.worker(db, "noted", app=crowd.APP, settle_window_ms=600_000)
    worker.wait_until(lambda: len(ledger.lines("invoke")) == 3, "all to be handled but one")
    worker.kill()
    assert noted.info().counters.completed == 1
    assert nursery.worker(db, "noted", app=crowd.APP, drain=True).end() == 0
    invoked = Counter(line.of for line in ledger.lines("invoke"))
    assert invoked == {"quick": 2, "transaction": 1, "stay": 2}
    assert effects(db) == {"transaction": 1}
    assert noted.info().counters.completed == 3
    plain.check_sound(db)
