"""The file that a URL names, and the checks whether SQLite can keep its promises on it.

The checks use `stat` and the list of mounts. No code of this process opens the file itself: closing
any descriptor of a SQLite database drops the process's locks on it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from durableq.engines.sqlite.url import parse_url
from durableq.model.errors import DatabaseUnusable
from durableq.model.health import Finding, bad

#: File systems on which locks or shared memory between processes fail; also every fuse.* one.
NETWORK_FILESYSTEMS = frozenset(
    ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "virtiofs", "afs", "ceph", "lustre", "beegfs")
)


@dataclass(frozen=True, slots=True)
class Location:
    """A database file and the options of its use.

    The path is resolved here and nowhere else: SQLite keeps the log beside the file that a symbolic
    link leads to, so every check of the file, its log or its directory uses that one.
    """

    #: The path of the file itself, with all symbolic links resolved.
    path: Path
    #: `full`: survives power loss. `normal`: survives SIGKILL; power loss may undo the newest.
    synchronous: str = "full"
    #: How long a call waits for other processes before it raises Busy.
    busy_timeout_ms: int = 10_000
    allow_network_filesystem: bool = False
    #: The path that was given; it may lead to another file later.
    named: Path = Path()
    #: Whether its connections only read.
    is_read_only: bool = False

    def __post_init__(self) -> None:
        if self.named == Path():
            object.__setattr__(self, "named", self.path)
        object.__setattr__(self, "path", Path(os.path.realpath(self.path)))

    @classmethod
    def parse(cls, url: str) -> Location:
        """Read a path, or `sqlite:///path?synchronous=normal&busy_timeout=SECONDS`.

        Raises:
            InvalidInput: it names no file, or not clearly; the message has the right spelling.
        """
        path, options = parse_url(url)
        return cls(path.absolute(), **options)

    @property
    def target(self) -> str:
        """The name by which the driver opens it: a path, or a URI of a file that is only read."""
        if not self.is_read_only:
            return str(self.path)
        return f"file:{quote(os.fsencode(self.path))}?mode=ro"

    def check(self) -> None:
        """Refuse a path that cannot hold a shared database.

        Raises:
            DatabaseUnusable: a directory, hard-linked, read-only, on a network file system …
        """
        for problem in self.problems():
            raise DatabaseUnusable(f"{problem.what}. {problem.advice}")

    def problems(self) -> Iterator[Finding]:
        """Yield the reasons why the path cannot hold a shared database; a missing file is none."""
        path, parent, kind = self.path, self.path.parent, self.file_system()
        if not parent.is_dir():
            what = f"{parent} is not a directory, so {path.name} cannot be in it"
            yield bad("file", what, "Create it, or name another file.")
            return
        if str(path) in _mounts() and not path.is_dir():
            what = f"{path} is mounted as a single file, apart from its write-ahead log"
            yield bad("file_system", what, "Mount its directory instead: commits would be lost.")
        elif is_network(kind) and not self.allow_network_filesystem:
            what = f"{path} is on {kind}, where locks between processes cannot be trusted"
            advice = "Use a local disk (or ?allow_network_filesystem=true, at your own risk)."
            yield bad("file_system", what, advice)
        try:
            status = path.stat()
        except FileNotFoundError:
            pass
        except OSError as error:
            advice = "Check the path, and who may search its directories."
            yield bad("file", f"{path} cannot be reached: {error.strerror}", advice)
        else:
            yield from self._problems_of(status)
        if not os.access(parent, os.W_OK):
            advice = "SQLite keeps its write-ahead log beside it: make the directory writable."
            yield bad("permissions", f"The directory {parent} is read-only", advice)

    def _problems_of(self, status: os.stat_result) -> Iterator[Finding]:
        path = self.path
        if stat.S_ISDIR(status.st_mode):
            advice = f"Name a file, for example {path}/durableq.db."
            yield bad("file", f"{path} is a directory", advice)
        elif not stat.S_ISREG(status.st_mode):
            yield bad("file", f"{path} is not a regular file", "Name a database file.")
        elif status.st_nlink > 1:
            yield bad(
                "links",
                f"{path} has {status.st_nlink} hard links",
                "Through another name another process would use another write-ahead log and lose "
                f"commits. Keep one name; to find them: find DIRECTORY -samefile {path}.",
            )
        if not status.st_mode & 0o222:
            advice = f"A queue's readers write too: chmod u+w {path}."
            yield bad("permissions", f"{path} is read-only", advice)
        elif not os.access(path, os.R_OK | os.W_OK):
            advice = "Run this as its owner, or let this user read and write it and its directory."
            yield bad("permissions", f"{path} is not for this user to read and write", advice)

    def file_system(self) -> str:
        """Return the type of the file system that holds the file; empty if it is unknown."""
        mounts = _mounts()
        parents = map(str, self.path.parents)
        return next((mounts[parent] for parent in parents if parent in mounts), "")

    def identity(self) -> tuple[int, int] | None:
        """Return (device, inode) of the file now at the given path, or None if none is seen."""
        try:
            status = os.stat(self.named)
        except OSError:
            return None
        return status.st_dev, status.st_ino


def is_network(kind: str) -> bool:
    """Return whether a file system is one that several machines may share."""
    return kind in NETWORK_FILESYSTEMS or kind.startswith("fuse.")


def log_bytes(location: Location) -> int:
    """Return the size of the write-ahead log."""
    try:
        return os.stat(f"{location.path}-wal").st_size
    except FileNotFoundError:
        return 0


def _mounts() -> dict[str, str]:
    """Return the type of the file system at every mount point; empty without /proc."""
    return {point: kind for point, (_, kind) in _mount_points().items()}


def device_of_mount(path: Path) -> str | None:
    """Return `major:minor` of the file system that holds a path.

    /proc/locks uses it too; `stat` has another number on some file systems.
    """
    mounts = _mount_points()
    parents = map(str, Path(os.path.realpath(path)).parents)
    return next((mounts[parent][0] for parent in parents if parent in mounts), None)


def _mount_points() -> dict[str, tuple[str, str]]:
    """Return device and type of the file system at every mount point."""
    try:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return {}
    mounts = {}
    for line in lines:
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        point = fields[4].encode().decode("unicode_escape")
        mounts[point] = fields[2], after.split(" ")[0]
    return mounts
