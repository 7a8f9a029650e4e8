"""Restored files: checked, without former leases, and replacing nothing unasked."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from durableq import (
    Conflict,
    DatabaseUnusable,
    DurableQ,
    DurableQError,
    ForeignDatabase,
    NewerDatabase,
    NotFound,
    Queue,
)
from durableq.admin import operations
from durableq.engines.sqlite import copy_install, schema
from durableq.model.health import is_healthy
from durableq.model.message import State
from durableq.store.core import Capability, WorkerInfo
from durableq.supervisor.liveness import this_process
from tests.engine import plain
from tests.engine.copies import OLDER, beside, refusal
from tests.process.child import Nursery


def restored(copy: Path) -> str:
    return str(copy.with_name("restored.db"))


def test_a_restored_file_has_no_leases_no_workers_and_free_keys(
    dq: DurableQ, orders: Queue, db: Path, copy: Path
) -> None:
    dq.queue("orders", max_receives=1)
    owner_id = dq.store.require(Capability.FLEET).register(this_process("worker-1")).owner_id
    held = orders.send("held", key="k")
    behind = orders.send("behind", key="k")
    dq.store.receive("orders", 2, owner_id=owner_id)
    operations.back_up(str(db), copy)
    made = operations.restore(copy, restored(copy))
    assert made.released == 1
    with DurableQ(restored(copy)) as again:
        assert again.store.require(Capability.FLEET).workers() == []
        for message_id in (held, behind):
            message = again.store.require(Capability.INSPECT).message(message_id)
            assert message is not None
            assert (message.state, message.receive_count) == (State.READY, 0)
            assert again.store.require(Capability.DEAD_LETTERS).history(message_id) == []
        assert again.store.require(Capability.IDEMPOTENCY).record("orders", "k") is None
        assert is_healthy(operations.audit(again.store))
    assert beside(copy) == ["copy.db", "restored.db"]


def test_a_backup_that_is_opened_as_it_is_has_no_leases_either(
    orders: Queue, db: Path, copy: Path
) -> None:
    orders.send("held")
    orders.receive()
    operations.back_up(str(db), copy)
    with DurableQ(copy) as again:
        assert again.queue("orders").info().counts.ready == 1
    assert orders.info().counts.in_flight == 1


@pytest.mark.parametrize("how", ["restored", "opened as it is"])
def test_a_copy_knows_no_computation(dq: DurableQ, db: Path, copy: Path, how: str) -> None:
    """Its process lives, and computes for the other file."""

    def compute() -> str:
        operations.back_up(str(db), copy)
        url = restored(copy) if how == "restored" else str(copy)
        if how == "restored":
            operations.restore(copy, url)
        with DurableQ(url) as again:
            assert again.once("rates", lambda: "of the copy", ttl=3600, wait=0) == "of the copy"
        return "of the file"

    assert dq.once("rates", compute, ttl=3600) == "of the file"
    assert dq.once("rates", lambda: "again", ttl=3600) == "of the file"


@pytest.mark.skipif(schema.LACKS_OCTET_LENGTH, reason="this SQLite library refuses that file")
def test_a_backup_of_an_older_durableq_is_upgraded_and_itself_left_as_it_is(
    tmp_path: Path, copy: Path
) -> None:
    old = Path(shutil.copy(OLDER, tmp_path / "old.db"))
    operations.back_up(str(old), copy)
    content = copy.read_bytes()
    made = operations.restore(copy, restored(copy))
    assert made.released == 1
    assert copy.read_bytes() == content
    with DurableQ(restored(copy)) as again:
        assert again.store.require(Capability.INSPECT).message("1") is not None
        assert is_healthy(operations.audit(again.store))


def test_restoring_does_not_write_over_a_database(
    dq: DurableQ, orders: Queue, db: Path, copy: Path
) -> None:
    orders.send("a")
    operations.back_up(str(db), copy)
    dq.close()
    content = db.read_bytes()
    assert "--replace" in refusal(Conflict, operations.restore, copy, str(db))
    assert db.read_bytes() == content


def test_a_replaced_database_is_set_aside_with_its_log(
    nursery: Nursery, dq: DurableQ, orders: Queue, db: Path, copy: Path
) -> None:
    orders.send("before")
    operations.back_up(str(db), copy)
    orders.send("after")
    dq.close()
    killed = nursery.start("lock", db)  # its log stays
    killed.wait_line("READY")
    killed.kill()
    assert db.with_name("queue.db-wal").exists()
    made = operations.restore(copy, str(db), replace=True)
    assert made.set_aside is not None
    assert plain.one(db, "SELECT count(*) FROM durableq_message") == 1
    assert plain.one(Path(made.set_aside), "SELECT count(*) FROM durableq_message") == 2
    plain.check_sound(db)


def test_a_replacement_that_fails_leaves_the_old_database(
    dq: DurableQ, orders: Queue, db: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders.send("kept")
    operations.back_up(str(db), copy)
    dq.close()

    def fail(*_: object) -> None:
        raise DatabaseUnusable("no")

    monkeypatch.setattr(copy_install, "_set_aside", fail)
    refusal(DatabaseUnusable, operations.restore, copy, str(db), replace=True)
    assert [name for name in beside(db) if name != "copies"] == ["queue.db"]
    assert plain.one(db, "SELECT count(*) FROM durableq_message") == 1


def test_a_live_database_is_not_replaced(
    nursery: Nursery, dq: DurableQ, orders: Queue, db: Path, copy: Path
) -> None:
    orders.send("a")
    operations.back_up(str(db), copy)
    dq.close()
    child = nursery.start("hold", db)
    child.wait_line("READY")
    told = refusal(Conflict, operations.restore, copy, str(db), replace=True)
    assert f"is open in process {child.pid} (" in told
    child.kill()
    operations.restore(copy, str(db), replace=True)


def test_a_database_with_a_living_worker_is_not_replaced_though_it_is_closed(
    dq: DurableQ, orders: Queue, db: Path, copy: Path
) -> None:
    operations.back_up(str(db), copy)
    dq.store.require(Capability.FLEET).register(this_process("worker-1"))
    dq.close()
    told = refusal(Conflict, operations.restore, copy, str(db), replace=True)
    assert told.startswith(f"Worker worker-1 (pid {os.getpid()}) works on {db}.")


def test_a_worker_of_another_container_lives_while_its_beat_is_fresh(
    dq: DurableQ, orders: Queue, db: Path, copy: Path
) -> None:
    operations.back_up(str(db), copy)
    boot = this_process("me").boot_id
    elsewhere = WorkerInfo("elsewhere", 7, 1, boot, pid_namespace="pid:[1]")
    dq.store.require(Capability.FLEET).register(elsewhere)
    dq.close()
    refusal(Conflict, operations.restore, copy, str(db), replace=True)
    plain.script(db, "UPDATE durableq_worker SET beat_at_ms = beat_at_ms - 61000")
    operations.restore(copy, str(db), replace=True)
    assert plain.column(db, "SELECT name FROM durableq_worker") == []


def test_a_file_that_is_no_backup_is_refused_and_leaves_no_file(
    dq: DurableQ, db: Path, copy: Path, folder: Path
) -> None:
    target = str(folder / "restored.db")
    assert "There is no backup" in refusal(NotFound, operations.restore, copy, target)
    assert "is not a file" in refusal(DatabaseUnusable, operations.restore, folder, target)
    _ = dq.store.require(Capability.INSPECT).queues()
    assert "It is no backup" in refusal(Conflict, operations.restore, db, target)
    refusal(Conflict, operations.restore, db, str(db), replace=True)
    for content in (b"junk", b"more junk " * 1000):
        copy.write_bytes(content)
        refusal(ForeignDatabase, operations.restore, copy, target)
    copy.write_bytes(b"")
    assert "holds no queue" in refusal(DatabaseUnusable, operations.restore, copy, target)
    copy.unlink()
    plain.create(copy, "CREATE TABLE album (id INTEGER)")
    refusal(ForeignDatabase, operations.restore, copy, target)
    assert beside(copy) == ["copy.db"]


def test_a_newer_durableqs_backup_is_refused(orders: Queue, db: Path, copy: Path) -> None:
    operations.back_up(str(db), copy)
    plain.script(copy, "UPDATE durableq_version SET version_num = '9999'")
    refusal(NewerDatabase, operations.restore, copy, restored(copy))
    assert beside(copy) == ["copy.db"]


@pytest.mark.parametrize("whole", [0.2, 0.5, 0.9])
def test_a_torn_backup_is_refused(orders: Queue, db: Path, copy: Path, whole: float) -> None:
    orders.send_many(["x" * 500] * 500)
    operations.back_up(str(db), copy)
    content = copy.read_bytes()
    copy.write_bytes(content[: int(len(content) * whole)])
    with pytest.raises(DurableQError, match="is damaged"):
        operations.restore(copy, restored(copy))
    assert beside(copy) == ["copy.db"]


def test_a_backup_with_a_flipped_page_is_refused(orders: Queue, db: Path, copy: Path) -> None:
    orders.send_many(["x" * 500] * 500)
    operations.back_up(str(db), copy)
    content = bytearray(copy.read_bytes())
    content[-40_000:-36_000] = bytes(4_000)
    copy.write_bytes(content)
    with pytest.raises(DatabaseUnusable, match=r"is damaged .* Use another backup"):
        operations.restore(copy, restored(copy))


def test_backups_under_load_restore_to_files_with_reconciled_counters(
    nursery: Nursery, dq: DurableQ, db: Path, folder: Path
) -> None:
    """Four processes write while five backups are made."""
    dq.queue("orders", max_receives=2)
    writers = [nursery.start("churn", db) for _ in range(4)]
    for writer in writers:
        writer.wait_line("9")
    present = []
    for number in range(5):
        before = dq.queue("orders").info().counters
        copy = folder / f"{number}.db"
        operations.back_up(str(db), copy)
        plain.check_sound(copy)
        target = str(folder / f"restored-{number}.db")
        operations.restore(copy, target)
        with DurableQ(target) as again:
            assert is_healthy(operations.audit(again.store))
            info = again.queue("orders").info()
        assert info.counters.sent >= before.sent  # sent before the backup, so in it
        assert info.counters.completed >= before.completed
        present.append(info.counters.sent)
        rounds = writers[0].said[-1]
        writers[0].wait_line(str(int(rounds) + 5))
    assert present == sorted(set(present))
    assert all(writer.process.poll() is None for writer in writers)
