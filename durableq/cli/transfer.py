"""Moving a database to another address."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final

import typer

from durableq.cli import output
from durableq.cli.help import option
from durableq.cli.options import Session
from durableq.cli.totals import number_of
from durableq.model.text import address

if TYPE_CHECKING:
    from durableq.admin.transfer import Aborted, Moved
    from durableq.admin.transfer_plan import Plan

#: The rows of each table in words, with (s) where the plural has an s, in the order of the list.
_NOUNS: Final = {
    "durableq_queue": "queue(s)",
    "durableq_message": "message(s)",
    "durableq_history": "event(s) of history",
    "durableq_idempotency": "idempotency record(s)",
    "durableq_deduplication": "deduplication id(s)",
    "durableq_once": "value(s) of once",
    "durableq_redrive_task": "redrive task(s)",
    "durableq_group": "group(s)",
    "durableq_failure": "failure(s) that breakers count",
    "durableq_flow": "state(s) of breakers",
    "durableq_counters": "row(s) of counters",
    "durableq_meta": "note(s) of queues",
}


def transfer(
    session: Session,
    to: str = option("--to DATABASE", "The target: a new file, or a postgresql:// URL."),
    source: str | None = option(
        "--from DATABASE", "The source.", None, show_default="the database of --db"
    ),
    dry_run: bool = option("--dry-run", "Say how much would be moved, and change nothing.", False),
    abort: bool = option(
        "--abort", "Undo a transfer that has not ended: the source works again.", False
    ),
) -> None:
    """Move everything to another file or PostgreSQL schema, and back.

    Stop the workers before it. Messages, dead letters, history, keys, values, settings and counters
    keep their ids and dates. The source is paused while it runs, and afterwards says where it was
    moved. A transfer that was interrupted goes on when it runs again.

    Exit code 6: with --dry-run, something forbids the transfer.

    Example: durableq transfer --from shop.db --to postgresql://shop@db.example/shop
    """
    if dry_run and abort:
        raise output.Misuse("--dry-run looks, --abort undoes: give one of them.")
    from durableq.admin import transfer as moving

    begin = source or session.url
    if dry_run:
        from durableq.admin.transfer_plan import plan

        _show_plan(session, plan(begin, to))
    elif abort:
        _show_aborted(session, moving.abort(begin, to))
    else:
        _show_moved(session, _moved(begin, to))


def _moved(source: str, to: str) -> Moved:
    """Run the transfer with a progress bar; after Ctrl-C, say how it goes on."""
    from durableq.admin import transfer as moving

    try:
        with output.progress("copied", 100) as advance:
            return moving.transfer(
                source, to, lambda done, rows, step: advance(100 * done // max(1, rows), step)
            )
    except KeyboardInterrupt:
        output.say(
            f"Interrupted. `durableq transfer --from {address(source)} --to "
            f"{address(to)}` goes on; with --abort, it is undone."
        )
        raise


def _show_plan(session: Session, plan: Plan) -> None:
    states = {
        name: ", ".join(f"{number} {state}" for state, number in counts.items() if number)
        for name, counts in plan.queues.items()
    }
    width = max(map(len, states), default=0)
    lines = [
        f"From {plan.source} to {plan.target} ({plan.target_is}):",
        *_rows(plan.rows),
        *(f"queue {name:<{width}}  {found or 'empty'}" for name, found in states.items()),
        f"{number_of(plan.leases, 'lease')} would be given back, uncounted.",
        *plan.refusals,
    ]
    if not plan.refusals:
        lines.append("Nothing forbids it. Nothing was changed.")
    session.show(dataclasses.asdict(plan), *lines)
    if plan.refusals:
        raise typer.Exit(output.UNHEALTHY)


def _show_moved(session: Session, moved: Moved) -> None:
    document = dataclasses.asdict(moved)
    document["findings"] = [_finding(finding) for finding in moved.findings]
    were = "was" if moved.released == 1 else "were"
    lines = [
        f"From {moved.source} to {moved.target}:",
        *_rows(moved.rows),
        f"{number_of(moved.released, 'lease')} {were} given back, uncounted.",
        "All rows were compared: they are the same.",
        *(f"As in the source, {each.what}." for each in moved.findings),
        f"Give the new address from here on: {moved.target}",
    ]
    session.show(document, *lines)


def _show_aborted(session: Session, done: Aborted) -> None:
    lines = []
    if done.freed:
        lines.append(f"{done.source} works again.")
    if done.emptied:
        lines.append(f"{done.target} is empty again.")
    elif done.left:
        lines.append(f"The target was not emptied: {done.left}")
    session.show(done._asdict(), *lines)


def _rows(rows: dict[str, int]) -> list[str]:
    counted = [(rows.get(table, 0), noun) for table, noun in _NOUNS.items()]
    width = max(len(str(number)) for number, _ in counted)
    return [
        f"{number:>{width}} {noun.replace('(s)', '' if number == 1 else 's')}"
        for number, noun in counted
        if number
    ]


def _finding(finding: Any) -> dict[str, Any]:
    return {"check": finding.name, "level": finding.level.value, "what": finding.what}
