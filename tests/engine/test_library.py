"""The choice of a SQLite library, and the versions that are accepted."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import types
from pathlib import Path

import pytest

from durableq import DurableQError, UnsupportedSQLite
from durableq.engines.sqlite.driver import check_library, choose, driver, is_affected

VERSIONS = {
    "3.7.0": False,
    "3.40.1": False,  # the standard library's, on Debian 12
    "3.44.5": False,
    "3.44.6": True,
    "3.44.9": True,
    "3.45.0": False,
    "3.49.99": False,
    "3.50.6": False,
    "3.50.7": True,
    "3.50.8": True,
    "3.51.0": False,
    "3.51.1": False,  # pysqlite3-binary's
    "3.51.2": False,
    "3.51.3": True,
    "3.53.0": True,
    "4.0.0": True,
}


@pytest.mark.parametrize(("version", "safe"), VERSIONS.items(), ids=VERSIONS)
def test_the_version_tells_whether_checkpoints_need_a_guard(version: str, safe: bool) -> None:
    assert is_affected(tuple(map(int, version.split(".")))) is not safe


@pytest.mark.parametrize("version", [(3, 34, 1), (3, 36, 9)])
def test_a_library_without_strict_tables_is_refused(version: tuple[int, ...]) -> None:
    with pytest.raises(UnsupportedSQLite, match=r"is too old.*3\.37\.0 or newer.*pip install"):
        check_library(version)


def test_the_oldest_supported_library_and_the_one_in_use_are_accepted() -> None:
    check_library((3, 37, 0))
    check_library(driver.sqlite_version_info)


def pretend(monkeypatch: pytest.MonkeyPatch, version: tuple[int, ...] | None) -> object:
    """Install a pysqlite3 of that version for this test, or none."""
    module = types.ModuleType("pysqlite3.dbapi2")
    module.sqlite_version_info = version  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pysqlite3", types.ModuleType("pysqlite3"))
    monkeypatch.setitem(sys.modules, "pysqlite3.dbapi2", module if version else None)
    return module


def test_a_safe_pysqlite3_is_preferred(monkeypatch: pytest.MonkeyPatch) -> None:
    module = pretend(monkeypatch, (3, 53, 4))
    assert choose({}) is module
    assert choose({"DURABLEQ_SQLITE": "stdlib"}) is sqlite3


def test_an_affected_pysqlite3_is_passed_over_unless_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = pretend(monkeypatch, (3, 51, 1))
    assert choose({}) is sqlite3
    assert choose({"DURABLEQ_SQLITE": "pysqlite3"}) is module


def test_without_pysqlite3_the_standard_library_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, None)
    assert choose({}) is sqlite3
    with pytest.raises(DurableQError, match=r"pysqlite3 is not installed.*pip install"):
        choose({"DURABLEQ_SQLITE": "pysqlite3"})


def test_an_unknown_choice_is_refused() -> None:
    with pytest.raises(DurableQError, match="DURABLEQ_SQLITE='apsw' names no SQLite library"):
        choose({"DURABLEQ_SQLITE": "apsw"})


@pytest.mark.parametrize("arguments", [["init"], ["backup", "copy.db"], ["doctor"]])
def test_a_system_without_posix_locks_is_refused_with_a_sentence(
    tmp_path: Path, arguments: list[str]
) -> None:
    """Windows has no fcntl."""
    code = (
        "import sys; sys.modules['fcntl'] = None; from durableq.cli import main; sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "POSIX systems only" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
