"""A command that runs: `demo`."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from durableq.cli import output
from durableq.cli.options import DEMO_SEED, Json, OwnDb, Procs, check_lasting

Count = Annotated[int, typer.Option(min=1, max=100_000, help="Messages.")]
Seed = Annotated[int, typer.Option(help="Which traffic: the same seed, the same orders.")]


def demo(
    count: Count = 200,
    procs: Procs = 4,
    seed: Seed = DEMO_SEED,
    db: OwnDb = None,
    as_json: Json = False,
) -> None:
    """Show everything at once: a producer, a fleet and recovery on one file, and their accounts.

    The figures are printed beside their references. It ends with exit code 6 if an account does
    not balance.

    Example: durableq demo --procs 4
    """
    from durableq.demo import show

    if db is not None:
        check_lasting(db)
    report = show.run(db, count, procs, seed, output.live())
    if as_json:
        output.document(report.as_dict())
    else:
        output.table(("ACCOUNT", "REFERENCE", "MEASURED"), report.rows)
        output.line()
        for problem in report.problems:
            output.line(f"PROBLEM: {problem}")
        if not report.problems:
            output.line("Every account balances.")
    if report.problems:
        raise typer.Exit(output.UNHEALTHY)


COMMANDS: Final = (demo,)
