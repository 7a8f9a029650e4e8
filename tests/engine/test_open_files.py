"""Other openings of the file in this process, and a log that is removed: noticed and refused."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from durableq import DatabaseReplaced, DatabaseUnusable, Delivery, DurableQ, Queue, Unsupported
from durableq.engines.sqlite import locks, open_files
from durableq.engines.sqlite.checkpoints import IS_GUARDED
from durableq.engines.sqlite.doctor import open_read_only
from durableq.engines.sqlite.driver import driver
from durableq.engines.sqlite.location import Location
from durableq.engines.sqlite.open_files import OpenFile
from durableq.store.core import Capability
from durableq.worker.options import WorkerOptions
from durableq.worker.worker import Worker
from tests.engine import plain
from tests.support import scaled, wait_for

IS_OTHER = driver.sqlite_version != sqlite3.sqlite_version or driver.__name__ != "sqlite3"
two_libraries = pytest.mark.skipif(not IS_OTHER, reason="the driver is the standard library's")


def linked(db: Path) -> Path:
    link = db.with_name("link.db")
    link.symlink_to(db)
    return link


SPELLINGS: dict[str, Callable[[Path], Any]] = {
    "text": str,
    "path": lambda db: db,
    "bytes": os.fsencode,
    "relative": os.path.relpath,
    "link": linked,
    "uri": lambda db: f"file:{db}?mode=ro",
    "immutable": lambda db: f"file:{db}?immutable=1",
}


@two_libraries
@pytest.mark.parametrize("spell", SPELLINGS.values(), ids=SPELLINGS)
def test_another_sqlite_library_may_not_open_the_file_while_it_is_open(
    orders: Queue, db: Path, spell: Callable[[Path], Any]
) -> None:
    orders.send("before")
    name = spell(db)
    with pytest.raises(Unsupported, match="two SQLite libraries on one file"):
        sqlite3.connect(name, uri=isinstance(name, str) and name.startswith("file:"))
    sqlite3.connect(":memory:").close()
    sqlite3.connect(db.with_name("other.db")).close()
    orders.send("after")
    assert orders.info().counts.ready == 2


@two_libraries
def test_closed_the_file_may_be_opened_by_any_library(
    dq: DurableQ, orders: Queue, db: Path
) -> None:
    orders.send(1)
    dq.close()
    other = sqlite3.connect(db)
    assert other.execute("SELECT body FROM durableq_message").fetchall() == [("1",)]
    other.close()
    orders.send(2)
    with pytest.raises(Unsupported):
        sqlite3.connect(db)


@two_libraries
def test_the_file_is_not_opened_beside_another_librarys_connection(
    dq: DurableQ, orders: Queue, db: Path
) -> None:
    dq.close()
    other = sqlite3.connect(db)
    other.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    with pytest.raises(Unsupported, match=r"open in this process already .*sqlite3"):
        orders.send(1)
    other.close()
    orders.send(1)


def test_the_file_is_not_opened_beside_a_plain_file(dq: DurableQ, orders: Queue, db: Path) -> None:
    dq.close()
    with db.open("rb"), pytest.raises(Unsupported, match=r"opened as a plain file"):
        orders.send(1)
    orders.send(1)


def test_connections_of_the_same_library_are_safe(dq: DurableQ, orders: Queue, db: Path) -> None:
    dq.close()
    with plain.connection(db) as other:
        orders.send(1)
        assert other.execute("SELECT count(*) FROM durableq_message").fetchone() == (1,)
    orders.send(2)
    assert plain.one(db, "SELECT count(*) FROM durableq_message") == 2


def by_descriptor(path: Path) -> None:
    os.close(os.open(path, os.O_RDONLY))


@pytest.mark.parametrize("end", ["", "-shm"])
@pytest.mark.parametrize("look", [Path.read_bytes, by_descriptor], ids=["file", "descriptor"])
def test_a_plain_opening_would_drop_the_locks_and_is_refused(
    orders: Queue, db: Path, end: str, look: Callable[[Path], Any]
) -> None:
    orders.send(1)
    with pytest.raises(Unsupported, match="drops SQLite's locks"):
        look(Path(f"{db}{end}"))
    assert orders.send(2) == "2"


def test_the_log_may_be_read_and_not_written(orders: Queue, db: Path) -> None:
    orders.send(1)
    log = Path(f"{db}-wal")
    assert log.read_bytes()
    with pytest.raises(Unsupported):
        log.open("wb")
    assert orders.info().counts.ready == 1


CHILD = """
import os, pathlib, sqlite3, sys
from durableq import DurableQ
dq = DurableQ(sys.argv[1])
dq.queue("orders").send("parent's")
if os.fork() == 0:
    pathlib.Path(sys.argv[1]).read_bytes()  # the locks are the parent's: nothing is dropped
    os._exit(7)
sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""


def test_a_forked_child_has_no_locks_to_lose(db: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", CHILD, db], check=False, timeout=scaled(60))
    assert ended.returncode == 7


@two_libraries
def test_a_handler_with_another_library_fails_and_nothing_is_done_twice(
    dq: DurableQ, db: Path
) -> None:
    done = []
    orders = dq.queue("orders", max_receives=1)

    @dq.handler("orders")
    def charge(message: Delivery) -> None:
        sqlite3.connect(db).close()
        done.append(message.id)

    sent = orders.send(1)
    Worker(dq, WorkerOptions("", dq.url, "worker", drain=True)).run()
    assert done == []
    event = dq.store.require(Capability.DEAD_LETTERS).history(sent)[-1]
    assert event.error_type.endswith("Unsupported")
    assert "Use dq.engine" in event.error_message


# ---- the log


def removed(log: Path) -> None:
    log.unlink()


def renamed(log: Path) -> None:
    log.rename(f"{log}.old")


def replaced(log: Path) -> None:
    log.rename(f"{log}.old")
    log.write_bytes(b"")


@pytest.mark.parametrize("end", ["-wal", "-shm"])
@pytest.mark.parametrize("go", [removed, renamed, replaced])
def test_a_removed_log_is_noticed_by_the_next_write(
    dq: DurableQ, orders: Queue, db: Path, end: str, go: Callable[[Path], None]
) -> None:
    orders.send("before")
    (message,) = orders.receive()
    go(Path(f"{db}{end}"))
    writes = (
        lambda: orders.send("into nothing"),
        message.complete,
        dq.store.require(Capability.MAINTENANCE).prune,
        lambda: orders.send_many([1, 2]),
    )
    for write in writes:
        with pytest.raises(DatabaseReplaced, match=rf"{end} was deleted or replaced .*Stop every"):
            write()
    with pytest.raises(DatabaseReplaced), message.transaction():
        pass
    with pytest.raises(DatabaseReplaced), dq.engine.begin():
        pass
    with ThreadPoolExecutor(1) as pool, pytest.raises(DatabaseReplaced):
        pool.submit(orders.send, 1).result()


#: The clocks of a test are this much slower, so a tick is long and yet far shorter than SETTLED_NS.
SLOWER = 10


class Ticks:
    """A slow clock for files: a change has the time at which its tick began."""

    def __init__(self, folder: Path, tick_ns: int) -> None:
        self._folder, self._tick_ns = str(folder), tick_ns

    def stat(self, path: Any, **options: Any) -> Any:
        status = os.stat(path, **options)
        if path != self._folder:
            return status
        changed_ns = status.st_ctime_ns // self._tick_ns * self._tick_ns // SLOWER + 1
        return SimpleNamespace(st_dev=status.st_dev, st_ino=status.st_ino, st_ctime_ns=changed_ns)

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def has_begun(self) -> bool:
        """Return whether a tick has just begun, by the kernel's own clock too."""
        return 0.04 < time.time_ns() % self._tick_ns / self._tick_ns < 0.3


@pytest.mark.parametrize("end", ["", "-wal", "-shm"])
def test_a_file_replaced_in_a_tick_of_the_clock_is_noticed(
    orders: Queue, db: Path, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its folder changed just before too, and still has the same time."""
    ticks = Ticks(db.parent, tick_ns=500_000_000)
    slow = SimpleNamespace(time_ns=lambda: time.time_ns() // SLOWER, monotonic=time.monotonic)
    monkeypatch.setattr(open_files, "os", ticks)
    monkeypatch.setattr(open_files, "time", slow)
    orders.send("before")
    wait_for(ticks.has_begun, what="the beginning of a tick")
    db.with_name("other").touch()
    orders.send("between")
    replaced(Path(f"{db}{end}"))
    with pytest.raises(DatabaseReplaced):
        orders.send("into nothing")


def looks_at_the_folder_alone(orders: Queue) -> bool:
    """Send a message; return whether the next write will look at the folder alone."""
    orders.send("between")
    store: Any = orders._app.store
    return bool(store._database.file._settled[0])


def is_refused(orders: Queue) -> bool:
    try:
        orders.send("into nothing")
    except DatabaseReplaced:
        return True
    return False


@pytest.mark.parametrize("end", ["", "-wal", "-shm"])
def test_a_file_replaced_in_a_folder_that_had_settled_is_noticed(
    orders: Queue, db: Path, end: str
) -> None:
    wait_for(lambda: looks_at_the_folder_alone(orders))
    replaced(Path(f"{db}{end}"))
    assert is_refused(orders)


def test_files_are_compared_each_second_in_an_unchanged_folder(
    orders: Queue, db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is mounted over the log, say, changes no name in the folder."""
    wait_for(lambda: looks_at_the_folder_alone(orders))
    looks = Ticks(db.parent, tick_ns=1)
    unchanged = os.stat(db.parent)
    monkeypatch.setattr(looks, "stat", lambda p: unchanged if p == str(db.parent) else os.stat(p))
    monkeypatch.setattr(open_files, "os", looks)
    replaced(Path(f"{db}-wal"))
    wait_for(lambda: is_refused(orders), seconds=3)
    assert is_refused(orders), "from then on, each write"


def test_behind_a_link_the_files_are_compared_in_each_write(tmp_path: Path) -> None:
    real, named = tmp_path / "real.db", tmp_path / "named.db"
    named.symlink_to(real)
    with DurableQ(named) as dq:
        orders = dq.queue("orders")
        orders.send("before")
        old_ns = time.time_ns() + 2 * open_files.SETTLED_NS
        wait_for(lambda: time.time_ns() > old_ns, what="a folder without changes")
        assert not looks_at_the_folder_alone(orders)


@pytest.mark.skipif(
    IS_GUARDED, reason="no checkpoint without a second connection, which is refused"
)
def test_commits_before_the_log_was_removed_are_kept(db: Path) -> None:
    """Only processes that have the log open can read it: the first that notices writes it back."""
    script = """
import os, signal, sys
from durableq import DatabaseReplaced, DurableQ
orders = DurableQ(sys.argv[1]).queue("orders")
for n in range(20):
    orders.send(n)
os.unlink(sys.argv[1] + "-wal")
try:
    orders.send("into nothing")
except DatabaseReplaced:
    os.kill(os.getpid(), signal.SIGKILL)
"""
    ended = subprocess.run([sys.executable, "-c", script, db], check=False, timeout=scaled(60))
    assert ended.returncode == -9
    bodies = plain.column(db, "SELECT body FROM durableq_message ORDER BY id")
    assert bodies == [str(n) for n in range(20)]
    plain.check_sound(db)


def test_no_process_begins_another_log_beside_a_removed_one(orders: Queue, db: Path) -> None:
    orders.send(1)
    Path(f"{db}-wal").unlink()
    send = (
        "import sys; from durableq import DurableQ; DurableQ(sys.argv[1]).queue('orders').send(2)"
    )
    other = subprocess.run(
        [sys.executable, "-c", send, db],
        check=False,
        timeout=scaled(60),
        capture_output=True,
        text=True,
    )
    assert other.returncode == 1
    assert "was removed while process" in other.stderr
    assert not Path(f"{db}-wal").exists()


def test_a_worker_whose_log_was_removed_stops(dq: DurableQ, orders: Queue, db: Path) -> None:
    @dq.handler("orders")
    def remove(_: Delivery) -> None:
        Path(f"{db}-wal").unlink(missing_ok=True)

    orders.send(1)
    orders.send(2)
    with pytest.raises(DatabaseUnusable):
        Worker(dq, WorkerOptions("", dq.url, "worker", drain=True)).run()


def test_a_log_that_sqlite_itself_removes_is_no_error(
    dq: DurableQ, orders: Queue, db: Path
) -> None:
    """The last connection removes it, in this process or another."""
    dq.close()
    for _ in range(3):
        thread = threading.Thread(target=orders.send, args=["by a thread that ends"])
        thread.start()
        thread.join()
        orders.send("by this thread")
        with plain.connection(db) as other:
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        orders.send("after a checkpoint")
        dq.close()
        assert not Path(f"{db}-wal").exists()
        with plain.connection(db) as other:
            other.execute("PRAGMA journal_mode = DELETE").fetchone()
    orders.send("with a new log")
    assert orders.info().counts.ready == 10


def test_a_log_that_another_process_creates_during_the_look_was_not_removed(
    db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log is created before its index, so a look at the log and then at the index can err."""
    log, index = db.with_name(f"{db.name}-wal"), db.with_name(f"{db.name}-shm")
    index.touch()
    looked: list[Path] = []

    def users(path: Path) -> set[int]:
        looked.append(path)
        log.touch()
        return {os.getppid()}

    monkeypatch.setattr(locks, "users", users)
    with DurableQ(db) as dq:
        assert dq.queue("orders").send("first") == "1"
    assert looked[0] == db


def test_an_opening_leaves_no_statement_active_that_another_thread_could_keep(
    db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A walk through all objects holds each cursor for a while, during an opening too."""
    kept: list[Any] = []

    class Keeping(driver.Connection):  # type: ignore[misc, unused-ignore]
        def execute(self, *arguments: Any) -> Any:
            cursor = super().execute(*arguments)
            if arguments[0].startswith("PRAGMA"):
                kept.append(cursor)
            return cursor

    connect = driver.connect

    def connecting(*arguments: Any, **options: Any) -> Any:
        return connect(*arguments, factory=Keeping, **options)

    monkeypatch.setattr(driver, "connect", connecting)
    with DurableQ(db) as dq, dq.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT 1").scalar() == 1
    assert kept
    kept.clear()  # a cursor keeps its connection open


def test_a_reader_that_opens_the_file_meanwhile_is_no_reason_to_refuse(
    orders: Queue, db: Path
) -> None:
    orders.send("before")
    file = OpenFile(Location(db))
    file.check_before_open()
    with open_read_only(db) as (reader, _), closing(driver.connect(str(db))) as raw:
        assert reader.execute("SELECT count(*) FROM durableq_message").fetchone() == (1,)
        file.add(raw)
        file.remove(raw)


def test_a_connection_for_reading_is_refused(orders: Queue, db: Path) -> None:
    orders.send("before")
    file = OpenFile(Location(db))
    file.check_before_open()
    with closing(driver.connect(f"file:{db}?mode=ro", uri=True)) as raw:
        raw.execute("SELECT count(*) FROM durableq_message").fetchone()
        with pytest.raises(DatabaseUnusable, match="was opened for reading only"):
            file.add(raw)
