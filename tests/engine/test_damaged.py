"""Files whose schema is damaged: every way to open one is refused with a sentence."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from durableq import DatabaseUnusable, DurableQ, Queue
from durableq.admin import operations
from durableq.engines.sqlite import doctor_tables
from durableq.model.health import Level, is_healthy
from durableq.store.core import Capability
from tests.engine import plain
from tests.engine.copies import refusal

DAMAGE = {
    "text that is not UTF-8": (
        "UPDATE sqlite_schema SET name = CAST(x'fffe' AS TEXT), "
        "sql = CAST(x'43524541544520fffe' AS TEXT) WHERE name = 'durableq_queue'"
    ),
    "no SQL": "UPDATE sqlite_schema SET sql = 'CREATE TABLE (' WHERE name = 'durableq_queue'",
    "a page that is not there": (
        "UPDATE sqlite_schema SET rootpage = 99999 WHERE name = 'durableq_queue'"
    ),
    "a table is missing": "DROP TABLE durableq_meta",
    "another version table": (
        "DROP TABLE durableq_version; CREATE VIEW durableq_version AS SELECT 1 AS x"
    ),
}


@pytest.fixture
def copy(orders: Queue, db: Path, copy: Path) -> Path:
    """A backup that is still sound."""
    orders.send("kept")
    operations.back_up(str(db), copy)
    return copy


def queues(path: Path) -> None:
    with DurableQ(path) as dq:
        dq.store.require(Capability.INSPECT).queues()


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_schema_is_refused_with_a_sentence_and_can_be_replaced(
    damage: str, copy: Path
) -> None:
    bad = copy.with_name("bad.db")
    shutil.copy(copy, bad)
    plain.script(bad, f"PRAGMA writable_schema = ON; {DAMAGE[damage]}")
    new = copy.with_name("new.db")
    for told in (
        refusal(DatabaseUnusable, queues, bad),
        refusal(DatabaseUnusable, operations.back_up, str(bad), new),
        refusal(DatabaseUnusable, operations.restore, bad, str(new)),
    ):
        assert "is damaged" in told or "lacks a part of durableq's tables" in told
    assert not is_healthy(operations.examine(str(bad)))
    made = operations.restore(copy, str(bad), replace=True)
    assert made.set_aside is not None
    with DurableQ(bad) as again:
        assert again.queue("orders").info().counts.ready == 1


@pytest.mark.parametrize(
    ("sql", "missing"),
    [
        ("DROP TABLE durableq_queue", "durableq_queue"),
        ("DROP INDEX durableq_message_leased", "durableq_message_leased"),
        ("ALTER TABLE durableq_message DROP COLUMN attributes", "durableq_message.attributes"),
    ],
)
def test_a_file_without_one_of_its_tables_is_not_called_checked(
    sql: str, missing: str, copy: Path
) -> None:
    plain.script(copy, sql)
    new = copy.with_name("new.db")
    assert f"it lacks {missing}" in refusal(DatabaseUnusable, operations.restore, copy, str(new))
    assert f"it lacks {missing}" in refusal(DatabaseUnusable, operations.back_up, str(copy), new)
    (finding,) = [finding for finding in operations.examine(str(copy)) if finding.name == "tables"]
    assert finding.what == f"missing: {missing}"


@pytest.fixture
def large(orders: Queue, copy: Path, db: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of which doctor reads no row."""
    monkeypatch.setattr(doctor_tables, "STEPS", 10)
    monkeypatch.setattr(doctor_tables, "ROW_STEPS", 0)
    orders.send_many(["x" * 1_000] * 500)
    copy.unlink()
    operations.back_up(str(db), copy)
    return copy


def test_a_check_that_read_only_a_part_says_so(large: Path) -> None:
    (found,) = [f for f in operations.examine(str(large)) if f.name == "integrity"]
    assert found.level is Level.OK
    assert "only a part was read" in found.what
    assert "--deep" in found.advice
    deep = [f for f in operations.examine(str(large), deep=True) if f.name == "integrity"]
    assert [f.what for f in deep] == ["integrity_check: ok"]


def test_a_damaged_page_is_found_without_reading_the_rows(large: Path) -> None:
    (page,) = plain.column(
        large, "SELECT rootpage FROM sqlite_schema WHERE name = 'durableq_message_ready'"
    )
    with large.open("r+b") as file:
        file.seek((page - 1) * 4096 + 8)
        file.write(b"\xff" * 64)
    (found,) = [f for f in operations.examine(str(large)) if f.name == "integrity"]
    assert found.level is Level.BAD
