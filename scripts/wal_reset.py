"""Show SQLite's WAL-reset bug, or that guarded checkpoints avoid it, with the standard library.

    python scripts/wal_reset.py [automatic | guarded] [SECONDS]

Two processes commit small transactions, two others checkpoint without a pause; then the file is
checked. With `automatic`, an affected SQLite (3.7.0 to 3.51.2) damages the file in some runs: it
depends on the scheduler. With `guarded`, a second connection holds the write lock meanwhile.
"""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TextIO

PROCESSES = 4


def connect(path: str) -> sqlite3.Connection:
    """Open the file without automatic checkpoints."""
    raw = sqlite3.connect(path, isolation_level=None, timeout=30)
    raw.execute("PRAGMA synchronous = OFF")
    raw.execute("PRAGMA wal_autocheckpoint = 0")
    return raw


def write(raw: sqlite3.Connection, writer: int, ledger: TextIO) -> None:
    """Commit one transaction and note its last row."""
    row = None
    raw.execute("BEGIN IMMEDIATE")
    for _ in range(random.randint(1, 12)):
        sql = "INSERT INTO t (writer, at, body) VALUES (?, ?, randomblob(?))"
        values = (writer, time.monotonic_ns(), random.randint(10, 6000))
        row = raw.execute(sql, values).lastrowid
    raw.execute("COMMIT")
    ledger.write(f"{row}\n")


def checkpoint(raw: sqlite3.Connection, guard: sqlite3.Connection | None) -> None:
    """Checkpoint once, under the guard if there is one."""
    if guard is None:
        raw.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        return
    with suppress(sqlite3.OperationalError):
        guard.execute("BEGIN IMMEDIATE")
        raw.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    if guard.in_transaction:
        guard.execute("ROLLBACK")


def child(path: str, mode: str, seconds: float, number: int) -> None:
    """Write or checkpoint until the time is over."""
    raw = connect(path)
    guard = connect(path) if mode == "guarded" else None
    until = time.monotonic() + seconds
    with Path(f"{path}-{number}.ledger").open("w") as ledger:
        while time.monotonic() < until:
            if number % 2:
                checkpoint(raw, guard)
            else:
                write(raw, number, ledger)


def judge(path: str) -> bool:
    """Print the state of the file; return whether it is whole and has every answered row."""
    raw = connect(path)
    try:
        faults = [row[0] for row in raw.execute("PRAGMA integrity_check(3)")]
        have = {row[0] for row in raw.execute("SELECT id FROM t")}
    except sqlite3.DatabaseError as error:
        print(f"damaged: {error}")
        return False
    ledgers = Path(path).parent.glob("*.ledger")
    said = {int(line) for ledger in ledgers for line in ledger.read_text().split()}
    first = " ".join(str(faults[0]).split())[:100]
    print(f"integrity: {first}; {len(said)} commits answered, {len(said - have)} lost")
    return faults == ["ok"] and said <= have


def main() -> int:
    """Run the processes and judge the file; exit status 1 if it is damaged."""
    if sys.argv[1:2] == ["child"]:
        path, mode, seconds, number = sys.argv[2:]
        child(path, mode, float(seconds), int(number))
        return 0
    mode = sys.argv[1] if len(sys.argv) > 1 else "automatic"
    seconds = sys.argv[2] if len(sys.argv) > 2 else "5"
    if mode not in {"automatic", "guarded"}:
        print(__doc__)
        return 2
    print(f"SQLite {sqlite3.sqlite_version}, {mode}, {seconds} s, {os.cpu_count()} processors")
    with TemporaryDirectory() as folder:
        path = f"{folder}/t.db"
        raw = connect(path)
        raw.execute("PRAGMA journal_mode = WAL")
        raw.execute(
            "CREATE TABLE t (id INTEGER PRIMARY KEY, writer, at, body, UNIQUE (writer, at))"
        )
        command = [sys.executable, __file__, "child", path, mode, seconds]
        children = [subprocess.Popen([*command, str(n)]) for n in range(PROCESSES)]
        for process in children:
            process.wait()
        raw.close()
        return 0 if judge(path) else 1


if __name__ == "__main__":
    sys.exit(main())
