"""A disk without power: the states that a recorded directory may be in after a power cut.

Only synced data is certain: the content of a file by fsync of the file, its names by fsync of
the directory. Of the rest the disk may hold all, nothing, a beginning, or any part of any write in
units of 512 or 4,096 bytes. A beginning of the changes of names is what ext4 and xfs leave; each
name by itself, which tears a rename in two, is worse than both.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from durableq.engines.sqlite.copy_marker import birth_time_ns

Variant = tuple[str, str]

UNITS: Final = (512, 4096)
#: The share of the unsynced changes that the disk holds: of names, and of content.
VARIANTS: Final[tuple[Variant, ...]] = (
    ("lost", "lost"),
    ("kept", "lost"),
    ("lost", "kept"),
    ("kept", "kept"),
    ("kept", "torn"),
    ("begun", "begun"),
    ("each", "each"),
    ("begun", "each"),
    ("each", "kept"),
    ("each", "lost"),
)
_IDENTITY: Final = re.compile(rb'"inode": (\d+), "born_ns": \d+')


@dataclass(frozen=True)
class Write:
    at: int
    data: bytes

    def onto(self, content: bytearray) -> None:
        content.extend(bytes(max(0, self.at - len(content))))
        content[self.at : self.at + len(self.data)] = self.data

    def parts(self, unit: int) -> Iterator[Write | Truncation]:
        """Split the write at the disk's units."""
        at = self.at
        end = at + len(self.data)
        while at < end:
            following = min(end, at // unit * unit + unit)
            yield Write(at, self.data[at - self.at : following - self.at])
            at = following


@dataclass(frozen=True)
class Truncation:
    size: int

    def onto(self, content: bytearray) -> None:
        content.extend(bytes(max(0, self.size - len(content))))
        del content[self.size :]

    def parts(self, _: int) -> Iterator[Write | Truncation]:
        yield self


@dataclass(eq=False)
class File:
    """A file without a name: its content on the disk, and the changes that may be there."""

    synced: bytes = b""
    changes: list[Write | Truncation] = field(default_factory=list)
    synced_mode: int = 0o600
    mode: int = 0o600

    def sync(self) -> None:
        self.synced, self.changes = self.content("kept", random.Random(0)), []
        self.synced_mode = self.mode

    def content(self, liveness: str, rng: random.Random) -> bytes:
        """Return a content that the disk may hold."""
        content, changes = bytearray(self.synced), self.changes
        unit = rng.choice(UNITS)
        if liveness == "lost":
            changes = []
        elif liveness == "begun":
            changes = changes[: rng.randint(0, len(changes))]
        if liveness in ("begun", "torn") and changes:
            parts = list(changes[-1].parts(unit))
            changes = changes[:-1] + parts[: rng.randint(0, len(parts) - 1)]
        elif liveness == "each":
            parts = [part for change in changes for part in change.parts(unit)]
            changes = [part for part in parts if rng.random() < 0.5]
        for change in changes:
            change.onto(content)
        return bytes(content)


Names = dict[str, File]


class Disk:
    """A directory: its state on the disk, and the changes since.

    Args:
        folder: the directory as it is now; all of it counts as synced.
        lies: which fsync does nothing: none, of the "directory", or of "files".
    """

    def __init__(self, folder: Path, lies: str = "") -> None:
        self._lies = lies
        self._inodes: dict[int, File] = {}
        self._synced: Names = {}
        self._steps: list[dict[str, File | None]] = []
        for path in folder.iterdir():
            status = path.stat()
            new = File(path.read_bytes(), [], status.st_mode & 0o777, status.st_mode & 0o777)
            self._synced[path.name] = self._inodes.setdefault(status.st_ino, new)

    def apply(self, verb: str, fields: list[str], data: bytes) -> None:
        """Apply a recorded operation."""
        if verb == "create":
            self._inodes[int(fields[1])] = new = File()
            self._steps.append({fields[0]: new})
        elif verb == "link":
            self._steps.append({fields[0]: self._inodes[int(fields[1])]})
        elif verb == "rename":
            self._steps.append({fields[0]: None, fields[1]: self._inodes[int(fields[2])]})
        elif verb == "unlink":
            self._steps.append({fields[0]: None})
        elif verb == "syncdir":
            if self._lies != "directory":
                self._synced, self._steps = self._names("kept", random.Random(0)), []
        elif verb != "mark":
            self._change(verb, self._inodes[int(fields[0])], fields[1:], data)

    def _change(self, verb: str, file: File, fields: list[str], data: bytes) -> None:
        if verb == "write":
            file.changes.append(Write(int(fields[0]), data))
        elif verb == "truncate":
            file.changes.append(Truncation(int(fields[0])))
        elif verb == "chmod":
            file.mode = int(fields[0]) & 0o777
        elif verb == "sync" and self._lies != "files":
            file.sync()

    def _names(self, liveness: str, rng: random.Random) -> Names:
        steps = self._steps if liveness != "lost" else []
        if liveness == "begun":
            steps = steps[: rng.randint(0, len(steps))]
        changes = [change for step in steps for change in step.items()]
        if liveness == "each":
            names = sorted({name for name, _ in changes})
            until = {name: rng.randint(0, len(changes)) for name in names}
            changes = [change for n, change in enumerate(changes) if n < until[change[0]]]
        names_now: dict[str, File | None] = {**self._synced, **dict(changes)}
        return {name: file for name, file in names_now.items() if file is not None}

    def image(self, folder: Path, variant: Variant, rng: random.Random) -> bytes:
        """Write one of the possible states into an empty directory; return a digest of it.

        The index of a log is garbage in it: it is mapped, and its content on the disk is unknown.
        """
        names = self._names(variant[0], rng)
        inodes = {file: inode for inode, file in self._inodes.items()}
        made: dict[File, Path] = {}
        digest = hashlib.sha256()
        for name, file in sorted(names.items()):
            path = folder / name
            digest.update(f"/{name}/{inodes[file]}/".encode())
            if file in made:
                path.hardlink_to(made[file])
                continue
            made[file] = path
            content = file.content(variant[1], rng)
            mode = file.mode if variant[1] == "kept" else file.synced_mode
            if name.endswith("-shm"):
                path.write_bytes(rng.randbytes(32768))
            else:
                path.write_bytes(content)
                digest.update(b"%o/%d/%s" % (mode, len(content), content))
            path.chmod(mode)
        self._renumber(folder, made)
        return digest.digest()

    def _renumber(self, folder: Path, made: dict[File, Path]) -> None:
        """Write the inodes and birth times that the files have here into the markers."""
        now = {inode: made[file] for inode, file in self._inodes.items() if file in made}

        def here(found: re.Match[bytes]) -> bytes:
            inode, born_ns = 1 if int(found[1]) else 0, 0
            if path := now.get(int(found[1])):
                inode, born_ns = path.stat().st_ino, birth_time_ns(path)
            return b'"inode": %d, "born_ns": %d' % (inode, born_ns)

        for path in folder.glob("*.copying"):
            path.write_bytes(_IDENTITY.sub(here, path.read_bytes()))


Operation = tuple[str, list[str], bytes]


def operations(record: Path) -> Iterator[Operation]:
    """Read the record of recorder.c."""
    with record.open("rb") as lines:
        while line := lines.readline():
            verb, *fields = os.fsdecode(line[:-1]).split("/")
            yield verb, fields, lines.read(int(fields[2])) if verb == "write" else b""
