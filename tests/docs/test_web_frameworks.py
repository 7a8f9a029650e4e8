"""The page about web frameworks works as written: its files run. Those of FastAPI and Django do so
in tests/contrib."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.cli.console import environment
from tests.contrib.pages import FILES, PAGE, write
from tests.support import scaled


def run(folder: Path, name: str, *arguments: str, **variables: str) -> str:
    write(folder, name)
    ran = subprocess.run(
        [sys.executable, "-W", "error", name, *arguments],
        cwd=folder,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=scaled(60),
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def test_each_block_is_a_file() -> None:
    assert len(FILES) == PAGE.count("```python")


def test_a_connection_of_the_library_carries_a_send(tmp_path: Path) -> None:
    assert run(tmp_path, "plain_sqlite.py", "--undo") == "0"
    assert run(tmp_path, "plain_sqlite.py") == "1"


def test_a_connection_of_psycopg_carries_a_send(tmp_path: Path, postgres_url: str) -> None:
    server, _, name = postgres_url.rpartition("schema=")
    dsn = f"{server}options=-csearch_path%3D{name}"
    url = f"{dsn}&schema={name}"
    assert run(tmp_path, "plain_postgres.py", DURABLEQ_DB=url, DSN=dsn) == "1"
