"""The database: init, migrate, doctor, audit, backup, restore, prune."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

from durableq.cli import output
from durableq.cli.help import argument, option
from durableq.cli.options import Session, Yes
from durableq.cli.screen import RED, Line
from durableq.cli.times import duration_ms
from durableq.client.app import DurableQ
from durableq.model.limits import PAUSE_MS
from durableq.store.core import Capability, Pruned

if TYPE_CHECKING:
    from durableq.model.health import Finding

DONE: Final = {
    "empty": "created",
    "foreign": "created beside the other tables",
    "older": "upgraded",
    "current": "ready already",
}
SLICE: Final = 1_000


def _threshold(shown: str, text: str, **more: Any) -> Any:
    return option(shown, text, None, "Thresholds", show_default="not checked", **more)


def init(
    session: Session,
    beside_other_tables: bool = option(
        "--beside-other-tables", "Accept a file that has another application's tables in it.", False
    ),
) -> None:
    """Create the database, or upgrade an older one.

    A schema of PostgreSQL is created if it is missing, and may have other tables.

    Example: durableq init --db shop.db
    """
    with DurableQ(session.url) as app:
        _show_done(session, app.init(beside_other_tables=beside_other_tables))


def migrate(session: Session) -> None:
    """Upgrade a database that an older durableq made.

    The upgrade is one transaction. Its duration and the disk space that it needs are printed
    first. Stop the workers before it.

    Example: durableq migrate --db shop.db
    """
    from durableq.admin import operations

    with DurableQ(session.url) as app:
        if estimate := operations.upgrade_estimate(app.url):
            output.say(estimate.sentence())
        _show_done(session, app.migrate())


def doctor(
    session: Session,
    deep: bool = option(
        "--deep", "Compare every index with its table; slow on a large database.", False
    ),
    max_backlog: int | None = _threshold(
        "--max-backlog N", "Bad if a queue has more messages, dead ones not counted.", min=0
    ),
    max_age: str | None = _threshold(
        "--max-age TIME", "Bad if a message is ready for longer: 30s, 5m, 2h, 1d."
    ),
    max_dead: int | None = _threshold(
        "--max-dead N", "Bad if a dead-letter queue has more dead letters.", min=0
    ),
) -> None:
    """Check the database, what it stands on, and what uses it.

    Each line is ok, warn or bad, with advice; the exit code is 6 if one is bad, so that a monitor
    can run it, with thresholds of its own. Nothing is changed,
    and the file may be missing, damaged, in use, or another application's. Of PostgreSQL it checks
    the server, its settings and grants, the tables, and what holds vacuum or the writers back.

    Example: durableq doctor --db shop.db
    """
    from durableq.admin import operations
    from durableq.admin.thresholds import Thresholds

    age_ms = None if max_age is None else duration_ms(max_age, "--max-age")
    thresholds = Thresholds(max_backlog, age_ms, max_dead)
    _report(session, operations.examine(session.url, deep=deep, thresholds=thresholds))


def audit(session: Session) -> None:
    """Compare every queue's counters with its messages; find orphans.

    It can run at any time. The exit code is 6 if the counters do not reconcile, or if a row belongs
    to no queue, message or worker.

    Example: durableq audit
    """
    from durableq.admin import operations

    with session.opened(is_named=False) as store:
        findings = operations.audit(store)
    _report(session, findings)


def backup(
    session: Session, to: Path = argument("TARGET", "Path of the copy; must not exist.")
) -> None:
    """Make a consistent copy of the database while everything runs.

    The copy is compact, checked and on the disk when the command ends; an unfinished copy never has
    the target's name. A database of an older durableq can be copied too. For PostgreSQL, the
    command of pg_dump is named that copies durableq's tables.

    Example: durableq backup shop-monday.db --db shop.db
    """
    from durableq.admin import operations

    url = session.url
    with output.progress("copied, in %", 100) as advance:
        copied = operations.back_up(url, to, advance)
    size = output.mebibytes(copied.size_bytes)
    session.show(
        {"database": session.address, "backup": copied.path, "bytes": copied.size_bytes},
        f"{copied.path}: {size}, checked, a copy of {session.address}.",
    )


def restore(
    session: Session,
    backup: Path = argument("BACKUP", "File made by `durableq backup`."),
    replace: bool = option(
        "--replace", "Replace an existing database; the old one is set aside.", False
    ),
    yes: Yes = False,
) -> None:
    """Restore a database from a backup.

    The backup is checked, and upgraded if an older durableq made it. Messages that were in flight
    are ready again, uncounted, and no worker is registered. Work done since the backup is not in it
    and will be done again. For PostgreSQL, the command of pg_restore is named.

    Example: durableq restore shop-monday.db --db shop.db --replace
    """
    if yes and not replace:
        raise output.Misuse("--yes answers the question of --replace: give both, or drop --yes.")
    from durableq.admin import operations

    url, shown = session.url, session.address
    if replace:
        question = f"Set aside what is at {shown}, and restore {backup} in its place?"
        output.confirm(question, yes=yes)
    with output.progress("restored, in %", 100) as advance:
        copied = operations.restore(backup, url, replace=replace, progress=advance)
    lines = [
        f"{shown}: restored from {backup}, {output.mebibytes(copied.size_bytes)}, checked.",
        f"{copied.released} messages that were in flight are ready again.",
    ]
    if copied.set_aside is not None:
        lines.append(f"What was there before is now {copied.set_aside}.")
    document = {
        "database": shown,
        "backup": str(backup),
        "bytes": copied.size_bytes,
        "released": copied.released,
        "set_aside": copied.set_aside,
    }
    session.show(document, *lines)


def prune(
    session: Session,
    limit: int = option(
        "--limit N",
        "Rows of each kind in one transaction; other processes write in between.",
        SLICE,
        min=1,
        max=100_000,
    ),
) -> None:
    """Remove expired messages, keys and values, and old history.

    Workers prune a little at a time. Use this command where no worker runs, or after a change of a
    retention.

    Example: durableq prune --limit 500
    """
    prune_all(session, limit)


def prune_all(session: Session, limit: int = SLICE) -> None:
    """Prune slice by slice until a slice is not full; print the number of rows of each kind."""
    total = Pruned(0, 0, 0)
    with session.opened() as store:
        while True:
            now = dataclasses.astuple(store.require(Capability.MAINTENANCE).prune(limit))
            total = Pruned(*map(sum, zip(dataclasses.astuple(total), now, strict=True)))
            if max(now) < limit:
                break
            time.sleep(PAUSE_MS / 1000)  # others get the write lock
    session.show(
        dataclasses.asdict(total),
        f"Pruned {total.records} records, {total.expired} expired messages, "
        f"{total.values} values, {total.items} items, {total.history} events of history and "
        f"{total.others} other rows.",
    )


def _show_done(session: Session, found: str) -> None:
    url, done = session.address, DONE[found]
    session.show({"database": url, "found": found, "done": done}, f"{url}: {done}.")


def _report(session: Session, findings: list[Finding]) -> None:
    """Print the findings; exit with UNHEALTHY if one is bad."""
    from durableq.model.health import is_healthy

    url, healthy = session.address, is_healthy(findings)
    found = [_document(each) for each in findings]
    width = max((len(each.name) for each in findings), default=0)
    lines: list[str | Line] = []
    for each in findings:
        lines += output.finding(each.level.value, each.name, width, each.what, each.advice)
    summary = "nothing is bad" if healthy else "something is bad, see above"
    colour = "" if healthy else RED
    lines.append(Line(f"{url}: {summary}.", mark="something is bad", colour=colour))
    session.show({"database": url, "healthy": healthy, "findings": found}, *lines)
    if not healthy:
        raise typer.Exit(output.UNHEALTHY)


def _document(finding: Finding) -> dict[str, Any]:
    # name: deprecated name of check, with the old values, until 0.3
    old = {"counters": "books", "moved": "moves"}.get(finding.name, finding.name)
    return {"check": finding.name} | finding._asdict() | {"name": old, "level": finding.level.value}
