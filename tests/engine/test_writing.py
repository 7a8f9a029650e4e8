"""Writes to the file: their durability, their waits, and the state after a failure."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from durableq import Busy, DatabaseReplaced, DurableQ, OutcomeUnknown, Queue, StorageFull
from durableq.engines.sqlite.driver import driver
from durableq.engines.sqlite.open_files import OpenFile
from durableq.engines.sqlite.store import SQLStore
from durableq.model.message import draft
from durableq.store.core import Capability
from tests.engine import plain
from tests.process.child import Nursery
from tests.support import scaled

BODY = {"text": "x" * 500}


def session(dq: DurableQ) -> Any:
    """Return the engine's connection of this thread."""
    store = dq.store
    assert isinstance(store, SQLStore)
    return store._database.session()


@pytest.mark.parametrize(
    ("query", "level"), [("", 2), ("?synchronous=full", 2), ("?synchronous=normal", 1)]
)
def test_synchronous_is_full_unless_the_url_says_normal(db: Path, query: str, level: int) -> None:
    with DurableQ(f"sqlite:///{db}{query}") as dq:
        dq.queue("orders")
        raw = session(dq).raw
        pragmas = ["synchronous", "journal_mode", "mmap_size"]
        read = [raw.execute(f"PRAGMA {name}").fetchone() for name in pragmas]
        assert read == [(level,), ("wal",), (0,)]
        with dq.engine.begin() as connection:
            raw = connection.connection.driver_connection
            assert raw is not None
            assert raw.execute("PRAGMA synchronous").fetchone() == (level,)


def test_every_write_begins_immediate(dq: DurableQ, orders: Queue) -> None:
    raw = session(dq).raw
    begun: list[str] = []
    raw.set_trace_callback(lambda sql: begun.append(sql) if sql.startswith("BEGIN") else None)
    orders.send({}, key="k")
    (message,) = orders.receive()
    message.extend(60)
    with message.transaction():
        pass
    dq.store.require(Capability.MAINTENANCE).prune()
    assert begun == ["BEGIN IMMEDIATE"] * 5
    begun.clear()
    orders.info()
    assert begun == ["BEGIN"], "a reader must not keep writers out"
    with dq.engine.begin() as connection:
        mine = connection.connection.driver_connection
        assert mine is not None
        assert mine.in_transaction


def test_a_lock_held_longer_than_the_busy_timeout_is_busy(db: Path, nursery: Nursery) -> None:
    with DurableQ(f"sqlite:///{db}?busy_timeout=0.3") as dq:
        orders = dq.queue("orders")
        orders.info()
        owner_id = nursery.start("lock", db)
        owner_id.wait_line("READY")
        started = time.monotonic()
        with pytest.raises(Busy, match=r"Nothing was stored; try again\."):
            orders.send(1)
        assert 0.25 < time.monotonic() - started < scaled(5)
        assert orders.info().counters.sent == 0, "reading needs no lock"
        owner_id.kill()
        orders.send(2)
    assert plain.column(db, "SELECT body FROM durableq_message") == ["2"]


