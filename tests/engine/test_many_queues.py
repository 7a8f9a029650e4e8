"""Costs of an operation of one queue, whatever the number of other queues, or of groups."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from durableq import DurableQ
from durableq.engines.sqlite import statements as sql
from durableq.engines.sqlite.driver import driver, is_affected
from durableq.model.message import draft
from durableq.store.core import Capability
from tests.engine.test_bounded_steps import statements
from tests.engine.test_plans import plan

AFFECTED = is_affected(driver.sqlite_version_info)
FIFO = {"group_concurrency": 1, "bury_at": 1}


@pytest.mark.skipif(AFFECTED, reason="each SQLite words its plans in its own way")
def test_a_change_of_a_dead_letter_queue_reads_no_other_queue(dq: DurableQ, db: Path) -> None:
    assert plan(db, sql.SERVE) == {
        "SEARCH durableq_queue USING INTEGER PRIMARY KEY (rowid=?)",
    }


def test_a_page_of_documents_begins_at_the_prefix_and_is_as_long_as_needed(dq: DurableQ) -> None:
    for number in range(130):
        dq.store.declare_queue(f"a{number}", {})
    endpoint = dq.store.require(Capability.ENDPOINT)
    for prefix, after, first in (("o", "", "o"), ("orders-d", "", "orders"), ("", "a99", "a99 ")):
        find = partial(endpoint.queue_documents, 1, prefix=prefix, after=after)
        (page,) = (each for each in statements(dq, find) if "queue_document" in each)
        assert f"name >= '{first}'" in page
        assert "LIMIT (100+0)" in page


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
