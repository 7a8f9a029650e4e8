"""A database behind symbolic links: every part uses the file at their end."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from durableq import DurableQ
from durableq.admin.operations import back_up
from durableq.engines.sqlite import locks
from durableq.engines.sqlite.location import Location
from durableq.model.errors import DatabaseReplaced, DatabaseUnusable
from durableq.store.core import Capability
from durableq.supervisor.liveness import this_process
from tests.cli.console import forked


def link(folder: Path) -> Path:
    """A link to the file."""
    (folder / "link.db").symlink_to(folder / "data" / "real.db")
    return folder / "link.db"


def chain(folder: Path) -> Path:
    """A link to a relative link to a link."""
    first = link(folder)
    (folder / "second.db").symlink_to("link.db")
    (folder / "third.db").symlink_to(folder / "second.db")
    assert first.is_symlink()
    return folder / "third.db"


def directory(folder: Path) -> Path:
    """A file in a directory that is a link."""
    (folder / "current").symlink_to(folder / "data")
    return folder / "current" / "real.db"


@pytest.fixture(params=[link, chain, directory], ids=lambda make: make.__name__)
def named(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A path to data/real.db, which does not exist yet."""
    (tmp_path / "data").mkdir()
    make: Callable[[Path], Path] = request.param
    return make(tmp_path)


def doctor(path: Path) -> dict[str, Any]:
    """Return the doctor's findings of another process by name; none is bad."""
    shown = forked("doctor", "--json", "--db", path, cwd=path.parent)
    assert shown.code == 0, shown.err
    return {finding["name"]: finding for finding in shown.json["findings"]}


def test_the_file_its_log_and_its_locks_are_found(named: Path, tmp_path: Path) -> None:
    real = tmp_path / "data" / "real.db"
    with DurableQ(named) as dq:
        for number in range(100):
            dq.queue("orders").send({"n": number, "pad": "x" * 500})
        dq.store.require(Capability.FLEET).register(this_process("worker"))
        assert sorted(path.name for path in real.parent.iterdir()) == [
            *("real.db", "real.db-shm", "real.db-wal")
        ]
        assert (
            dq.store.require(Capability.INSPECT).storage().log_bytes
            == os.stat(f"{real}-wal").st_size
            > 0
        )
        store: Any = dq.store
        with closing(store.watch()) as watch:
            assert watch._events is not None, "the log is not watched by inotify"
        assert locks.users(Location(named).path) == {os.getpid()}
        found = doctor(named)
        assert found["journal"]["what"] == "a write-ahead log"
        assert found["workers"]["what"] == "1 listed, none known to be dead"
        assert found["links"]["what"] == f"a symbolic link leads to {real}, which has one name"
        assert found["wal"]["what"] != "the write-ahead log has 0.0 MiB"
        back_up(str(named), tmp_path / "copy.db")
    with DurableQ(tmp_path / "copy.db") as copy:
        assert copy.queue("orders").info().counts.ready == 100


def test_a_link_to_a_missing_file_makes_its_target(named: Path, tmp_path: Path) -> None:
    real = tmp_path / "data" / "real.db"
    shown = forked("doctor", "--db", named, cwd=tmp_path)
    assert f"there is no file {real}, to which {named} leads" in shown.out
    assert shown.code == 6
    assert forked("status", "--db", named, cwd=tmp_path).code == 3
    assert forked("init", "--db", named, cwd=tmp_path).code == 0
    assert real.is_file()
    assert (real.stat().st_mode & 0o777) == 0o600


def test_a_hard_link_of_the_file_behind_a_link_is_refused(named: Path, tmp_path: Path) -> None:
    real = tmp_path / "data" / "real.db"
    with DurableQ(real) as dq:
        dq.init()
    real.with_name("other.db").hardlink_to(real)
    with pytest.raises(DatabaseUnusable, match="has 2 hard links"):
        DurableQ(named).init()


def test_a_link_that_was_changed_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    named = link(tmp_path)
    with DurableQ(named) as dq:
        dq.queue("orders").send(1)
        with DurableQ(tmp_path / "other.db") as other:
            other.init()
        named.unlink()
        named.symlink_to(tmp_path / "other.db")
        with pytest.raises(DatabaseReplaced):
            dq.queue("orders").send(2)


def test_links_that_go_in_a_circle_are_refused_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.db").symlink_to("b.db")
    (tmp_path / "b.db").symlink_to("a.db")
    with pytest.raises(DatabaseUnusable, match="cannot be reached: Too many levels"):
        DurableQ(tmp_path / "a.db").init()
    assert forked("doctor", "--db", "a.db", cwd=tmp_path).code == 6


def test_a_link_to_a_missing_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    named = link(tmp_path)
    shutil.rmtree(tmp_path / "data")
    with pytest.raises(DatabaseUnusable, match="is not a directory"):
        DurableQ(named).init()
