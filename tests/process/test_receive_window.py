"""A process is killed while it gathers a batch: it holds nothing, and others get the messages."""

from __future__ import annotations

from pathlib import Path

from durableq import DurableQ
from tests.engine import plain
from tests.process.app import Ledger
from tests.process.child import Nursery

#: Not imported here: its looks are noted in whatever process imports it.
APP = "tests.process.gathering_app:dq"
#: The number of messages that its batches wait for.
LEAST = 3


def gatherers(ledger: Ledger, ready: int) -> list[int]:
    """Return the processes that have looked while so many messages were ready."""
    looks = ledger.lines("looks")
    return sorted({line.pid for line in looks if line.of == str(ready)})


def test_a_worker_that_is_killed_while_it_gathers_leaves_its_messages_to_the_next(
    dq: DurableQ, db: Path, ledger: Ledger, nursery: Nursery
) -> None:
    """The window is of ten minutes, and a lease of an hour: nobody waits for either."""
    orders = dq.queue("orders")
    fleet = nursery.fleet(db, app=APP, procs=2)
    fleet.wait_event("ready", times=2)
    sent = orders.send_many(range(LEAST - 1))
    fleet.wait_until(
        lambda: len(gatherers(ledger, LEAST - 1)) == 2 or orders.info().counts.in_flight,
        "both workers to gather",
    )
    assert orders.info().counts.in_flight == 0, "a message is leased in a window"
    killed, _ = gatherers(ledger, LEAST - 1)
    fleet.worker(killed).kill()
    fleet.wait_event("died")
    counts = orders.info().counts
    assert (counts.ready, counts.in_flight) == (LEAST - 1, 0), "a message is leased in a window"
    sent.append(orders.send("the last of a batch"))
    fleet.wait_until(lambda: ledger.lines("batch"), "the other worker")
    [batch] = ledger.lines("batch")
    assert batch.of.split(",") == [f"{message_id}#1" for message_id in sent]
    assert batch.pid != killed
    plain.check_sound(db)


def test_messages_that_a_killed_receiver_gathered_are_received_at_once(
    dq: DurableQ, ledger: Ledger, nursery: Nursery, db: Path
) -> None:
    orders = dq.queue("orders")
    sent = orders.send_many(range(LEAST - 1))
    gatherer = nursery.start("gather", db, LEAST)
    gatherer.wait_line("GATHERS")
    gatherer.kill()
    received = orders.receive(LEAST)
    assert [(one.id, one.receive_count) for one in received] == [(each, 1) for each in sent]
