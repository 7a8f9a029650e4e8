"""A new database file is accessible to its owner only, from the first instant."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from durableq import DurableQ
from durableq.engines.sqlite.driver import driver


@pytest.fixture(params=[0o000, 0o022, 0o777])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_a_new_file_is_its_owners_alone_before_sqlite_opens_it(
    umask: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    created: list[int] = []
    connect, open_file = driver.connect, os.open

    def opening(path: Any, flags: int, *mode: int, **options: Any) -> int:
        descriptor = open_file(path, flags, *mode, **options)
        if str(path).startswith(str(tmp_path)) and flags & os.O_CREAT:
            created.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        return descriptor

    def connecting(path: str, **options: Any) -> Any:
        if path.startswith(str(tmp_path)):
            seen.append(stat.S_IMODE(os.stat(path).st_mode))
        return connect(path, **options)

    monkeypatch.setattr(driver, "connect", connecting)
    monkeypatch.setattr(os, "open", opening)
    with DurableQ(tmp_path / "q.db") as dq:
        dq.queue("orders").send(1)
        assert created == [0o600 & ~umask], "others could open it before its mode was set"
        assert seen[0] == 0o600
        for path in tmp_path.iterdir():
            assert (path.name, stat.S_IMODE(path.stat().st_mode)) == (path.name, 0o600)
        assert {path.name for path in tmp_path.iterdir()} == {"q.db", "q.db-wal", "q.db-shm"}


def test_the_mode_of_a_file_that_is_there_is_kept(tmp_path: Path) -> None:
    db = tmp_path / "q.db"
    db.touch(0o660)
    db.chmod(0o660)
    with DurableQ(db) as dq:
        dq.queue("orders").send(1)
        assert stat.S_IMODE(db.stat().st_mode) == 0o660
