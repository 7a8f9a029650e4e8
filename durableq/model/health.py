"""How a store is: what an examination finds, whether the books balance, what upkeep has done."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple

from durableq.model.info import QueueInfo

BOOKS = "books"
MOVES = "moves"


class Level(Enum):
    """How good or bad something is."""

    OK = "ok"
    #: It works, and somebody should know.
    WARN = "warn"
    #: It does not work, or may lose messages.
    BAD = "bad"


class Finding(NamedTuple):
    """One thing that was looked at."""

    #: What was looked at. It does not change between versions.
    name: str
    level: Level
    #: How it is, as a sentence for people.
    what: str
    #: What to do about it.
    advice: str = ""
    #: The one it is about, if it is about one.
    queue: str | None = None


class Storage(NamedTuple):
    """Where everything is kept."""

    #: A word: sqlite, memory.
    engine: str
    #: Of the library that keeps it.
    version: str
    #: What a commit survives: full (power loss), normal (a crash), none.
    durability: str
    size_bytes: int
    #: Written, and not yet in its place.
    log_bytes: int


class KeyCounts(NamedTuple):
    """How many idempotency keys are known."""

    in_progress: int
    #: Those that are to be forgotten by now included, until they are pruned.
    completed: int


class MaintenanceReport(NamedTuple):
    """What one call of `Store.tend` did: nothing, unless it was due."""

    due: bool = False
    expired: int = 0
    records: int = 0
    history: int = 0
    #: Given back to the file system.
    freed_bytes: int = 0


class Copied(NamedTuple):
    """A file that was made by a backup, or put in place by a restore."""

    path: str
    size_bytes: int
    #: Leases that a restore has given back: their holders do not hold this file.
    released: int = 0
    #: Where the file is now that had the name before.
    set_aside: str | None = None


def is_healthy(findings: Iterable[Finding]) -> bool:
    """Return whether nothing is bad."""
    return all(finding.level is not Level.BAD for finding in findings)


def reconcile(queues: Iterable[QueueInfo]) -> list[Finding]:
    """Hold each queue's totals against what is there, and what left against what arrived."""
    queues = list(queues)
    return [*map(_counts, queues), _moves(queues)]


def _counts(info: QueueInfo) -> Finding:
    expected, present = info.counters.expected, info.counts.present
    if expected == present:
        what = f"{info.name}: {present} there, as its totals say"
        return Finding(BOOKS, Level.OK, what, queue=info.name)
    off = f"{abs(expected - present)} too {'few' if present < expected else 'many'}"
    return Finding(
        BOOKS,
        Level.BAD,
        f"{info.name}: {present} there, but its totals say {expected}: {off}",
        "Something other than durableq wrote to its tables, or the file was damaged: keep a "
        "backup of it as it is, and compare with an earlier one.",
        info.name,
    )


def _moves(queues: list[QueueInfo]) -> Finding:
    left = sum(info.counters.moved_out for info in queues)
    arrived = sum(info.counters.moved_in for info in queues)
    if left == arrived:
        return Finding(MOVES, Level.OK, f"{left} moved between queues, and all arrived")
    return Finding(
        MOVES,
        Level.WARN,
        f"{left} left a queue for another, {arrived} arrived from one",
        "This is so after a queue was deleted that others had exchanged messages with. If none "
        "was, something other than durableq wrote to the tables.",
    )
