"""Operations on a store by its URL: doctor, audit, upgrade, backup and restore."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from durableq.admin import limits, schedules
from durableq.admin.readers import ADVICE, Readers
from durableq.admin.thresholds import Thresholds
from durableq.engines import back_up_store as back_up
from durableq.engines import estimate_upgrade as upgrade_estimate
from durableq.engines import (
    examine_store,
    library_versions,
    queues_in,
    registered_workers,
    restore_store,
    schedules_in,
)
from durableq.model.errors import Conflict
from durableq.model.health import Copied, Finding, Level, reconcile
from durableq.model.info import QueueInfo, WorkerInfo
from durableq.runtime.clock import SystemClock
from durableq.store.core import Capability, Store
from durableq.supervisor.liveness import Liveness, liveness, may_be_alive

__all__ = ["audit", "back_up", "examine", "library_versions", "restore", "upgrade_estimate"]

_SOUND: Final = {("file", Level.OK), ("database", Level.OK)}


def examine(url: str, *, deep: bool = False, thresholds: Thresholds | None = None) -> list[Finding]:
    """Examine the file that a URL names, of any kind, and its workers; change nothing.

    Args:
        url: a path, or as DurableQ takes it.
        deep: compare everything with everything, however long it takes.
        thresholds: what is exceeded is a bad finding.
    """
    findings = examine_store(url, deep=deep)
    if not _SOUND.isdisjoint((finding.name, finding.level) for finding in findings):
        workers = registered_workers(url)
        queues = queues_in(url)
        findings += [_workers(workers), *_handlers(queues, workers), *limits.findings(queues)]
        findings += schedules.findings(schedules_in(url), workers)
        if thresholds:
            findings += thresholds.findings(queues, SystemClock().wall_ms())
    elif thresholds:
        findings.append(thresholds.not_checked())
    return findings


def audit(store: Store) -> list[Finding]:
    """Compare the counters with the messages, and find orphaned rows."""
    return [
        *reconcile(store.require(Capability.INSPECT).queues(recount=True)),
        *store.require(Capability.MAINTENANCE).orphans(),
    ]


def restore(
    backup: str | Path,
    url: str,
    *,
    replace: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> Copied:
    """Make a database of a backup; see engines.restore_store.

    Args:
        backup: a file made by back_up.
        url: a path, or as DurableQ takes it.
        replace: also if a database exists; that one is set aside.
        progress: called with the percentage that is copied.

    Raises:
        Conflict: a database exists and `replace` is False, or a process has it open.
    """
    if replace:
        _check_no_worker_lives(url)
    return restore_store(Path(backup), url, progress, replace=replace)


def _check_no_worker_lives(url: str) -> None:
    """Refuse to replace a file with a living worker, also one whose locks cannot be seen from here.

    Raises:
        Conflict: there is one.
    """
    living = [worker for worker in registered_workers(url) if may_be_alive(worker)]
    if living:
        first = living[0]
        raise Conflict(
            f"Worker {first.name} (pid {first.pid}) works on {url}. Stop it first: its locks on "
            "the file do not protect the new one."
        )


def _workers(workers: Iterable[WorkerInfo]) -> Finding:
    fates = [(worker, liveness(worker)) for worker in workers]
    dead = [worker for worker, seen in fates if seen is Liveness.DEAD]
    if dead:
        names = ", ".join(f"{worker.name} (pid {worker.pid})" for worker in dead)
        return Finding(
            "workers",
            Level.WARN,
            f"listed, but dead: {names}",
            "Start any worker: it releases their messages and removes them from the list.",
        )
    hidden = sum(seen is Liveness.UNKNOWN for _, seen in fates)
    unseen = f", {hidden} of them where they cannot be seen from here" if hidden else ""
    return Finding("workers", Level.OK, f"{len(fates)} listed, none known to be dead{unseen}")


def _handlers(queues: Iterable[QueueInfo], workers: Iterable[WorkerInfo]) -> Iterator[Finding]:
    """Return a warning for each queue whose waiting messages no running worker handles."""
    readers, name = Readers(workers), "handlers"
    neglected = [(info.name, what) for info in queues if (what := readers.neglect(info))]
    for queue, what in neglected:
        yield Finding(name, Level.WARN, what, ADVICE, queue)
    if not neglected:
        yield Finding(name, Level.OK, "no messages wait in a queue that no running worker handles")
