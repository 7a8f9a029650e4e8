"""`durableq recover`: killed, stopped, made to wait, and with slow policies."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from durableq import DurableQ, Queue
from durableq.store.core import Capability
from tests.engine import plain
from tests.process import fleet_app
from tests.process.app import Ledger
from tests.process.child import Nursery, Recoverer
from tests.process.facts import on_both_engines
from tests.process.recovery_app import APP
from tests.support import new_file, scaled, wait_for

DEAD_LETTERS = 60
RULES = """
[[rule]]
name = "even"
when.queue = "orders"
when.body.even = true
then = "requeue"
limit = 1

[[rule]]
name = "third"
when.body_matches.n = "^[0-9]*[369]$"
when.queue = "orders"
then = "retry"
set.easier = true

[[rule]]
name = "rest"
when.queue = "orders"
then = "discard"
"""
DECISIONS = """
SELECT message_id, event FROM durableq_history
WHERE event NOT IN ('failed', 'buried', 'lease_expired') ORDER BY message_id"""
LOST = "SELECT count(*) FROM durableq_history WHERE event = 'lease_expired'"


@pytest.fixture
def orders(db: Path | str) -> Iterator[Queue]:
    with DurableQ(db if isinstance(db, str) else new_file(db)) as dq:
        queue = dq.queue("orders", max_receives=1)
        dq.init()
        yield queue


def bury(orders: Queue, *bodies: object) -> list[str]:
    ids = orders.send_many(bodies)
    for message in orders.receive(len(bodies)):
        message.reject("to be recovered")
    return ids


def decided(*processes: Recoverer) -> int:
    return sum(len(process.told("decision")) for process in processes)


def reached(number: int, *processes: Recoverer) -> bool:
    return decided(*processes) >= number


def expected(n: int) -> str:
    if n % 2 == 0:
        return "requeued"
    return "retried" if n % 10 in {3, 9} else "discarded"


@on_both_engines
@pytest.mark.parametrize("seed", [5])
def test_two_processes_with_rules_one_killed_at_random_decide_each_dead_letter_once(
    orders: Queue, db: Path, tmp_path: Path, nursery: Nursery, seed: int
) -> None:
    ids = bury(orders, *[{"n": n, "even": n % 2 == 0} for n in range(DEAD_LETTERS)])
    path = tmp_path / "rules.toml"
    path.write_text(RULES)
    arguments = ("--db", db, "--policy", path, "--rate", 100)
    both = [nursery.recover(*arguments) for _ in range(2)]
    point = random.Random(seed).randint(3, DEAD_LETTERS // 2)
    both[0].wait_until(partial(reached, point, *both), f"{point} decisions")
    both[0].kill()
    dead_letters = orders._app.queue("orders-dlq")
    wait_for(lambda: dead_letters.info().counts.present == 0, seconds=30, what="every decision")
    wanted = [(int(message_id), expected(n)) for n, message_id in enumerate(ids)]
    assert plain.rows(db, DECISIONS) == wanted
    fleet = orders._app.store.require(Capability.FLEET)
    # It may have died without a lease; the other one then unlists it after the last decision.
    wait_for(lambda: len(fleet.workers()) == 1, seconds=30, what="one to be unlisted")
    assert fleet.workers()[0].pid == both[1].process.pid
    both[1].signal(signal.SIGTERM)
    assert both[1].end() == 0
    assert fleet.workers() == []
    plain.check_sound(db)


@on_both_engines
def test_dead_letters_of_a_killed_process_are_released_before_their_lease_ends(
    orders: Queue, db: Path, ledger: Ledger, nursery: Nursery
) -> None:
    orders._app.queue("orders-dlq", visibility_timeout=3600)
    bury(orders, {"do": "die"}, *[{}] * 20)
    first = nursery.recover("--db", db, "--app", APP)
    assert first.end() == -signal.SIGKILL
    second = nursery.recover("--db", db, "--app", APP, "--once")
    assert second.end() == 0
    assert Counter(dict(plain.rows(db, DECISIONS)).values()) == {"discarded": 21}


@on_both_engines
def test_a_recovery_process_reclaims_the_messages_of_a_dead_worker_without_a_supervisor(
    orders: Queue, db: Path, ledger: Ledger, nursery: Nursery
) -> None:
    orders._app.queue("orders", visibility_timeout=3600)
    worker = nursery.worker(db, "orders", app=fleet_app.APP)
    orders.send({"do": "spin"})
    worker.wait_until(lambda: ledger.lines("invoke"), "the message in hand")
    recovery = nursery.recover("--db", db, "--app", APP)
    recovery.wait_until(
        lambda: len(orders._app.store.require(Capability.FLEET).workers()) == 2, "it to look on"
    )
    worker.kill()
    recovery.wait_until(partial(reached, 1, recovery), "the message to die and be decided")
    assert plain.column(db, "SELECT reason FROM durableq_history")[0] == "worker_lost"


def test_a_policy_that_thinks_longer_than_a_lease_keeps_its_dead_letter_and_frees_the_others(
    orders: Queue, db: Path, ledger: Ledger, nursery: Nursery
) -> None:
    lease_seconds = scaled(0.5)
    orders._app.queue("orders-dlq", visibility_timeout=lease_seconds)
    slow, *_ = bury(orders, {"do": "wait"}, *[{}] * 5)
    first = nursery.recover("--db", db, "--app", APP)
    first.wait_until(lambda: ledger.lines("judged"), "it to think")
    second = nursery.recover("--db", db, "--app", APP)
    second.wait_until(partial(reached, 5, second), "the others to be decided by another")
    lease = orders._app.store.require(Capability.INSPECT).message
    began = time.monotonic()
    wait_for(lambda: time.monotonic() > began + 3 * lease_seconds, what="three leases to pass")
    still = lease(slow)
    assert still is not None
    assert still.lease_left_ms > 0
    ledger.open_gate()
    first.wait_until(partial(reached, 1, first), "its own decision")
    assert first.told("decision")[0]["outcome"] == "done"
    assert plain.one(db, LOST) == 0
    assert [line.of for line in ledger.lines("judged")].count(slow) == 1


def test_a_policy_that_raises_holds_the_dead_letter_and_the_process_goes_on(
    orders: Queue, db: Path, nursery: Nursery
) -> None:
    causes = {
        "raise": "LookupError: no idea",
        "exit": "SystemExit",
        "interrupt": "KeyboardInterrupt",
        "unformattable": "SyntaxError: bad (f, line 1)",
        "own": "Own",
    }
    ids = bury(orders, *[body for do in causes for body in ({"do": do}, {})])
    recovery = nursery.recover("--db", db, "--app", APP)
    recovery.wait_until(partial(reached, len(ids), recovery), "every decision")
    inspect = orders._app.store.require(Capability.INSPECT)
    dead_letters = orders._app.store.require(Capability.DEAD_LETTERS)
    for bad, good, cause in zip(ids[::2], ids[1::2], causes.values(), strict=True):
        held = inspect.message(bad)
        assert held is not None
        assert held.held
        assert cause in dead_letters.history(bad)[-1].reason
        assert inspect.message(good) is None
    later = bury(orders, {})
    recovery.wait_until(partial(reached, len(ids) + 1, recovery), "a later letter")
    assert [d["id"] for d in recovery.told("decision")] == [*ids, *later]


def test_the_output_of_a_policy_goes_to_stderr_with_control_characters_shown(
    orders: Queue, db: Path, nursery: Nursery
) -> None:
    (sent,) = bury(orders, {"do": "print"})
    recovery = nursery.recover("--db", db, "--app", APP, "--once")
    assert recovery.end() == 0
    assert [decision["id"] for decision in recovery.told("decision")] == [sent]
    assert "a policy's \\e[31mwords\n" in recovery.complaints


@on_both_engines
@pytest.mark.parametrize("stop", [signal.SIGTERM])
def test_a_signal_finishes_the_dead_letter_in_hand_and_gives_back_the_rest(
    stop: signal.Signals, orders: Queue, db: Path, ledger: Ledger, nursery: Nursery
) -> None:
    bury(orders, {"do": "wait"}, *[{}] * 5)
    recovery = nursery.recover("--db", db, "--app", APP)
    recovery.wait_until(lambda: ledger.lines("judged"), "it to think")
    recovery.signal(stop)
    ledger.open_gate()
    assert recovery.end() == 0
    assert decided(recovery) == 1
    counts = orders._app.queue("orders-dlq").info().counts
    assert (counts.ready, counts.in_flight) == (5, 0)
    assert orders._app.store.require(Capability.FLEET).workers() == []
    assert "Traceback" not in recovery.complaints


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it(
    stop: signal.Signals, orders: Queue, db: Path, ledger: Ledger, nursery: Nursery
) -> None:
    bury(orders, {"do": "wait"})
    recovery = nursery.recover("--db", db, "--app", APP)
    recovery.wait_until(lambda: ledger.lines("judged"), "it to think")
    (worker,) = orders._app.store.require(Capability.FLEET).workers()
    assert worker.name == f"recovery:{recovery.pid}"
    recovery.signal(stop)
    recovery.signal(stop)
    wait_for(lambda: stopped(recovery, stop), what="its end")
    assert recovery.process.returncode == -stop


def stopped(recovery: Recoverer, stop: signal.Signals) -> bool:
    """Return whether it ended; signal it again if not, as the kernel merges equal signals."""
    if recovery.process.poll() is None:
        recovery.signal(stop)
    return recovery.process.poll() is not None


def test_a_rate_is_kept_and_a_signal_ends_the_wait(
    orders: Queue, db: Path, nursery: Nursery
) -> None:
    bury(orders, *[{"do": "requeue"}] * 8)
    recovery = nursery.recover("--db", db, "--app", APP, "--rate", 5)
    recovery.wait_until(partial(reached, 4, recovery), "four decisions")
    times = plain.column(db, "SELECT at_ms FROM durableq_history WHERE event = 'requeued'")
    assert min(b - a for a, b in zip(sorted(times), sorted(times)[1:], strict=False)) >= 190
    recovery.signal(signal.SIGTERM)
    assert recovery.end() == 0
    slow = nursery.recover("--db", db, "--app", APP, "--rate", 0.001)
    slow.wait_until(partial(reached, 1, slow), "its first")
    slow.signal(signal.SIGTERM)
    assert slow.end() == 0
    assert orders._app.queue("orders-dlq").info().counts.in_flight == 0


def test_a_dead_letter_is_decided_as_soon_as_it_is_there_and_idling_writes_nothing(
    orders: Queue, db: Path, nursery: Nursery
) -> None:
    recovery = nursery.recover("--db", db, "--app", APP)
    recovery.wait_until(orders._app.store.require(Capability.FLEET).workers, "it to wait")
    version = "PRAGMA data_version"
    bury(orders, {})
    recovery.wait_until(partial(reached, 1, recovery), "its decision")
    with plain.connection(db) as connection:
        last: list[Any] = [time.monotonic(), connection.execute(version).fetchone()]

        def has_not_written() -> bool:
            """In the last seconds; a heartbeat comes every ten."""
            now = connection.execute(version).fetchone()
            if now != last[1]:
                last[:] = time.monotonic(), now
            return bool(time.monotonic() > last[0] + 2.5)

        wait_for(has_not_written, what="some seconds without a write")
    assert reached(1, recovery)


@on_both_engines
def test_it_outlives_the_deletion_of_a_queue(
    orders: Queue, db: Path, tmp_path: Path, nursery: Nursery
) -> None:
    path = tmp_path / "rules.toml"
    path.write_text("[[rule]]\nwhen.reason = 'rejected'\nthen = 'discard'\n")
    orders._app.queue("other")
    recovery = nursery.recover("--db", db, "--policy", path)
    bury(orders, {})
    recovery.wait_until(partial(reached, 1, recovery), "a decision")
    orders._app.store.require(Capability.CONTROL).delete_queue("other")
    bury(orders, {})
    recovery.wait_until(partial(reached, 2, recovery), "a decision after the deletion")
    assert recovery.process.poll() is None
