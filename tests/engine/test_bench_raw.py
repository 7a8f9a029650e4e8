"""The benchmark's statements by hand leave the rows that durableq leaves."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from durableq import DurableQ
from durableq.admin.operations import audit
from durableq.bench.raw import Raw
from durableq.bench.subject import QUEUE, OfDurableQ, Subject, raw
from durableq.engines.sqlite.driver import driver
from durableq.model.health import Level

#: Columns that differ from run to run; of these the test compares how far the message has come.
VARYING = {"receipt", "owner_id", "owner_receipt"}


def rows(path: Path, table: str) -> list[dict[str, Any]]:
    with closing(driver.connect(str(path))) as connection:
        connection.row_factory = driver.Row
        found = [dict(row) for row in connection.execute(f"SELECT * FROM {table}")]
    return [{name: plain(name, value) for name, value in row.items()} for row in found]


def plain(name: str, value: Any) -> Any:
    """Return a value without the moment of the run: a time only as far, near or none."""
    if name in VARYING:
        return value == bytes(16) if isinstance(value, bytes) else value.bit_length()
    if name.endswith("_ms") and isinstance(value, int):
        return value.bit_length()
    return value


def half_way(subject: Subject, *, keyed: bool) -> None:
    """Leave messages in each state that the workloads pass through."""
    bodies = [{"order": number, "text": "é" if number % 2 else "e"} for number in range(20)]
    keys = [f"key-{number}" for number in range(20)]
    subject.send_many(bodies[:10], keys[:10] if keyed else None)
    for body, key in zip(bodies[10:], keys[10:], strict=True):
        subject.send(body, key if keyed else None)
    for limit in (1, 5):
        subject.complete(subject.receive(limit))
    for limit in (1, 5):
        subject.receive(limit)


@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("table", ["message", "counters", "idempotency", "queue", "history"])
def test_raw_and_durableq_leave_equal_rows(tmp_path: Path, table: str, keyed: bool) -> None:
    ours, theirs = tmp_path / "ours.db", tmp_path / "theirs.db"
    subject = OfDurableQ(f"sqlite:///{ours}?synchronous=full")
    with subject.app:
        half_way(subject, keyed=keyed)
    half_way(raw(theirs, "full"), keyed=keyed)
    assert rows(ours, f"durableq_{table}") == rows(theirs, f"durableq_{table}")


@pytest.mark.parametrize("keyed", [False, True])
def test_a_file_that_raw_has_written_passes_audit(tmp_path: Path, keyed: bool) -> None:
    path = tmp_path / "raw.db"
    half_way(raw(path, "normal"), keyed=keyed)
    with DurableQ(path) as app:
        assert [found for found in audit(app.store) if found.level is not Level.OK] == []
        app.queue(QUEUE).send({"order": 20, "text": "e"}, key="key-0")  # another payload
        assert len(app.queue(QUEUE).receive(100)) == 8 + (not keyed)


@pytest.mark.parametrize("setting", ["delay_ms", "max_body_bytes"])
def test_raw_looks_up_the_settings_at_each_send(tmp_path: Path, setting: str) -> None:
    subject = raw(tmp_path / "raw.db", "normal")
    with DurableQ(tmp_path / "raw.db") as app:
        app.store.declare_queue(QUEUE, {setting: 1})
    with pytest.raises(ValueError, match="outside the workload"):
        subject.send({"order": 1})


def test_raw_obeys_a_pause(tmp_path: Path) -> None:
    subject = raw(tmp_path / "raw.db", "normal")
    assert isinstance(subject, Raw)
    subject.send({"order": 1})
    with DurableQ(tmp_path / "raw.db") as app:
        app.store.declare_queue(QUEUE, {"paused": 1})
        assert subject.receive(1) == []
        app.store.declare_queue(QUEUE, {"paused": 0})
    assert len(subject.receive(1)) == 1
