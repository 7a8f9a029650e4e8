"""The database file: init, migrate, doctor, audit, backup, restore, prune."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from durableq.cli import output, tables
from durableq.cli.help import option
from durableq.cli.options import Db, Json, Yes, check_lasting, opened
from durableq.client.app import DurableQ
from durableq.store.core import Capability, Pruned, Store

if TYPE_CHECKING:
    from durableq.model.health import Finding

DONE: Final = {
    "empty": "created",
    "foreign": "created beside the other tables",
    "older": "upgraded",
    "current": "ready already",
}
SLICE: Final = 1_000

Beside = Annotated[
    bool,
    option(
        "--beside-other-tables", help="Accept a file that has another application's tables in it."
    ),
]
Deep = Annotated[
    bool, option("--deep", help="Compare every index with its table; slow on a large file.")
]
Target = Annotated[Path, typer.Argument(metavar="TARGET", help="Path of the copy; must not exist.")]
Backup = Annotated[Path, typer.Argument(metavar="BACKUP", help="File made by `durableq backup`.")]
Replace = Annotated[
    bool, option("--replace", help="Replace an existing database; the old one is set aside.")
]
Slice = Annotated[
    int,
    option(
        "--limit",
        placeholder="N",
        min=1,
        max=100_000,
        help="Rows of each kind in one transaction; other processes write in between.",
    ),
]


def init(beside_other_tables: Beside = False, db: Db = None, as_json: Json = False) -> None:
    """Create the database, or upgrade an older one.

    Example: durableq init --db shop.db
    """
    with _named(db) as app:
        _tell_done(app.url, app.init(beside_other_tables=beside_other_tables), as_json)


def migrate(db: Db = None, as_json: Json = False) -> None:
    """Upgrade a database that an older durableq made.

    The upgrade is one transaction. Its duration and the disk space that it needs are printed
    first. Stop the workers before it.

    Example: durableq migrate --db shop.db
    """
    from durableq.admin import operations

    with _named(db) as app:
        if estimate := operations.upgrade_estimate(app.url):
            output.say(estimate.sentence())
        _tell_done(app.url, app.migrate(), as_json)


def doctor(deep: Deep = False, db: Db = None, as_json: Json = False) -> None:
    """Check the file, its disk, its locks and its workers.

    Each line is ok, warn or bad, with advice; the exit code is 6 if one is bad. Nothing is changed,
    and the file may be missing, damaged, in use, or another application's.

    Example: durableq doctor --db shop.db
    """
    from durableq.admin import operations

    url = DurableQ(db).url
    check_lasting(url)
    _report(url, operations.examine(url, deep=deep), as_json)


def audit(db: Db = None, as_json: Json = False) -> None:
    """Compare every queue's counters with its messages; find orphans.

    It can run at any time. The exit code is 6 if the counters do not reconcile, or if a row belongs
    to no queue, message or worker.

    Example: durableq audit
    """
    from durableq.admin import operations

    with opened(db) as store:
        findings = operations.audit(store)
    _report(DurableQ(db).url, findings, as_json)


def backup(to: Target, db: Db = None, as_json: Json = False) -> None:
    """Make a consistent copy of the database while everything runs.

    The copy is compact, checked and on the disk when the command ends; an unfinished copy never has
    the target's name. A database of an older durableq can be copied too.

    Example: durableq backup shop-monday.db --db shop.db
    """
    from durableq.admin import operations

    url = DurableQ(db).url
    check_lasting(url)
    with output.progress("copied, in %", 100) as advance:
        copied = operations.back_up(url, to, advance)
    if as_json:
        output.document({"database": url, "backup": copied.path, "bytes": copied.size_bytes})
    else:
        size = tables.mebibytes(copied.size_bytes)
        output.line(f"{copied.path}: {size}, checked, a copy of {url}.")


def restore(
    backup: Backup,
    replace: Replace = False,
    yes: Yes = False,
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Restore a database from a backup.

    The backup is checked, and upgraded if an older durableq made it. Messages that were in flight
    are ready again, uncounted, and no worker is registered. Work done since the backup is not in it
    and will be done again.

    Example: durableq restore shop-monday.db --db shop.db --replace
    """
    if yes and not replace:
        raise output.Misuse("--yes answers the question of --replace: give both, or drop --yes.")
    from durableq.admin import operations

    url = DurableQ(db).url
    check_lasting(url)
    if replace:
        question = f"Set aside what is at {url}, and restore {backup} in its place?"
        output.confirm(question, yes=yes)
    with output.progress("restored, in %", 100) as advance:
        copied = operations.restore(backup, url, replace=replace, progress=advance)
    if as_json:
        output.document(
            {
                "database": url,
                "backup": str(backup),
                "bytes": copied.size_bytes,
                "released": copied.released,
                "set_aside": copied.set_aside,
            }
        )
        return
    output.line(f"{url}: restored from {backup}, {tables.mebibytes(copied.size_bytes)}, checked.")
    output.line(f"{copied.released} messages that were in flight are ready again.")
    if copied.set_aside is not None:
        output.line(f"What was there before is now {copied.set_aside}.")


