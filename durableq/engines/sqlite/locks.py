"""Who has a SQLite file open, reads it or writes it: asked of the kernel, by inode.

The files themselves are not opened: closing them would drop this process's own locks.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final, NamedTuple

from durableq.engines.sqlite.location import device_of_mount

WRITE_BYTE: Final = 120
#: Bytes of the -shm file, which SQLite locks: https://sqlite.org/walformat.html#locks.
READ_BYTES: Final = range(123, 128)
#: Of the file itself, which a writer locks where there is no write-ahead log.
RESERVED_BYTE: Final = 0x40000001
SAMPLES: Final = 6
SAMPLE_SECONDS: Final = 0.05
COMMAND_CHARS: Final = 80
_STOPPED: Final = frozenset("Tt")


class Lock(NamedTuple):
    """A lock as the kernel lists it."""

    pid: int
    writes: bool
    first: int
    last: int

    def covers(self, *offsets: int) -> bool:
        """Return whether it is on one of these bytes."""
        return any(self.first <= offset <= self.last for offset in offsets)


class Use(NamedTuple):
    """Who used a file while it was looked at, by pid."""

    #: They held the write lock in at least one look.
    writers: set[int]
    readers: set[int]
    #: They held it in every look.
    steady_writers: set[int]
    steady_readers: set[int]


def can_be_told() -> bool:
    """Return whether this system lists locks."""
    return os.access("/proc/locks", os.R_OK)


def users(database: Path) -> set[int]:
    """Return the processes that have the file open, as far as can be seen from here."""
    return {lock.pid for path in (database, _index(database)) for lock in on_file(path)}


def writers(database: Path) -> set[int]:
    """Return the processes that hold the write lock at this moment, as far as can be seen."""
    return _look(database)[0]


def watch(database: Path) -> Use:
    """Look several times, within a quarter of a second, who writes and who reads."""
    looks = [_look(database)]
    for _ in range(SAMPLES - 1):
        time.sleep(SAMPLE_SECONDS)
        looks.append(_look(database))
    writers, readers = ([look[side] for look in looks] for side in (0, 1))
    return Use(
        set.union(*writers),
        set.union(*readers),
        set.intersection(*writers),
        set.intersection(*readers),
    )


def on_file(path: Path) -> list[Lock]:
    """Return the locks on a file; none if it is not there."""
    try:
        status = os.stat(path)
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return []
    devices = {f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}", device_of_mount(path)}
    names = {(device, status.st_ino) for device in devices}
    found = (_parsed(line.split()) for line in lines if "->" not in line)  # those wait for one
    return [lock for name, lock in found if name in names]


def stopped(pid: int) -> bool:
    """Return whether a process was stopped by a signal, so that it goes on with nothing."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in _STOPPED
    except (OSError, IndexError):
        return False


def describe(pid: int) -> str:
    """Return a process as people know it."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        command = ""
    words = " ".join(command.replace("\0", " ").split())
    return f"process {pid} ({words[:COMMAND_CHARS]})" if words else f"process {pid}"


def _look(database: Path) -> tuple[set[int], set[int]]:
    """Return who writes and who reads at this moment."""
    index, main = on_file(_index(database)), on_file(database)
    writers = {lock.pid for lock in index if lock.writes and lock.covers(WRITE_BYTE)}
    writers |= {lock.pid for lock in main if lock.writes and lock.covers(RESERVED_BYTE)}
    return writers, {lock.pid for lock in index if lock.covers(*READ_BYTES)}


def _index(database: Path) -> Path:
    """Return the file through which the processes share what is in the log."""
    return Path(f"{database}-shm")


def _parsed(fields: list[str]) -> tuple[tuple[str, int], Lock]:
    """Read `1: POSIX  ADVISORY  READ 1674 fe:00:2180373 128 128`; an end may be `EOF`."""
    kind, pid, file, first, last = fields[3:8]
    major, minor, inode = file.split(":")
    end = int(last) if last.isdecimal() else 1 << 63
    name = f"{int(major, 16)}:{int(minor, 16)}", int(inode)
    return name, Lock(int(pid), kind == "WRITE", int(first), end)