def test_opening_waits_as_long_as_any_call(
    dq: DurableQ, orders: Queue, db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a crash another process may be recovering the log and hold every lock."""
    orders.send(1)
    dq.close()
    with plain.connection(db) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        waited: list[float] = []

        def wait_until_it_has_ended(seconds: float) -> None:
            waited.append(seconds)
            other.close()

        monkeypatch.setattr("time.sleep", wait_until_it_has_ended)
        assert orders.info().counts.ready == 1
    assert waited


def fail_commits(monkeypatch: pytest.MonkeyPatch, dq: DurableQ, *, happened: bool) -> None:
    """Let each COMMIT of this thread raise, before or after it has happened."""
    own = session(dq)
    execute = own.execute

    def execute_or_fail(sql: str, *parameters: Any) -> Any:
        if sql != "COMMIT":
            return execute(sql, *parameters)
        if happened:
            execute(sql)
        raise driver.OperationalError("disk I/O error")

    monkeypatch.setattr(own, "execute", execute_or_fail)


@pytest.mark.parametrize("happened", [False, True])
def test_a_commit_that_raises_may_or_may_not_have_happened(
    dq: DurableQ, orders: Queue, db: Path, happened: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        fail_commits(patched, dq, happened=happened)
        with pytest.raises(OutcomeUnknown, match="Repeat the call with the same key or receipt"):
            orders.send({}, key="k")
    assert plain.one(db, "SELECT count(*) FROM durableq_message") == int(happened)
    orders.send({}, key="k")  # which is safe
    assert len(orders.receive(10)) == 1
    plain.check_sound(db)


def test_repeating_a_completion_whose_commit_raised_is_safe(
    dq: DurableQ, orders: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders.send({}, key="k")
    (message,) = orders.receive()
    with monkeypatch.context() as patched:
        fail_commits(patched, dq, happened=True)
        with pytest.raises(OutcomeUnknown):
            message.complete({"paid": 1})
    message.complete({"paid": 1})
    assert orders.info().counters.completed == 1


def test_a_full_disk_undoes_the_write_and_loses_nothing(
    dq: DurableQ, orders: Queue, db: Path
) -> None:
    orders.send("before")
    raw = session(dq).raw
    (pages,) = raw.execute("PRAGMA page_count").fetchone()
    raw.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(StorageFull, match="make room, try again"):
        orders.send_many([BODY] * 1000)
    assert plain.one(db, "SELECT count(*) FROM durableq_message") == 1
    assert orders.receive()[0].body == "before"
    raw.execute("PRAGMA max_page_count = 4294967294")
    orders.send_many([BODY] * 1000)
    assert orders.info().counts.present == 1001
    plain.check_sound(db)


@pytest.mark.parametrize("then", ["unlinked", "replaced"])
def test_a_file_that_was_removed_while_open_is_noticed(
    dq: DurableQ, orders: Queue, db: Path, then: str
) -> None:
    orders.send("before")
    kept = db.with_name("kept.db")
    db.rename(kept)
    db.with_name("queue.db-wal").rename(kept.with_name("kept.db-wal"))
    db.with_name("queue.db-shm").rename(kept.with_name("kept.db-shm"))
    if then == "replaced":
        plain.create(db, "CREATE TABLE other (id)")
    with pytest.raises(DatabaseReplaced, match=r"Nothing was written\. Restart this process"):
        orders.send("into nothing")
    with pytest.raises(DatabaseReplaced):
        orders.receive()
    assert db.exists() is (then == "replaced")
    dq.close()
    assert plain.column(kept, "SELECT body FROM durableq_message") == ['"before"']
    plain.check_sound(kept)


def test_a_file_whose_directory_was_removed_is_noticed(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with DurableQ(folder / "queue.db") as dq:
        orders = dq.queue("orders")
        orders.send("before")
        folder.rename(tmp_path / "kept")
        folder.write_text("")  # no path leads to it any more
        for _ in range(2):
            with pytest.raises(DatabaseReplaced):
                orders.send("into nothing")
        assert not session(dq).raw.in_transaction


def test_a_write_interrupted_just_before_its_commit_lets_the_others_write(
    dq: DurableQ, orders: Queue, db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders.send("before")

    def interrupt(_: OpenFile) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(OpenFile, "check", interrupt)
        with pytest.raises(KeyboardInterrupt):
            orders.send("interrupted")
    with DurableQ(f"sqlite:///{db}?busy_timeout=1") as another:
        another.queue("orders").send("after")
    assert plain.column(db, "SELECT body FROM durableq_message") == ['"before"', '"after"']
    orders.send("and ours")


def test_a_removed_file_is_noticed_by_a_new_thread_too(
    dq: DurableQ, orders: Queue, db: Path
) -> None:
    _ = dq.store
    db.unlink()
    with ThreadPoolExecutor(1) as pool, pytest.raises(DatabaseReplaced):
        pool.submit(orders.send, 1).result()
    assert not db.exists(), "it made a new one"


def test_an_outbox_on_a_removed_file_is_refused(dq: DurableQ, orders: Queue, db: Path) -> None:
    with dq.engine.connect() as connection:
        transaction = connection.begin()
        db.unlink()
        with pytest.raises(DatabaseReplaced):
            orders.send(1, connection=connection)
        with pytest.raises(DatabaseReplaced):  # nor may the caller's rows be lost
            transaction.commit()


def test_a_closed_application_opens_again(dq: DurableQ, orders: Queue, db: Path) -> None:
    orders.send(1)
    dq.close()
    assert sorted(os.listdir(db.parent)) == ["queue.db"], "the log was not written back"
    orders.send(2)
    assert orders.info().counts.ready == 2


def test_a_large_body_is_received_without_being_rewritten(dq: DurableQ, db: Path) -> None:
    """A receive of 10 KB writes as many pages to the log as a receive of 10 bytes."""
    written = []
    for size in (10, 10_000):
        queue = dq.queue(f"bodies-{size}")
        for _ in range(3):
            dq.store.send(queue.name, [draft(bytes(size))])
        queue.receive()
        session(dq).raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (message,) = queue.receive()
        assert message.receive_count == 1
        written.append(db.with_name("queue.db-wal").stat().st_size)
    assert written[0] == written[1]
