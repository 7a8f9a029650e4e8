"""The processes that use a SQLite file, from the locks that the kernel lists in /proc/locks.

The database itself is not opened: closing it would drop this process's own locks.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, NamedTuple

from durableq.engines.sqlite.location import device_of_mount

#: Bytes of the -shm file that SQLite locks: https://sqlite.org/walformat.html#locks.
WRITE_BYTE: Final = 120
READ_BYTES: Final = range(123, 128)
#: Byte of the database that a writer locks without a write-ahead log.
RESERVED_BYTE: Final = 0x40000001
COMMAND_CHARS: Final = 80
_STOPPED: Final = frozenset("Tt")


class Lock(NamedTuple):
    """One line of /proc/locks: the bytes `first` to `last` of a file, locked by a process."""

    pid: int
    writes: bool
    first: int
    last: int

    def covers(self, *offsets: int) -> bool:
        """Return whether the lock is on one of these bytes."""
        return any(self.first <= offset <= self.last for offset in offsets)


def are_listed() -> bool:
    """Return whether this system lists locks."""
    return os.access("/proc/locks", os.R_OK)


def users(database: Path) -> set[int]:
    """Return the processes that have the file open, as far as this process can see."""
    return {lock.pid for path in (database, _index(database)) for lock in _on(path)}


def writers(database: Path) -> set[int]:
    """Return the processes that hold the write lock now, as far as this process can see."""
    pids = {lock.pid for lock in _on(_index(database)) if lock.writes and lock.covers(WRITE_BYTE)}
    return pids | {lock.pid for lock in _on(database) if lock.writes and lock.covers(RESERVED_BYTE)}


def readers(database: Path) -> set[int]:
    """Return the processes inside a read transaction now, as far as this process can see."""
    return {lock.pid for lock in _on(_index(database)) if lock.covers(*READ_BYTES)}


def is_stopped(pid: int) -> bool:
    """Return whether a signal has stopped a process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in _STOPPED
    except (OSError, IndexError):
        return False


def describe(pid: int) -> str:
    """Return a process as text: its pid and the start of its command line."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        command = ""
    words = " ".join(command.replace("\0", " ").split())
    return f"process {pid} ({words[:COMMAND_CHARS]})" if words else f"process {pid}"


def _on(path: Path) -> list[Lock]:
    """Return the locks on a file; none if it does not exist."""
    try:
        status = os.stat(path)
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return []
    devices = {f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}", device_of_mount(path)}
    names = {(device, status.st_ino) for device in devices}
    found = (_parsed(line.split()) for line in lines if "->" not in line)  # those wait for one
    return [lock for name, lock in found if name in names]


def _index(database: Path) -> Path:
    """Return the path of the shared index of the log."""
    return Path(f"{database}-shm")


def _parsed(fields: list[str]) -> tuple[tuple[str, int], Lock]:
    """Read `1: POSIX  ADVISORY  READ 1674 fe:00:2180373 128 128`; an end may be `EOF`."""
    kind, pid, file, first, last = fields[3:8]
    major, minor, inode = file.split(":")
    end = int(last) if last.isdecimal() else 1 << 63
    name = f"{int(major, 16)}:{int(minor, 16)}", int(inode)
    return name, Lock(int(pid), kind == "WRITE", int(first), end)
