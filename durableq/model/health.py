"""Findings of doctor and audit, reconciled counters, and the reports of maintenance."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple

from durableq.model.info import QueueInfo

#: The names of the checks that `reconcile` makes. They are part of the JSON output.
COUNTERS = "counters"
MOVED = "moved"
IN_FLIGHT = "in_flight"


class Level(Enum):
    """The severity of a finding."""

    OK = "ok"
    #: It works, and an operator should know.
    WARN = "warn"
    #: It does not work, or may lose messages.
    BAD = "bad"


class Finding(NamedTuple):
    """The result of one check."""

    #: The name of the check. It does not change between versions.
    name: str
    level: Level
    #: The result, as a sentence.
    what: str
    #: The remedy.
    advice: str = ""
    #: The queue, for a check of one queue.
    queue: str | None = None


def ok(name: str, what: str, advice: str = "") -> Finding:
    """Return a finding that asks for nothing."""
    return Finding(name, Level.OK, what, advice)


def warn(name: str, what: str, advice: str) -> Finding:
    """Return a finding that may become a problem."""
    return Finding(name, Level.WARN, what, advice)


def bad(name: str, what: str, advice: str) -> Finding:
    """Return a finding that is a problem."""
    return Finding(name, Level.BAD, what, advice)


class Storage(NamedTuple):
    """The storage of an engine."""

    #: The name of the engine: sqlite, postgresql, memory.
    engine: str
    #: The version of the storage library.
    version: str
    #: The durability of a commit: full (survives power loss), normal (a crash) or none.
    durability: str
    #: The size of the file, or of the tables with their indexes.
    size_bytes: int
    #: The size of the write-ahead log; 0 if it is not the engine's own.
    log_bytes: int
    #: The part of the size that is the indexes', where the engine tells it.
    index_bytes: int = 0


class KeyCounts(NamedTuple):
    """The number of idempotency records by status."""

    in_progress: int
    #: Includes expired records that are not pruned yet.
    completed: int


class MaintenanceReport(NamedTuple):
    """The work of one call of `Store.maintain`."""

    due: bool = False
    expired: int = 0
    records: int = 0
    history: int = 0
    #: Bytes returned to the file system.
    freed_bytes: int = 0
    #: Values of `once`.
    values: int = 0
    #: Items of tables.
    items: int = 0


class Copied(NamedTuple):
    """The file that a backup created or a restore put in place."""

    path: str
    size_bytes: int
    #: Leases that a restore released: their owners do not use this file.
    released: int = 0
    #: The new path of the file that a restore replaced.
    set_aside: str | None = None


class UpgradeEstimate(NamedTuple):
    """The expected cost of upgrading a database."""

    #: The tables that the upgrade rebuilds: it copies each of their rows.
    tables: tuple[str, ...]
    #: The rows of these tables; without one, the messages that the upgrade reads.
    rows: int
    #: Free disk space needed.
    disk_bytes: int
    seconds: float
    #: The dead letters that an upgrade without a rebuild writes again.
    dead_letters: int = 0

    def sentence(self) -> str:
        """Return the estimate as a sentence."""
        if not self.rows:
            return "This upgrade rebuilds no table: it takes seconds and no disk space to speak of."
        work = f"rebuilds {', '.join(self.tables)} ({self.rows:,} rows)"
        if not self.tables:
            work = f"reads {self.rows:,} messages"
            if self.dead_letters:
                work += f" and writes {self.dead_letters:,} dead letters"
        return (
            f"This upgrade {work}: it takes about "
            f"{self.seconds:,.0f} s and needs {self.disk_bytes / (1 << 20):,.0f} MiB of free disk."
        )


def is_healthy(findings: Iterable[Finding]) -> bool:
    """Return whether no finding is BAD."""
    return all(finding.level is not Level.BAD for finding in findings)


def reconcile(queues: Iterable[QueueInfo]) -> list[Finding]:
    """Compare the counters of each queue with its messages, and departures with arrivals."""
    queues = list(queues)
    limited = [info for info in queues if info.settings.max_in_flight]
    return [*map(_counters, queues), *map(_in_flight, limited), _moved(queues)]


def _counters(info: QueueInfo) -> Finding:
    expected, present = info.counters.expected, info.counts.present
    if expected == present:
        what = f"{info.name}: {present} messages, as its counters say"
        return Finding(COUNTERS, Level.OK, what, queue=info.name)
    off = f"{abs(expected - present)} too {'few' if present < expected else 'many'}"
    return Finding(
        COUNTERS,
        Level.BAD,
        f"{info.name}: {present} messages, but its counters say {expected}: {off}",
        "Something other than durableq wrote to its tables, or the database was damaged: keep "
        "a backup of it as it is, and compare with an earlier one.",
        info.name,
    )


def _in_flight(info: QueueInfo) -> Finding:
    counted, present = info.limits.in_flight or 0, info.counts.in_flight
    if counted == present:
        what = f"{info.name}: {present} messages in flight, as their counter says"
        return Finding(IN_FLIGHT, Level.OK, what, queue=info.name)
    number = info.settings.max_in_flight
    return Finding(
        IN_FLIGHT,
        Level.BAD,
        f"{info.name}: {present} messages in flight, but their counter says {counted}, so "
        f"max_in_flight {number} lets through too {'few' if counted > present else 'many'}",
        f"To count them again: durableq queue set {info.name} --max-in-flight off, then the same "
        f"with {number}. Something other than durableq wrote to the tables.",
        info.name,
    )


def _moved(queues: list[QueueInfo]) -> Finding:
    left = sum(info.counters.moved_out for info in queues)
    arrived = sum(info.counters.moved_in for info in queues)
    if left == arrived:
        return Finding(MOVED, Level.OK, f"{left} moved between queues, and all arrived")
    return Finding(
        MOVED,
        Level.WARN,
        f"{left} left a queue for another, {arrived} arrived from one",
        "This is so after a queue was deleted that others had exchanged messages with. If none "
        "was, something other than durableq wrote to the tables.",
    )
