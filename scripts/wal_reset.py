"""Reproduce SQLite's WAL-reset bug, and show that a guarded checkpoint avoids it.

    DURABLEQ_SQLITE=stdlib python scripts/wal_reset.py [unguarded | guarded]

Another process commits and checkpoints the whole log. A second checkpoint, in this process, is
halted after it has read the log's header, and the other process commits meanwhile, which starts
the log afresh. Then the second checkpoint goes on, and further commits follow. An affected SQLite
(3.7.0 to 3.51.2) has damaged the file by then. Under the guard, the commit in between is refused.

SQLite calls nothing between the header and its use except xUnfetch, which unmaps the database file
where it is mapped (PRAGMA mmap_size). The script replaces SQLite's munmap there; the bug needs no
mapped file, only a commit at that instant.

Exit status: 0 the file is whole, 1 it is damaged or rows are lost, 3 this Python's SQLite library
cannot be halted (it shows no symbols).
"""

from __future__ import annotations

import ctypes
import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TextIO, cast

from durableq.engines.sqlite.checkpoints import Checkpointer
from durableq.engines.sqlite.driver import driver, is_affected

#: Rows of the commit that the first checkpoint copies: they set the length of the first log.
LOG_ROWS: Final = 100
UNMAP = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)


class VFS(ctypes.Structure):
    """The head of `sqlite3_vfs`, as far as xSetSystemCall."""

    _fields_ = (
        ("version", ctypes.c_int),
        ("file_bytes", ctypes.c_int),
        ("path_bytes", ctypes.c_int),
        *((name, ctypes.c_void_p) for name in ("next", "name", "data")),
        ("methods", ctypes.c_void_p * 13),
        (
            "set_system_call",
            ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p),
        ),
    )


class Halt:
    """Calls `then` once, when SQLite unmaps a file after `armed` was set."""

    def __init__(self, then: Callable[[], None]) -> None:
        self.armed = False
        self._then = then
        self._real = ctypes.CDLL(None).munmap
        self._real.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        self._replacement = UNMAP(self._unmap)
        module = "pysqlite3._sqlite3" if "pysqlite3" in driver.__name__ else "_sqlite3"
        library = ctypes.CDLL(importlib.import_module(module).__file__)
        library.sqlite3_vfs_find.restype = ctypes.POINTER(VFS)
        self._vfs = library.sqlite3_vfs_find(None)
        self._set(ctypes.cast(self._replacement, ctypes.c_void_p))

    def close(self) -> None:
        """Give SQLite its own munmap back."""
        self._set(None)

    def _set(self, function: ctypes.c_void_p | None) -> None:
        self._vfs.contents.set_system_call(self._vfs, b"munmap", function)

    def _unmap(self, address: int, size: int) -> int:
        if self.armed:
            self.armed = False
            self._then()
        return int(self._real(address, size))


class OtherProcess:
    """A process that commits rows and checkpoints on request."""

    def __init__(self, path: str) -> None:
        command = [sys.executable, __file__, "other", path]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        self._orders = cast("TextIO", self._process.stdin)
        self._answers = cast("TextIO", self._process.stdout)
        #: Rows whose commit was answered.
        self.rows = 0

    def commit(self, rows: int) -> None:
        """Commit one transaction, without waiting for a lock."""
        if self._tell(f"commit {rows}") == "done":
            self.rows += rows

    def checkpoint(self) -> None:
        """Run a PASSIVE checkpoint."""
        self._tell("checkpoint")

    def _tell(self, words: str) -> str:
        print(words, file=self._orders, flush=True)
        answer = self._answers.readline().strip()
        print(f"other process: {words}: {answer}")
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def run_other_process(path: str) -> None:
    """Run as the other process: read `commit ROWS` and `checkpoint` from standard input."""
    raw = connect(path)
    raw.execute("PRAGMA busy_timeout = 0")
    for line in sys.stdin:
        word, *rows = line.split()
        try:
            if word == "checkpoint":
                raw.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            else:
                raw.execute("BEGIN IMMEDIATE")
                values = [(b"x" * 3000,)] * int(rows[0])
                raw.executemany("INSERT INTO t (body) VALUES (?)", values)
                raw.execute("COMMIT")
            print("done", flush=True)
        except driver.DatabaseError as error:
            print(error, flush=True)
    os._exit(0)  # closing could checkpoint once more


def connect(path: str) -> Any:
    """Open the file without automatic checkpoints."""
    raw = driver.connect(path, isolation_level=None)
    raw.execute("PRAGMA wal_autocheckpoint = 0")
    return raw


def prepare(path: str) -> Any:
    """Create the file; return a connection that has it mapped and does not know later commits."""
    raw = connect(path)
    raw.execute("PRAGMA journal_mode = WAL").fetchone()
    raw.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, body)")
    raw.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    raw.execute("PRAGMA mmap_size = 1048576").fetchone()
    raw.execute("SELECT count(*) FROM t").fetchone()
    return raw


def interleave(path: str, guarded: bool) -> tuple[int, bool]:
    """Run the interleaving; return the answered rows and whether the halt was reached."""
    raw = prepare(path)
    with closing(OtherProcess(path)) as other, closing(Halt(lambda: other.commit(1))) as halt:
        other.commit(LOG_ROWS)
        other.checkpoint()
        halt.armed = True
        if guarded:
            Checkpointer(Path(path), lambda: connect(path)).run(raw)
        else:
            raw.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        print("this process: the second checkpoint has ended")
        reached = not halt.armed
        other.commit(LOG_ROWS // 2)  # counts as copied, though it is not
        other.commit(LOG_ROWS)  # goes beyond the end of the first log
        other.checkpoint()
        other.commit(1)  # starts the log afresh
        raw.close()
    return other.rows, reached


def judge(path: str, rows: int) -> bool:
    """Print the state of the file; return whether it is sound and has every answered row."""
    raw = connect(path)
    try:
        fault = str(raw.execute("PRAGMA integrity_check(1)").fetchone()[0])
        there = raw.execute("SELECT count(*) FROM t NOT INDEXED").fetchone()[0]
    except driver.DatabaseError as error:
        print(f"damaged: {error}")
        return False
    finally:
        raw.close()
    print(f"integrity: {' '.join(fault.split())[:100]}; {rows} rows answered, {there} there")
    return fault == "ok" and there == rows


def main() -> int:
    """Run the interleaving and judge the file."""
    match sys.argv[1:]:
        case ["other", path]:
            run_other_process(path)
        case [] | ["guarded" | "unguarded"]:
            pass
        case _:
            print(__doc__)
            return 2
    guarded = "guarded" in sys.argv
    affected = "affected" if is_affected(driver.sqlite_version_info) else "not affected"
    print(f"SQLite {driver.sqlite_version} ({affected}), {'' if guarded else 'un'}guarded")
    with TemporaryDirectory() as folder:
        path = f"{folder}/t.db"
        try:
            rows, reached = interleave(path, guarded)
        except AttributeError as error:
            print(f"This Python's SQLite cannot be halted: {error}")
            return 3
        if not reached:
            print("The second checkpoint did not stop where it should.")
            return 3
        return 0 if judge(path, rows) else 1


if __name__ == "__main__":
    sys.exit(main())