def prune(limit: Slice = SLICE, db: Db = None, as_json: Json = False) -> None:
    """Remove expired messages, expired keys and old history.

    Workers prune a little at a time. Use this command where no worker runs, or after a change of a
    retention.

    Example: durableq prune --limit 500
    """
    with opened(db) as store:
        report_pruned(prune_all(store, limit), as_json)


SETUP_COMMANDS: Final = (init, migrate)
COMMANDS: Final = (doctor, audit, backup, restore, prune)


def prune_all(store: Store, limit: int) -> Pruned:
    """Prune slice by slice until a slice is not full; return the totals."""
    total = Pruned(0, 0, 0)
    while True:
        now = dataclasses.astuple(store.require(Capability.MAINTENANCE).prune(limit))
        total = Pruned(*map(sum, zip(dataclasses.astuple(total), now, strict=True)))
        if max(now) < limit:
            return total


def report_pruned(total: Pruned, as_json: bool) -> None:
    """Print the number of removed rows of each kind."""
    if as_json:
        output.document(dataclasses.asdict(total))
    else:
        output.line(
            f"Pruned {total.records} records, {total.expired} expired messages and "
            f"{total.history} events of history."
        )


def _named(db: str | None) -> DurableQ:
    app = DurableQ(db)
    check_lasting(app.url)
    return app


def _tell_done(url: str, found: str, as_json: bool) -> None:
    if as_json:
        output.document({"database": url, "found": found, "done": DONE[found]})
    else:
        output.line(f"{url}: {DONE[found]}.")


def _report(url: str, findings: list[Finding], as_json: bool) -> None:
    """Print the findings; exit with UNHEALTHY if one is bad."""
    from durableq.model.health import is_healthy

    healthy = is_healthy(findings)
    if as_json:
        found = [_document(finding) for finding in findings]
        output.document({"database": url, "healthy": healthy, "findings": found})
    else:
        _show(findings)
        output.line(f"{url}: {'nothing is bad' if healthy else 'something is bad, see above'}.")
    if not healthy:
        raise typer.Exit(output.UNHEALTHY)


def _document(finding: Finding) -> dict[str, Any]:
    # name: deprecated name of check, with the old values, until 0.3
    old = {"counters": "books", "moved": "moves"}.get(finding.name, finding.name)
    return {"check": finding.name} | finding._asdict() | {"name": old, "level": finding.level.value}


def _show(findings: list[Finding]) -> None:
    width = max((len(finding.name) for finding in findings), default=0)
    for finding in findings:
        output.line(f"{finding.level.value:<4}  {finding.name:<{width}}  {finding.what}")
        if finding.advice:
            output.line(f"{'':<4}  {'':<{width}}  -> {finding.advice}")
