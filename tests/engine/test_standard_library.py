"""The standard library's SQLite serves too: a part of the suite runs again with it.

All of it: DURABLEQ_SQLITE=stdlib python -m pytest
"""

from __future__ import annotations

import faulthandler
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import scaled

ROOT = Path(__file__).resolve().parents[2]
PART = (
    "tests/contract/test_sqlite.py::TestSQLite",
    "tests/contract/test_random_walks.py::test_two_engines_that_walk_side_by_side_agree[0]",
    "tests/engine/test_outbox.py",
    "tests/engine/test_writing.py",
)
NAMED = (
    "TestSQLite and (stale or duplicate or dead or book or key) or walk or test_outbox"
    " or test_writing and (commit or full)"
)


@pytest.mark.skipif("DURABLEQ_SQLITE" in os.environ, reason="this run has chosen its library")
def test_a_part_of_the_suite_passes_with_the_standard_librarys_sqlite() -> None:
    """They run in one process: a start of pytest costs as much as ten of these tests."""
    faulthandler.cancel_dump_traceback_later()  # each of those tests has its own time limit
    options = ["-p", "no:cacheprovider", "-p", "no:xdist", "-k", NAMED, "-v"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *PART],
        cwd=ROOT,
        env=os.environ | {"DURABLEQ_SQLITE": "stdlib"},
        capture_output=True,
        text=True,
        timeout=scaled(200),
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    missing = {path for path in PART if path.partition("::")[0] not in done.stdout}
    assert not missing, "none of these tests ran"


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
