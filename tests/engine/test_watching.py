"""Wait for SQLite's commits: events that inotify omits, and files that must not be opened."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from durableq import DurableQ
from durableq.engines.sqlite.wakeup import FileWatch, has_no_writer
from durableq.runtime.wakeup import wait_readable
from durableq.store.core import Store
from tests.engine import plain
from tests.support import scaled, wait_for

LONG_SECONDS = 30
WRITE = "UPDATE durableq_queue SET created_at_ms = created_at_ms + 1"


@pytest.fixture
def store(dq: DurableQ) -> Any:
    return dq.store


@pytest.fixture
def watch(store: Any) -> Iterator[FileWatch]:
    with closing(store.watch()) as watch:
        rest(watch)
        yield watch


def rest(watch: FileWatch) -> None:
    """Wait until only an event can end a wait."""
    wait_for(lambda: not watch.wait(0.05) and watch._pause is None)


def open_files(db: Path) -> list[str]:
    names = []
    for number in os.listdir("/proc/self/fd"):
        try:
            names.append(os.readlink(f"/proc/self/fd/{number}"))
        except FileNotFoundError:
            continue
    return sorted(name for name in names if name.startswith(str(db)))


def test_a_commit_long_after_its_last_event_is_noticed(
    watch: FileWatch, db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log is written, then synced, and only then visible to others, without an event."""
    written, may_commit = threading.Event(), threading.Event()

    def write() -> None:
        with plain.connection(db) as raw:
            raw.execute("BEGIN IMMEDIATE")
            raw.execute(WRITE)
            written.set()
            may_commit.wait(scaled(LONG_SECONDS))
            raw.execute("COMMIT")

    events = iter([True])
    monkeypatch.setattr(watch, "_told", lambda: next(events, False))
    writer = threading.Thread(target=write)
    writer.start()
    assert written.wait(scaled(LONG_SECONDS))
    assert not watch.wait(0.2)
    assert watch._pause is not None, "it rests, and a writer is under way"
    may_commit.set()
    assert watch.wait(scaled(LONG_SECONDS))
    writer.join()


def test_a_watch_rests_again_after_an_undone_write(watch: FileWatch, db: Path) -> None:
    with plain.connection(db) as raw:
        raw.execute("PRAGMA cache_size = 1")  # so that the log is written before the end
        raw.execute("BEGIN IMMEDIATE")
        raw.execute("CREATE TABLE album AS SELECT randomblob(1000000) AS picture")
        assert not watch.wait(0.05)
        assert watch._pause is not None
        raw.execute("ROLLBACK")
    rest(watch)


def test_the_file_is_not_read_without_writes(
    watch: FileWatch, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store._database, "version", lambda: pytest.fail("the file was asked"))
    assert not watch.wait(0.1)


def test_checking_for_a_writer_blocks_no_writer(store: Any, db: Path) -> None:
    database = store._database
    assert has_no_writer(database)
    with plain.connection(db) as raw:
        raw.execute("BEGIN IMMEDIATE")
        assert not has_no_writer(database)
        raw.execute("ROLLBACK")
    assert not database.session().raw.in_transaction


def test_a_log_that_was_removed_is_watched_again(watch: FileWatch, store: Any, db: Path) -> None:
    store.close()  # the last to leave removes the log
    assert not Path(f"{db}-wal").exists()
    with plain.connection(db) as raw:
        raw.execute(WRITE)
        assert watch.wait(scaled(LONG_SECONDS))
        rest(watch)
        raw.execute(WRITE)
        assert watch.wait(scaled(LONG_SECONDS))
        assert watch._events is not None


def test_a_log_that_cannot_be_watched_is_polled(
    watch: FileWatch, store: Any, db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_listen", lambda: None)
    store.close()
    assert watch.wait(scaled(LONG_SECONDS))
    with plain.connection(db) as raw:
        assert not watch.wait(0.05)
        raw.execute(WRITE)
        assert watch.wait(scaled(LONG_SECONDS))


def test_a_file_that_other_machines_may_write_is_polled(db: Path, dq: DurableQ) -> None:
    with DurableQ(f"sqlite:///{db}?allow_network_filesystem=true") as another:
        store: Store = another.store
        with closing(store.watch()) as watch:
            assert isinstance(watch, FileWatch)
            assert watch._events is None


def test_a_watch_opens_no_file_of_the_database(store: Any, db: Path) -> None:
    store.queues()
    before = open_files(db)
    assert len(before) == 3
    with closing(store.watch()) as watch:
        watch.wait(0.05)
        assert open_files(db) == before


def test_a_watch_that_was_closed_leaves_nothing_open(store: Any) -> None:
    store.queues()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        store.watch().close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_descriptors_beyond_1023_can_be_waited_for() -> None:
    reader, writer = os.pipe()
    high = fcntl.fcntl(reader, fcntl.F_DUPFD_CLOEXEC, 1100)
    with open(high, "rb") as readable, open(writer, "wb") as writable, open(reader, "rb"):
        assert not wait_readable(0.01, readable)
        os.write(writable.fileno(), b"!")
        assert wait_readable(LONG_SECONDS, readable)
