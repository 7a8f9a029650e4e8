"""Maintenance of the file in slices: short under the write lock, done by one of many processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from durableq import DurableQ
from durableq.engines import open_store
from durableq.engines.sql import maintenance
from durableq.engines.sqlite import checkpoints, file_space
from durableq.model.endpoint import DELETIONS_KEPT_MS
from durableq.model.health import MaintenanceReport
from durableq.model.limits import MAINTENANCE_AGAIN_MS, MAINTENANCE_EVERY_MS
from durableq.model.message import draft
from durableq.store.core import Capability, Store
from durableq.testing import FakeClock
from tests.engine import plain
from tests.process.child import Nursery
from tests.support import new_file, wait_for

MANY = 3 * maintenance.WINDOW // 2


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store(db: Path, clock: FakeClock) -> Iterator[Store]:
    store = open_store(str(new_file(db, FakeClock)), clock=clock)
    store.declare_queue("orders", {"retention_ms": 3_600_000})
    yield store
    store.close()


def send(store: Store, number: int, body: str = "b") -> None:
    store.send("orders", [draft(body)] * number)


def log(db: Path) -> int:
    return Path(f"{db}-wal").stat().st_size


def test_a_new_file_gives_free_pages_back(store: Store, db: Path) -> None:
    assert plain.one(db, "PRAGMA auto_vacuum") == 2
    assert plain.one(db, "PRAGMA journal_mode") == "wal"


def test_a_file_that_grew_large_shrinks_bit_by_bit(
    store: Store, db: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_space, "SPARE_PAGES", 10)
    send(store, 1000, "x" * 2000)
    store.require(Capability.CONTROL).purge("orders")
    pages = plain.one(db, "PRAGMA page_count")
    first = store.require(Capability.MAINTENANCE).maintain()
    assert first == MaintenanceReport(due=True, freed_bytes=4096 * file_space.FREE_PAGES)
    assert plain.one(db, "PRAGMA page_count") == pages - file_space.FREE_PAGES
    clock.advance(MAINTENANCE_AGAIN_MS / 1000)
    while store.require(Capability.MAINTENANCE).maintain().freed_bytes:
        clock.advance(MAINTENANCE_AGAIN_MS / 1000)
    left = plain.one(db, "PRAGMA freelist_count")
    assert left < 2 * file_space.FREE_PAGES + plain.one(db, "PRAGMA page_count") // 4
    plain.check_sound(db)


def test_a_file_without_incremental_vacuum_is_left_as_it_is(
    store: Store, db: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.close()
    plain.script(db, "PRAGMA journal_mode = DELETE; PRAGMA auto_vacuum = 0; VACUUM")
    monkeypatch.setattr(file_space, "SPARE_PAGES", 10)
    again = open_store(str(db), clock=clock)
    send(again, 1000, "x" * 2000)
    again.require(Capability.CONTROL).purge("orders")
    pages = plain.one(db, "PRAGMA page_count")
    assert again.require(Capability.MAINTENANCE).maintain() == MaintenanceReport(due=True)
    assert plain.one(db, "PRAGMA page_count") == pages
    again.close()


def test_every_row_is_checked_window_by_window(store: Store, clock: FakeClock) -> None:
    send(store, MANY)
    clock.advance(3_600)
    store.declare_queue("later", {})
    store.send("later", [draft("b")])
    removed = []
    for _ in range(MANY // 200 + 3):
        removed.append(store.require(Capability.MAINTENANCE).maintain().expired)
        clock.advance(MAINTENANCE_AGAIN_MS / 1000)
    assert max(removed) == 200
    assert sum(removed) == MANY
    assert store.require(Capability.INSPECT).queue("later").counts.ready == 1


def test_after_the_last_window_comes_the_first(store: Store, clock: FakeClock) -> None:
    send(store, MANY)
    store.require(Capability.MAINTENANCE).maintain()  # looks at the first window
    clock.advance(3_600)
    removed = 0
    for _ in range(MANY // 200 + 10):
        removed += store.require(Capability.MAINTENANCE).maintain().expired
        clock.advance(MAINTENANCE_EVERY_MS / 1000)
    assert removed == MANY


@pytest.mark.parametrize("way", ["maintain", "prune"])
def test_groups_that_only_their_rate_remembers_are_forgotten(
    store: Store, db: Path, clock: FakeClock, way: str
) -> None:
    """The last message of a group may complete before its next token: the row stays for that."""
    in_a_minute = clock.lease_ms() + 60_000
    rows = f"(2, 'idle', 0, 0, {in_a_minute}000000), (2, 'active', 1, 0, 0), (2, 'held', 0, 1, 0)"
    plain.script(
        db,
        "INSERT INTO durableq_group (queue_id, group_id, active, holding, tat_ns) VALUES " + rows,
    )
    left = []
    for _ in range(2):
        getattr(store.require(Capability.MAINTENANCE), way)()
        left.append(plain.one(db, "SELECT group_concat(group_id) FROM durableq_group"))
        clock.advance(61 + MAINTENANCE_EVERY_MS / 1000)
    assert left == ["active,held,idle", "active,held"]


@pytest.mark.parametrize("way", ["maintain", "prune"])
def test_old_receives_and_deletions_of_sqs_are_forgotten(
    store: Store, db: Path, clock: FakeClock, way: str
) -> None:
    now_ms = clock.wall_ms()
    plain.script(
        db,
        "INSERT INTO durableq_receive_attempt VALUES (1, 'old', x'00', '[]', 0, 0), "
        f"(1, 'young', x'00', '[]', 0, {now_ms + 1}); "
        f"INSERT INTO durableq_deleted_queue VALUES ('old', {now_ms - DELETIONS_KEPT_MS}), "
        f"('young', {now_ms - DELETIONS_KEPT_MS + 1})",
    )
    getattr(store.require(Capability.MAINTENANCE), way)()
    for column, table in (("attempt_id", "receive_attempt"), ("name", "deleted_queue")):
        assert plain.one(db, f"SELECT group_concat({column}) FROM durableq_{table}") == "young"


def test_a_slice_forgets_a_bounded_number_of_deletions_and_the_next_one_comes_soon(
    store: Store, db: Path, clock: FakeClock
) -> None:
    old_ms = clock.wall_ms() - DELETIONS_KEPT_MS
    values = ", ".join(f"('old-{n}', {old_ms})" for n in range(25))
    plain.script(db, f"INSERT INTO durableq_deleted_queue VALUES {values}")
    maintenance, left = store.require(Capability.MAINTENANCE), []
    for _ in range(3):
        assert maintenance.maintain(limit=10).due
        left.append(plain.one(db, "SELECT count(*) FROM durableq_deleted_queue"))
        clock.advance(MAINTENANCE_AGAIN_MS / 1000)
    assert left == [15, 5, 0]
    assert not maintenance.maintain(limit=10).due


def test_an_expired_message_of_a_queue_that_is_not_there_stops_no_maintenance(
    store: Store, db: Path, clock: FakeClock
) -> None:
    store.declare_queue("lost", {})
    for queue in ("lost", "orders"):
        store.send(queue, [draft("b", expires_in=1)])
    plain.script(db, "DELETE FROM durableq_queue WHERE name = 'lost'")
    clock.advance(2)
    maintenance = store.require(Capability.MAINTENANCE)
    assert maintenance.maintain().expired == 1
    orphans = {one.name: one.what for one in maintenance.orphans()}
    assert orphans["messages_without_queue"] == "1 messages of a queue that is not there"


def test_a_process_that_cannot_write_at_once_leaves_maintenance_to_others(
    store: Store, db: Path, clock: FakeClock, tmp_path: Path
) -> None:
    nursery = Nursery(tmp_path)
    child = nursery.start("lock", db)
    child.wait_line("READY")
    assert store.require(Capability.MAINTENANCE).maintain() == MaintenanceReport()
    nursery.close()
    assert store.require(Capability.MAINTENANCE).maintain().due


def test_one_of_several_stores_runs_maintenance(store: Store, db: Path, clock: FakeClock) -> None:
    others = [open_store(str(db), clock=clock) for _ in range(3)]
    assert [other.require(Capability.MAINTENANCE).maintain().due for other in (store, *others)] == [
        True,
        False,
        False,
        False,
    ]
    for other in others:
        other.close()


def test_nothing_is_written_before_maintenance_is_due(store: Store, db: Path) -> None:
    store.require(Capability.MAINTENANCE).maintain()
    with plain.connection(db) as raw:
        before = raw.execute("PRAGMA data_version").fetchone()
        assert not store.require(Capability.MAINTENANCE).maintain().due
        assert raw.execute("PRAGMA data_version").fetchone() == before


@pytest.mark.skipif(checkpoints.IS_GUARDED, reason="a guarded log is cut by the next commit")
def test_a_large_log_is_cut_when_no_process_reads_it(
    store: Store, db: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_space, "JOURNAL_SIZE_LIMIT", 100_000)
    with plain.connection(db) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM durableq_message").fetchone()
        send(store, 1000, "x" * 500)
        assert store.require(Capability.MAINTENANCE).maintain().due
        large = log(db)
        assert large > 100_000  # a connection reads commits that are only in the log
        reader.execute("ROLLBACK")
    clock.advance(MAINTENANCE_EVERY_MS / 1000)
    assert store.require(Capability.MAINTENANCE).maintain().due
    assert log(db) == 0
    assert store.require(Capability.INSPECT).queue("orders").counts.ready == 1000


def test_a_long_log_is_cut_once_no_process_writes(
    store: Store, db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readers and writers keep it, and cost an attempt each."""
    maintenance = store.require(Capability.MAINTENANCE)
    assert maintenance.maintain().due
    send(store, 1000, "x" * 1000)
    large = log(db)
    assert large > file_space.IDLE_LOG_BYTES
    monkeypatch.setattr(file_space, "IDLE_SECONDS", 3600)
    maintenance.maintain()
    assert log(db) == large, "it was written a moment ago"
    monkeypatch.setattr(file_space, "IDLE_SECONDS", 0)
    with plain.connection(db) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM durableq_message").fetchone()
        assert not maintenance.maintain().due
        assert log(db) == large
        reader.execute("ROLLBACK")
        reader.execute("BEGIN IMMEDIATE")
        assert not maintenance.maintain().due
        reader.execute("ROLLBACK")
    assert not maintenance.maintain().due
    assert log(db) <= file_space.IDLE_LOG_BYTES
    assert store.require(Capability.INSPECT).queue("orders").counts.ready == 1000


def test_an_idle_fleet_cuts_the_log_that_its_work_left(db: Path, nursery: Nursery) -> None:
    with DurableQ(db) as dq:  # keeps the log from being removed by the last connection
        orders = dq.queue("orders")
        for _ in range(3):
            orders.send_many([{"text": "x" * 50_000}] * 20)  # few handlings write much
        assert log(db) > file_space.IDLE_LOG_BYTES
        for _ in range(2):
            nursery.worker(db, "orders")
        wait_for(lambda: orders.info().counts.present == 0, seconds=60, what="the drain")
        wait_for(lambda: log(db) <= file_space.IDLE_LOG_BYTES, seconds=60, what="a short log")


def test_maintenance_needs_no_queue_and_no_worker(db: Path) -> None:
    with DurableQ(db) as dq:
        assert dq.store.require(Capability.MAINTENANCE).maintain() == MaintenanceReport(due=True)
