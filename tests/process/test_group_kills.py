"""Processes with batches of groups are killed again and again: order is kept, nothing stranded."""

from __future__ import annotations

import random
import signal
import sys
from functools import partial
from pathlib import Path

from durableq import DurableQ
from durableq.admin.operations import audit
from durableq.model.health import Level
from tests.engine import plain
from tests.process.child import Child, Nursery
from tests.support import wait_for

NAMES = [f"customer {number}" for number in range(5)]
MESSAGES = 150
KILLS = 8
COUNT = "SELECT count(*) FROM effect"


def start(nursery: Nursery, db: Path, seed: int) -> Child:
    child = nursery.run(sys.executable, "-m", "tests.process.group_taker", str(db), str(seed))
    child.wait_line("READY")
    return child


def has_effects(db: Path, number: int) -> bool:
    return bool(plain.one(db, COUNT) >= number)


def test_killed_holders_of_batches_leave_each_group_in_order(
    dq: DurableQ, db: Path, nursery: Nursery
) -> None:
    """The effect of each message is stored once, by its completion, and in order of its group."""
    plain.script(db, "CREATE TABLE effect (name, number)")
    orders = dq.queue(
        "orders",
        group_concurrency=1,
        visibility_timeout=0.5,
        max_receives=1000,
        backoff_base=0,
    )
    for number in range(MESSAGES):
        for name in NAMES:
            orders.send(number, group=name)
    rng = random.Random(7)
    children = [start(nursery, db, seed) for seed in range(3)]
    for kill in range(KILLS):
        wanted = MESSAGES * len(NAMES) * (kill + 1) // (KILLS + 2)
        wait_for(partial(has_effects, db, wanted), what="more effects", seconds=60)
        victim = children.pop(rng.randrange(len(children)))
        victim.signal(signal.SIGKILL)
        assert victim.end() == -signal.SIGKILL
        children.append(start(nursery, db, 100 + kill))
    everything = MESSAGES * len(NAMES)
    wait_for(partial(has_effects, db, everything), what="all effects", seconds=120)
    for child in children:
        child.kill()
    for name in NAMES:
        done = plain.column(db, f"SELECT number FROM effect WHERE name = '{name}' ORDER BY rowid")
        assert done == [*range(MESSAGES)], name
    assert orders.info().counts.present == 0
    findings = audit(dq.store)
    assert [each.what for each in findings if each.level is not Level.OK] == []
