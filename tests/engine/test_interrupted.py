"""A backup or restore that runs or was interrupted: the next opening, and doctor."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import pytest

from durableq import Busy, Conflict, DatabaseUnusable, DurableQ, Queue
from durableq.admin import operations
from durableq.engines.sqlite import copy_install, copy_marker, locks
from durableq.model.health import Finding
from tests.engine import plain
from tests.engine.copies import beside, refusal
from tests.process.child import Nursery


@pytest.fixture
def target(folder: Path) -> Path:
    return folder / "restored.db"


@pytest.fixture
def monday(orders: Queue, db: Path, tmp_path: Path) -> Path:
    """A backup with one message."""
    orders.send("kept")
    operations.back_up(str(db), tmp_path / "monday.db")
    return tmp_path / "monday.db"


@contextmanager
def running(target: Path, inode: int = 0, born_ns: int = 0) -> Iterator[None]:
    """Hold the marker of a restore, as its process does."""
    marker = copy_marker.marker_path(target)
    with marker.open("w+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        content = copy_marker.Marker("restore", "monday.db", 7, inode, born_ns)
        file.write(json.dumps(asdict(content)).encode() + b"\n")
        file.flush()
        yield


def unfinished_finding(target: Path) -> Finding:
    (finding,) = [f for f in operations.examine(str(target)) if f.name == "unfinished"]
    return finding


def open_once(path: Path) -> None:
    with DurableQ(path) as dq:
        _ = dq.store


def test_a_database_is_not_opened_during_its_restore(monday: Path, target: Path) -> None:
    with running(target):
        told = f"{target} is being restored from monday.db by process 7"
        for call in (open_once, lambda path: operations.restore(monday, str(path))):
            assert refusal(Busy, call, target) == f"{told}. Try again when that has ended."
        assert unfinished_finding(target).what == told
    assert beside(target) == ["restored.db.copying"]


def test_no_empty_database_is_made_after_an_interrupted_restore(monday: Path, target: Path) -> None:
    with running(target):
        copy_marker.partial_path(target).write_text("half a copy")
    told = refusal(DatabaseUnusable, open_once, target)
    assert told.startswith(f"A restore of monday.db to {target} was interrupted. There is no ")
    assert f"Run it again: `durableq restore monday.db --db {target}`; or, to begin" in told
    assert unfinished_finding(target).advice in told
    operations.restore(monday, str(target))
    assert plain.one(target, "SELECT count(*) FROM durableq_message") == 1
    assert beside(target) == ["restored.db"]


def test_the_next_opening_names_the_database_that_it_found(
    monday: Path, target: Path, caplog: pytest.LogCaptureFixture
) -> None:
    operations.restore(monday, str(target))
    with running(target):
        copy_marker.partial_path(target).write_text("half a copy")
    caplog.set_level(logging.WARNING, "durableq")
    open_once(target)
    open_once(target)
    (record,) = caplog.records
    assert f"{target} is the database of before, unchanged." in record.getMessage()
    assert beside(target) == ["restored.db"]


@pytest.mark.parametrize("later_ns", [0, 1])
def test_another_file_with_the_inode_number_of_a_lost_copy_is_not_the_copy(
    monday: Path, target: Path, later_ns: int
) -> None:
    operations.restore(monday, str(target))
    born_ns = copy_marker.birth_time_ns(target)
    if not born_ns:
        pytest.skip("this file system has no birth times")
    with running(target, target.stat().st_ino, born_ns + later_ns):
        pass
    words = "is the database of before" if later_ns else "is the restored database, whole"
    assert words in f"{unfinished_finding(target).what}. {unfinished_finding(target).advice}"


def test_a_birth_time_survives_writing_and_renaming(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    born_ns = copy_marker.birth_time_ns(path)
    path.write_text("content")
    path.chmod(0o600)
    os.link(path, path.with_name("second"))
    assert copy_marker.birth_time_ns(path.rename(path.with_name("other"))) == born_ns
    path.touch()
    assert not born_ns or copy_marker.birth_time_ns(path) != born_ns


def test_doctor_names_the_leftovers_of_an_older_durableq(monday: Path, target: Path) -> None:
    operations.restore(monday, str(target))
    stray = target.with_name(".restored.db.x2k4f1aa.partial")
    stray.touch()
    assert unfinished_finding(target).advice.endswith(f"rm {stray}")


def test_a_log_at_the_path_is_set_aside_and_never_applied(
    nursery: Nursery, dq: DurableQ, orders: Queue, db: Path, monday: Path
) -> None:
    dq.close()
    killed = nursery.start("lock", db)
    killed.wait_line("READY")
    killed.kill()
    db.unlink()
    made = operations.restore(monday, str(db))
    assert made.set_aside is not None
    assert made.set_aside.endswith("-wal")
    assert Path(made.set_aside).exists()
    assert plain.one(db, "SELECT count(*) FROM durableq_message") == 1
    plain.check_sound(db)


def test_a_removed_file_that_a_process_has_open_is_not_restored(
    nursery: Nursery, dq: DurableQ, db: Path, monday: Path
) -> None:
    dq.close()
    child = nursery.start("hold", db)
    child.wait_line("READY")
    db.unlink()
    assert f"is open in process {child.pid}" in refusal(
        Conflict, operations.restore, monday, str(db)
    )
    assert not db.exists()


@pytest.mark.parametrize("end", ["-wal", "-journal"])
def test_a_backup_beside_a_log_is_neither_made_nor_restored(
    db: Path, monday: Path, target: Path, end: str
) -> None:
    log = Path(f"{target}{end}")
    log.write_text("of another file")
    told = refusal(Conflict, operations.back_up, str(db), target)
    assert told.startswith(f"{log} exists: SQLite would apply that log")
    shutil.copy(monday, target)
    told = refusal(Conflict, operations.restore, target, f"{target}.again")
    assert f"`durableq backup FILE --db {target}`" in told
    assert log.read_text() == "of another file"
    assert beside(target) == sorted([target.name, log.name])


@pytest.mark.parametrize("exists", [True, False])
def test_through_a_symbolic_link_its_target_is_restored(
    monday: Path, folder: Path, target: Path, exists: bool
) -> None:
    if exists:
        operations.restore(monday, str(target))
    link = folder / "link.db"
    link.symlink_to(target)
    operations.restore(monday, str(link), replace=exists)
    assert link.readlink() == target
    assert not target.is_symlink()
    assert plain.one(target, "SELECT count(*) FROM durableq_message") == 1


def test_the_users_of_a_replaced_file_may_use_the_new_one(monday: Path, target: Path) -> None:
    operations.restore(monday, str(target))
    assert target.stat().st_mode & 0o777 == 0o600
    target.chmod(0o660)
    operations.restore(monday, str(target), replace=True)
    assert target.stat().st_mode & 0o777 == 0o660


def test_without_hard_links_a_restore_is_named_but_replaces_nothing(
    monday: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    operations.restore(monday, str(target))
    told = refusal(DatabaseUnusable, operations.restore, monday, str(target), replace=True)
    assert "file system without hard links" in told
    assert beside(target) == ["restored.db"]
    target.with_name("taken.db").touch()
    with copy_marker.copy_in_progress(target.with_name("taken.db"), "backup", monday) as made:
        assert "has come to exist" in refusal(Conflict, copy_install.install_new, made)


def test_a_name_that_is_too_long_is_refused_with_a_sentence(
    db: Path, monday: Path, folder: Path
) -> None:
    for length in (300, 250):
        name = folder / ("x" * length)
        assert "File name too long" in refusal(DatabaseUnusable, operations.back_up, str(db), name)
        assert "File name too long" in refusal(
            DatabaseUnusable, operations.restore, monday, str(name)
        )
        if length == 300:
            refusal(DatabaseUnusable, operations.restore, name, f"{folder}/new.db")
            refusal(DatabaseUnusable, operations.back_up, str(name), folder / "new.db")
    assert list(folder.iterdir()) == []


def test_a_refused_opening_keeps_no_connection(db: Path, monday: Path, target: Path) -> None:
    shutil.copy(monday, target)
    plain.script(target, "UPDATE durableq_version SET version_num = '9999'")
    with pytest.raises(DatabaseUnusable) as caught:
        _ = DurableQ(target).store
    assert caught.tb is not None  # its frames keep their connection alive
    assert locks.users(target) == set()
