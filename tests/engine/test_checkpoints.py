"""Guarded checkpoints, which replace automatic ones with an affected SQLite library.

The mechanism is tested with the library in use, which need not be affected; the processes at the
end use the standard library's, which is affected where it is older than 3.51.3.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from durableq import DurableQ, Queue
from durableq.engines.sqlite import checkpoints
from durableq.engines.sqlite.driver import driver
from durableq.store.core import Capability
from tests.engine import plain
from tests.engine.shared_log import BATCHES, LARGEST_BATCH
from tests.support import scaled, wait_for

MIB = 1 << 20
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def guarded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "IS_GUARDED", True)
    monkeypatch.setattr(checkpoints, "ATTEMPT_EVERY_SECONDS", 0)


@pytest.fixture
def db(tmp_path: Path) -> Path:
    path = tmp_path / "queue.db"
    with DurableQ(path) as dq:
        dq.init()
    return path


def log_bytes(db: Path) -> int:
    return os.stat(f"{db}-wal").st_size


def automatic(raw: Any) -> int:
    return int(raw.execute("PRAGMA wal_autocheckpoint").fetchone()[0])


def test_no_connection_of_ours_checkpoints_automatically(db: Path) -> None:
    with DurableQ(db) as dq:
        dq.queue("orders").send(1)
        (message,) = dq.queue("orders").receive()
        with message.transaction() as tx:
            assert tx.execute("PRAGMA wal_autocheckpoint").scalar() == 0
        with dq.engine.connect() as connection:
            assert automatic(connection.connection.driver_connection) == 0


def test_a_callers_connection_that_carries_a_send_stops_too(db: Path) -> None:
    with DurableQ(db) as dq:
        orders = dq.queue("orders")
        orders.send("declares the queue")
        own = sa.create_engine(f"sqlite:///{db}", module=driver)
        with own.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE mine (n INTEGER)")
            connection.exec_driver_sql("INSERT INTO mine VALUES (1)")
            orders.send(1, connection=connection)
            assert automatic(connection.connection.driver_connection) == 0
        own.dispose()


class Watched:
    """A connection that lets another one try to write during its checkpoint."""

    def __init__(self, raw: Any, other: Any) -> None:
        self.raw = raw
        self.other = other
        self.found: list[str] = []

    def execute(self, sql: str) -> Any:
        assert "wal_checkpoint(PASSIVE)" in sql
        try:
            self.other.execute("BEGIN IMMEDIATE")
            self.other.execute("ROLLBACK")
            self.found.append("could write")
        except driver.OperationalError as error:
            self.found.append(str(error))
        return self.raw.execute(sql)


def test_a_checkpoint_runs_only_while_no_other_connection_can_write(db: Path) -> None:
    """A commit that restarts the log during a checkpoint would damage the file."""
    with DurableQ(db) as dq, plain.connection(db) as other:
        dq.queue("orders").send(1)
        other.execute("PRAGMA busy_timeout = 0")
        database = database_of(dq)
        watched = Watched(database.session().raw, other)
        database.checkpointer.run(watched)
        assert watched.found == ["database is locked"]
        other.execute("BEGIN IMMEDIATE")  # afterwards every connection can
        other.execute("ROLLBACK")


def test_while_another_connection_writes_nothing_is_checkpointed(db: Path) -> None:
    with DurableQ(db) as dq, plain.connection(db) as other:
        dq.queue("orders").send(1)
        before = os.stat(db).st_mtime_ns
        database = database_of(dq)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(driver.OperationalError, match="locked"):
            database.checkpointer.run(database.session().raw)
        assert os.stat(db).st_mtime_ns == before
        other.execute("ROLLBACK")
        database.checkpointer.run(database.session().raw)
        assert os.stat(db).st_mtime_ns != before


def test_the_log_stays_short(db: Path) -> None:
    body = "x" * (MIB // 2)
    with DurableQ(f"sqlite:///{db}?synchronous=normal") as dq:
        orders = dq.queue("orders", max_body_bytes=MIB)
        longest = max(send_and_measure(orders, body, db) for _ in range(40))
        assert checkpoints.CHECKPOINT_BYTES < longest < checkpoints.CHECKPOINT_BYTES + 2 * MIB


def test_a_log_that_a_reader_held_back_is_cut_once_the_reader_has_gone(db: Path) -> None:
    body = "x" * (MIB // 2)
    with DurableQ(f"sqlite:///{db}?synchronous=normal") as dq:
        orders = dq.queue("orders", max_body_bytes=MIB)
        with plain.connection(db) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM durableq_message").fetchone()
            sizes = [send_and_measure(orders, body, db) for _ in range(20)]
            assert sizes[-1] > 9 * MIB
        orders.send("checkpoints all of it")
        assert send_and_measure(orders, "starts the log afresh", db) <= 2 * MIB
        assert orders.info().counts.ready == 22


def test_a_log_that_grows_in_an_applications_own_transactions_is_kept_short(db: Path) -> None:
    with DurableQ(f"sqlite:///{db}?synchronous=normal") as dq:
        for _ in range(20):
            with dq.engine.begin() as connection:
                connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS mine (b)")
                connection.exec_driver_sql("INSERT INTO mine VALUES (zeroblob(1048576))")
        assert log_bytes(db) < checkpoints.CHECKPOINT_BYTES + 3 * MIB


def test_a_checkpoint_that_fails_does_not_undo_the_answer(
    db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise driver.OperationalError("disk I/O error")

    monkeypatch.setattr(checkpoints, "CHECKPOINT_BYTES", 0)
    with DurableQ(db) as dq:
        orders = dq.queue("orders")
        monkeypatch.setattr(checkpoints.Checkpointer, "run", failing)
        orders.send(1)
        assert orders.info().counts.ready == 1


def test_maintenance_checkpoints_under_the_guard(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    run = checkpoints.Checkpointer.run

    def spying(self: checkpoints.Checkpointer, raw: Any) -> None:
        run(self, raw)
        seen.append(raw.in_transaction)

    with DurableQ(db) as dq:
        dq.queue("orders").send(1)
        monkeypatch.setattr(checkpoints.Checkpointer, "run", spying)
        assert dq.store.require(Capability.MAINTENANCE).maintain().due
    assert seen == [False]


def overtake(mode: str) -> subprocess.CompletedProcess[str]:
    """Let a commit overtake a checkpoint in the standard library's SQLite: scripts/wal_reset.py."""
    done = subprocess.run(
        [sys.executable, "scripts/wal_reset.py", mode],
        cwd=ROOT,
        env=os.environ | {"DURABLEQ_SQLITE": "stdlib"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 3:
        pytest.skip(done.stdout.splitlines()[-1])
    return done


def test_a_commit_cannot_overtake_a_guarded_checkpoint() -> None:
    done = overtake("guarded")
    assert "other process: commit 1: database is locked" in done.stdout
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_commit_that_overtakes_an_unguarded_checkpoint_damages_the_file() -> None:
    """This damage is the reason for the guard."""
    done = overtake("unguarded")
    if "(not affected)" in done.stdout:
        pytest.skip("this Python's SQLite does not have the bug")
    assert done.returncode == 1, done.stdout + done.stderr


SENDERS = 3
CHECKPOINTERS = 2


def start(role: str, db: Path, ledger: Path) -> subprocess.Popen[bytes]:
    environment = os.environ | {"DURABLEQ_SQLITE": "stdlib"}
    command = [sys.executable, "-m", "tests.engine.shared_log", role, str(db), str(ledger)]
    return subprocess.Popen(command, cwd=ROOT, env=environment)


def test_processes_that_write_and_checkpoint_at_once_leave_the_file_whole(
    db: Path, tmp_path: Path
) -> None:
    """Send, complete, checkpoint and SIGKILL with the standard library's SQLite."""
    ledgers = [tmp_path / f"sent-{number}" for number in range(SENDERS + 1)]
    done = tmp_path / "completed"
    with ExitStack() as stack:
        checkpointing = [start("checkpoint", db, done) for _ in range(CHECKPOINTERS)]
        worker = start("complete", db, done)
        senders = [start("send", db, ledger) for ledger in ledgers]
        for process in (*checkpointing, worker, *senders):
            stack.callback(process.wait)
            stack.callback(process.kill)
        wait_for(lambda: answered(ledgers[-1:]), seconds=60, what="an answered send")
        senders.pop().kill()
        assert [process.wait(scaled(120)) for process in senders] == [0] * SENDERS
        assert [process.poll() for process in checkpointing] == [None] * CHECKPOINTERS
        worker.terminate()
        assert worker.wait(scaled(60)) == 0
    said, completed = answered(ledgers), answered([done])
    left = set(plain.column(db, "SELECT CAST(id AS TEXT) FROM durableq_message"))
    plain.check_sound(db)
    assert not left & completed
    assert said <= left | completed
    assert len((left | completed) - said) <= LARGEST_BATCH  # of the killed sender
    assert len(said) >= SENDERS * BATCHES
    assert completed


def answered(ledgers: list[Path]) -> set[str]:
    """Return the ids in the complete lines of ledgers."""
    texts = [ledger.read_text() for ledger in ledgers if ledger.exists()]
    return {word for text in texts for word in text.rpartition("\n")[0].split()}


def send_and_measure(orders: Queue, body: str, db: Path) -> int:
    orders.send(body)
    return log_bytes(db)


def database_of(dq: DurableQ) -> Any:
    store: Any = dq.store
    return store._database
