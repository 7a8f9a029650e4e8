"""Looking after a store: is it well, is everything accounted for, a copy of it, and back again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from durableq.admin.readers import ADVICE, Readers
from durableq.engines import (
    back_up_store,
    estimate_upgrade,
    examine_store,
    queues_in,
    registered_workers,
    restore_store,
)
from durableq.model.errors import Conflict
from durableq.model.health import Copied, Finding, Level, UpgradeEstimate, reconcile
from durableq.model.info import QueueInfo, WorkerInfo
from durableq.store.core import Capability, Store
from durableq.supervisor.liveness import Liveness, liveness, may_be_alive

_SOUND: Final = ("file", Level.OK)

Progress = Callable[[int], None]


def examine(url: str, *, deep: bool = False) -> list[Finding]:
    """Examine the file that a URL names, of any kind, and its workers; change nothing.

    Args:
        url: a path, or as DurableQ takes it.
        deep: compare everything with everything, however long it takes.
    """
    findings = examine_store(url, deep=deep)
    if _SOUND in {(finding.name, finding.level) for finding in findings}:
        workers = registered_workers(url)
        findings += [_workers(workers), *_handlers(queues_in(url), workers)]
    return findings


def audit(store: Store) -> list[Finding]:
    """Compare the counters with the messages, and find rows that belong to nothing."""
    return [
        *reconcile(store.require(Capability.INSPECT).queues()),
        *store.require(Capability.MAINTENANCE).orphans(),
    ]


def upgrade_estimate(url: str) -> UpgradeEstimate | None:
    """Return the expected cost of upgrading a database; None if it needs no upgrade.

    Args:
        url: a path, or as DurableQ takes it.
    """
    return estimate_upgrade(url)


def back_up(url: str, to: str | Path, progress: Progress = lambda _: None) -> Copied:
    """Make a consistent, checked copy while everything runs; see engines.back_up_store.

    Args:
        url: a path, or as DurableQ takes it.
        to: a file that does not exist yet.
        progress: told how many hundredths are copied.
    """
    return back_up_store(url, Path(to), progress)


def restore(
    backup: str | Path, url: str, *, replace: bool = False, progress: Progress = lambda _: None
) -> Copied:
    """Make a database of a backup; see engines.restore_store.

    Args:
        backup: A file made by back_up.
        url: a path, or as DurableQ takes it.
        replace: also where there is a database; that one is set aside.
        progress: told how many hundredths are copied.

    Raises:
        Conflict: there is a database and it is not to be replaced, or a process works on it.
    """
    if replace:
        _check_nobody_works(url)
    return restore_store(Path(backup), url, progress, replace=replace)


def _check_nobody_works(url: str) -> None:
    """Refuse if a worker lives, also one whose locks cannot be seen from here."""
    living = [worker for worker in registered_workers(url) if may_be_alive(worker)]
    if living:
        first = living[0]
        raise Conflict(
            f"Worker {first.name} (pid {first.pid}) works on {url}. Stop it first: its locks on "
            "the file would not keep anybody from the new one."
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
    """Judge whether running workers receive from each queue in which messages wait."""
    readers, name = Readers(workers), "handlers"
    neglected = [(info.name, what) for info in queues if (what := readers.neglect(info))]
    for queue, what in neglected:
        yield Finding(name, Level.WARN, what, ADVICE, queue)
    if not neglected:
        yield Finding(name, Level.OK, "no messages wait in a queue that no running worker handles")
