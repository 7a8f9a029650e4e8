"""The standard library's SQLite serves too: a part of the suite runs again with it.

All of it: DURABLEQ_SQLITE=stdlib python -m pytest
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import scaled

ROOT = Path(__file__).resolve().parents[2]
PART = (
    ("tests/contract/test_sqlite.py::TestSQLite", "stale or duplicate or dead or book"),
    ("tests/engine/test_outbox.py", ""),
    ("tests/engine/test_writing.py", "commit or full"),
)


@pytest.mark.skipif("DURABLEQ_SQLITE" in os.environ, reason="this run has chosen its library")
@pytest.mark.parametrize(("tests", "named"), PART, ids=[part[0] for part in PART])
def test_with_the_standard_librarys_sqlite_pass(tests: str, named: str) -> None:
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", *(["-k", named] if named else [])]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, tests],
        cwd=ROOT,
        env=os.environ | {"DURABLEQ_SQLITE": "stdlib"},
        capture_output=True,
        text=True,
        timeout=scaled(200),
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert "passed" in done.stdout


def test_the_command_line_works_with_it_and_doctor_names_it(tmp_path: Path) -> None:
    def durableq(*arguments: str) -> str:
        command = [sys.executable, "-m", "durableq", *arguments]
        environment = os.environ | {"DURABLEQ_SQLITE": "stdlib"}
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    durableq("queue", "create", "orders")
    durableq("backup", "copy.db")
    assert "(sqlite3)" in durableq("doctor")
