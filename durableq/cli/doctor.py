"""Asking whether all is well: `doctor`, `audit`. Nothing here changes anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from durableq.cli import output
from durableq.cli.options import Db, Json, check_lasting, opened
from durableq.client.app import DurableQ

if TYPE_CHECKING:
    from durableq.model.health import Finding

Deep = Annotated[
    bool, typer.Option("--deep", help="Compare every index with its table: slow on a large file.")
]


def doctor(deep: Deep = False, db: Db = None, as_json: Json = False) -> None:
    """Examine the database file, what it is on, and who uses it; say what to do.

    Every line is ok, warn or bad; with a bad one the exit code is 6. Nothing is changed, and the
    file may be anything: missing, damaged, another application's, in use.

    Example: durableq doctor --db shop.db
    """
    from durableq.admin import operations

    url = DurableQ(db).url
    check_lasting(url)
    _tell(url, operations.examine(url, deep=deep), as_json)


def audit(db: Db = None, as_json: Json = False) -> None:
    """Hold the books of every queue against what is there, and look for rows that belong nowhere.

    It can be run while everything works. If something is off, the exit code is 6.

    Example: durableq audit
    """
    from durableq.admin import operations

    with opened(db) as store:
        findings = operations.audit(store)
    _tell(DurableQ(db).url, findings, as_json)


COMMANDS: Final = (doctor, audit)


def _tell(url: str, findings: list[Finding], as_json: bool) -> None:
    """Print what was found, and end with the exit code that says whether it is well."""
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
    return finding._asdict() | {"level": finding.level.value}


def _show(findings: list[Finding]) -> None:
    width = max((len(finding.name) for finding in findings), default=0)
    for finding in findings:
        output.line(f"{finding.level.value:<4}  {finding.name:<{width}}  {finding.what}")
        if finding.advice:
            output.line(f"{'':<4}  {'':<{width}}  -> {finding.advice}")
