"""Costs of an operation of one queue, whatever the number of other queues, or of groups."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from durableq import DurableQ
from durableq.engines.sqlite import statements as sql
from durableq.engines.sqlite.driver import driver, is_affected
from durableq.model.message import draft
from tests.engine.test_bounded_steps import statements
from tests.engine.test_plans import plan

AFFECTED = is_affected(driver.sqlite_version_info)
FIFO = {"group_concurrency": 1, "bury_at": 1}


@pytest.mark.skipif(AFFECTED, reason="each SQLite words its plans in its own way")
def test_a_change_of_a_dead_letter_queue_reads_no_other_queue(dq: DurableQ, db: Path) -> None:
    assert plan(db, sql.SERVE) == {
        "SEARCH durableq_queue USING INTEGER PRIMARY KEY (rowid=?)",
    }


def test_a_setting_that_is_not_of_groups_reads_no_group(dq: DurableQ) -> None:
    found = []
    for number in (2, 40):
        name = f"fifo-{number}"
        dq.store.declare_queue(name, FIFO)
        dq.store.send(name, [draft(n, group=f"g{n % number}") for n in range(2 * number)])
        change = partial(dq.store.declare_queue, name, {"visibility_timeout_ms": 7_000})
        found.append(statements(dq, change))
    assert len(found[0]) == len(found[1])
    assert not [each for each in found[1] if "durableq_group" in each]
