"""A process is killed while it holds the last token, the last place, or the head of a group.

Those of a probe and of a computation of `once` are in test_breaker.py and test_once.py.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from durableq import Delivery, DurableQ, Queue
from durableq.admin.operations import audit
from durableq.bench.app import QUEUE
from durableq.engines.sql.columns import FEW_IN_FLIGHT
from durableq.model.health import Level
from tests.engine import plain
from tests.process.child import Nursery
from tests.process.test_limits import hold
from tests.support import new_file, wait_for

LEASE_SECONDS = 0.5
PLACES, KILLS, MESSAGES = 4, 20, 200
#: A token each two leases.
TOKEN_SECONDS = 1.0
#: In thousandths of a retry.
CREDIT = "SELECT max(retry_credit) FROM durableq_counters"
#: When the message in flight was received, on the lease clock.
RECEIVED_MS = "SELECT lease_until_ms - 500 FROM durableq_message WHERE state = 1"


@pytest.fixture
def orders(db: Path) -> Iterator[Queue]:
    with DurableQ(new_file(db)) as dq:
        yield dq.queue(
            "orders", visibility_timeout=LEASE_SECONDS, max_receives=1000, backoff_base=0
        )


def kill_holder(nursery: Nursery, db: Path) -> None:
    """Let a process receive a message, and kill it."""
    holder = nursery.start("hold", db)
    holder.wait_line("READY")
    holder.kill()


def complete_all(orders: Queue, number: int) -> list[str]:
    """Receive and complete so many messages; return their ids in order."""
    ids = []
    for _ in range(number):
        (message,) = wait_for(lambda: orders.receive(1), what="a message")
        message.complete()
        ids.append(message.id)
    return ids


def check_sound(orders: Queue) -> None:
    """Check that nothing is left, in flight or wrongly counted."""
    assert orders.info().counts.present == 0
    findings = audit(orders._app.store)
    assert [each.what for each in findings if each.level is not Level.OK] == []


def test_the_last_token_of_a_killed_process_is_spent_and_others_follow(
    orders: Queue, db: Path, nursery: Nursery
) -> None:
    """Its message comes back after half the time to the next token, and has to wait for that."""
    orders._app.queue("orders", rate=1 / TOKEN_SECONDS, burst=1)
    sent = orders.send_many(range(2))
    kill_holder(nursery, db)
    first_ms = plain.one(db, RECEIVED_MS)
    (again,) = wait_for(lambda: orders.receive(9), what="the next token")
    assert plain.one(db, RECEIVED_MS) - first_ms >= TOKEN_SECONDS * 1000
    again.complete()
    orders._app.queue("orders", rate=1000)
    assert {again.id, *complete_all(orders, 1)} == {*sent}
    check_sound(orders)


def test_the_last_token_of_a_group_of_a_killed_process_is_spent(
    orders: Queue, db: Path, nursery: Nursery
) -> None:
    orders._app.queue("orders", group_concurrency=1, group_rate=1 / TOKEN_SECONDS, group_burst=1)
    sent = orders.send("first", group="customer")
    kill_holder(nursery, db)
    first_ms = plain.one(db, RECEIVED_MS)
    (again,) = wait_for(lambda: orders.receive(9), what="the next token of the group")
    assert plain.one(db, RECEIVED_MS) - first_ms >= TOKEN_SECONDS * 1000
    again.complete()
    assert again.id == sent
    check_sound(orders)


def test_the_last_credit_of_retries_of_a_killed_process_is_spent(
    orders: Queue, db: Path, nursery: Nursery
) -> None:
    """The end of its lease gives none back; after a pause one is delivered without credit."""
    orders._app.queue("orders", retry_share=0.5)
    sent = orders.send("a first delivery earns a whole retry")
    orders.receive(1)[0].fail("the bank is down")
    assert plain.one(db, CREDIT) == 1_000
    kill_holder(nursery, db)
    assert plain.one(db, CREDIT) == 0
    (again,) = wait_for(lambda: orders.receive(9), what="the end of its lease")
    assert (again.id, again.receive_count) == (sent, 3)
    assert plain.one(db, CREDIT) == 0
    again.complete()
    check_sound(orders)


def test_the_last_place_of_a_killed_process_returns_with_its_lease(
    orders: Queue, db: Path, nursery: Nursery
) -> None:
    orders._app.queue("orders", max_in_flight=1, visibility_timeout=3600)
    sent = orders.send_many(range(4))
    kill_holder(nursery, db)
    assert orders.receive(9) == [], "the place of a killed process is free before its lease ends"
    assert orders.info().limits.in_flight == orders.info().limits.places == 1
    end_lease(db)
    for _ in sent:
        (message,) = wait_for(lambda: orders.receive(9), what="the place")
        assert orders.receive(9) == []
        message.complete()
    assert orders.info().limits.in_flight == 0
    check_sound(orders)


@pytest.mark.parametrize("beside", [0, FEW_IN_FLIGHT])
def test_of_many_killed_holders_none_keeps_a_place_or_frees_it_twice(
    orders: Queue, db: Path, nursery: Nursery, beside: int
) -> None:
    """`durableq bench flow` kills 1,000 of them; each is a fork that holds a message."""
    lease = LEASE_SECONDS
    orders = orders._app.queue(QUEUE, visibility_timeout=lease, max_receives=1000)
    for_long = hold(orders, beside)
    orders._app.queue(QUEUE, max_in_flight=beside + PLACES)
    orders.send_many(range(MESSAGES))
    asked = {"kills": KILLS, "crowd": 2 * PLACES, "lease_seconds": lease}
    command = [sys.executable, "-m", "durableq.bench.flow_process", "kill_holders"]
    killer = nursery.run(*command, f"sqlite:///{db}", "20", json.dumps(asked))
    most: list[int] = []

    def has_ended() -> bool:
        most.append(orders.info().counts.in_flight)
        return killer.process.poll() is not None

    wait_for(has_ended, seconds=60, what="the end of the killer")
    assert max(most) <= beside + PLACES
    assert int(killer.said[-1]) > PLACES, killer.complaints
    left = orders.info().counts.present - beside
    assert left > PLACES
    held = wait_for(lambda: all_places(orders), what="every place to be free")
    assert orders.receive(9) == [], "a place was freed twice"
    orders._app.store.release([one.receipt for one in held])
    complete_all(orders, left)
    for delivery in for_long:
        delivery.complete()
    check_sound(orders)


def all_places(orders: Queue) -> list[Delivery] | None:
    """Return a message for each place; None if leases of killed processes still have some."""
    received = orders.receive(9, visibility_timeout=3600)
    if len(received) == PLACES:
        return received
    orders._app.store.release([one.receipt for one in received])
    return None


def test_the_head_of_a_group_of_a_killed_process_is_received_again_before_the_others(
    orders: Queue, db: Path, nursery: Nursery
) -> None:
    orders._app.queue("orders", group_concurrency=1, visibility_timeout=3600)
    sent = [orders.send(number, group="customer") for number in range(4)]
    kill_holder(nursery, db)
    assert orders.receive(9) == [], "another of the group overtakes a head in flight"
    end_lease(db)
    (head,) = wait_for(lambda: orders.receive(9), what="the head")
    assert (head.id, head.receive_count) == (sent[0], 2)
    assert orders.receive(9) == []
    head.complete()
    assert complete_all(orders, 3) == sent[1:]
    check_sound(orders)


def end_lease(db: Path) -> None:
    """Let the lease of the message in flight end now."""
    with plain.connection(db) as connection:
        moved = connection.execute("UPDATE durableq_message SET lease_until_ms = 0 WHERE state = 1")
        assert moved.rowcount == 1
