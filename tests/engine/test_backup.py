"""Copies of a file, made while it is in use."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from durableq import (
    Conflict,
    DatabaseUnusable,
    DurableQ,
    ForeignDatabase,
    NotFound,
    Queue,
    StorageFull,
    Unsupported,
)
from durableq.admin import operations
from durableq.engines.sqlite import backup, schema
from tests.engine import plain
from tests.engine.copies import OLDER, beside, refusal


def test_a_backup_holds_commits_that_are_only_in_the_log(
    orders: Queue, db: Path, copy: Path
) -> None:
    orders.send_many(list(range(5)))
    plain_copy = copy.with_name("cp.db")
    subprocess.run(["cp", db, plain_copy], check=True)  # this process may not open the file
    operations.back_up(str(db), copy)
    assert plain.one(copy, "SELECT count(*) FROM durableq_message") == 5
    assert plain.one(plain_copy, "SELECT count(*) FROM durableq_message") == 0


def test_a_backup_is_one_whole_file_of_its_owner_alone(orders: Queue, db: Path, copy: Path) -> None:
    orders.send("a")
    before = os.umask(0)
    try:
        made = operations.back_up(str(db), copy)
    finally:
        os.umask(before)
    assert (made.path, made.size_bytes) == (str(copy), copy.stat().st_size)
    assert copy.stat().st_mode & 0o777 == 0o600
    assert copy.stat().st_nlink == 1
    assert beside(copy) == ["copy.db"]
    plain.check_sound(copy)


def test_a_backup_reports_its_progress(orders: Queue, db: Path, copy: Path) -> None:
    orders.send_many(["x" * 2000] * 2000)
    told: list[int] = []
    operations.back_up(str(db), copy, told.append)
    assert told == sorted(told)
    assert (told[-1], len(told) > 3, min(told) >= 0) == (100, True, True)


@pytest.mark.skipif(schema.LACKS_OCTET_LENGTH, reason="this SQLite library refuses that file")
def test_a_file_made_without_incremental_vacuum_gets_it_by_way_of_a_backup(
    tmp_path: Path, copy: Path
) -> None:
    old = Path(shutil.copy(OLDER, tmp_path / "old.db"))
    assert plain.one(old, "PRAGMA auto_vacuum") == 0
    operations.back_up(str(old), copy)
    assert plain.one(old, "PRAGMA auto_vacuum") == 0
    assert plain.one(copy, "PRAGMA auto_vacuum") == 2


def test_ctrl_c_leaves_nothing(orders: Queue, db: Path, copy: Path) -> None:
    orders.send_many(["x" * 2000] * 2000)

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        operations.back_up(str(db), copy, interrupt)
    assert beside(copy) == []
    orders.send("goes on")


def test_a_backup_overwrites_nothing(orders: Queue, db: Path, copy: Path) -> None:
    orders.send("a")
    copy.write_text("precious")
    assert "overwrites nothing" in refusal(Conflict, operations.back_up, str(db), copy)
    assert copy.read_text() == "precious"
    assert beside(copy) == ["copy.db"]


def test_a_name_that_is_taken_meanwhile_is_left(
    orders: Queue, db: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders.send("a")
    check = backup._check_whole

    def take(*arguments: Any) -> None:
        check(*arguments)
        copy.write_text("precious")

    monkeypatch.setattr(backup, "_check_whole", take)
    assert "has come to exist" in refusal(Conflict, operations.back_up, str(db), copy)
    assert copy.read_text() == "precious"
    assert beside(copy) == ["copy.db"]


def test_where_there_are_no_links_a_backup_is_renamed(
    orders: Queue, db: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "link", refuse)
    orders.send("a")
    operations.back_up(str(db), copy)
    assert beside(copy) == ["copy.db"]
    plain.check_sound(copy)


def test_a_backup_needs_a_path_and_a_database(dq: DurableQ, db: Path, copy: Path) -> None:
    nowhere = copy.parent / "nowhere" / "copy.db"
    assert "is a directory" in refusal(DatabaseUnusable, operations.back_up, str(db), copy.parent)
    assert "is not a directory" in refusal(DatabaseUnusable, operations.back_up, str(db), nowhere)
    missing = f"{db}.missing"
    assert "no database" in refusal(NotFound, operations.back_up, missing, copy)
    assert not Path(missing).exists()
    refusal(Unsupported, operations.back_up, "memory://", copy)
    refusal(Unsupported, operations.restore, copy, "memory://")
    other = copy.with_name("other.db")
    plain.create(other, "CREATE TABLE album (id INTEGER)")
    refusal(ForeignDatabase, operations.back_up, str(other), copy)
    empty = copy.with_name("empty.db")
    empty.touch()
    assert "holds no queue" in refusal(DatabaseUnusable, operations.back_up, str(empty), copy)
    assert beside(copy) == ["empty.db", "other.db"]


FULL = """
import resource, signal, sys
from durableq import DurableQError
from durableq.admin import operations
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
try:
    operations.back_up(*sys.argv[1:])
except DurableQError as error:
    print(type(error).__name__, error)
"""


def test_a_copy_that_cannot_be_written_whole_is_removed(
    orders: Queue, db: Path, copy: Path
) -> None:
    """The file system has 1 MiB, and the copy needs four."""
    orders.send_many(["x" * 2000] * 2000)
    ended = subprocess.run(
        [sys.executable, "-c", FULL, str(db), str(copy)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert ended.stdout.startswith("DatabaseUnusable The copy in"), ended
    assert beside(copy) == []
    plain.check_sound(db)


@pytest.fixture
def small(folder: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    size = ["-o", "size=1m"]
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", *size, "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a file system can be mounted by root only")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.skipif(not shutil.which("mount"), reason="there is no mount")
def test_a_backup_without_disk_space_is_refused(orders: Queue, db: Path, small: Path) -> None:
    orders.send_many(["x" * 2000] * 2000)
    told = refusal(StorageFull, operations.back_up, str(db), small / "copy.db")
    assert told.startswith("There is no room for the copy")
    assert list(small.iterdir()) == []
