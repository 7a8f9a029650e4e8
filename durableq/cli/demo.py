"""`durableq demo`, `chaos` and `bench fleet`: a whole fleet on a temporary file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from durableq.cli import output, tables
from durableq.cli.help import option
from durableq.cli.options import DEMO_SEED, Json, OwnDb, Procs, check_lasting

if TYPE_CHECKING:
    from durableq.testing.chaos.run import Account

MOST: Final = 100_000

Count = Annotated[int, option(placeholder="N", min=1, max=MOST, help="Number of messages.")]
Seed = Annotated[
    int, option(placeholder="N", help="Seed of the traffic: equal seeds send equal orders.")
]
ChaosSeed = Annotated[int, option(placeholder="N", help="Seed of the traffic and of the faults.")]
Faults = Annotated[
    int,
    option(
        "--kills",
        placeholder="N",
        min=0,
        max=MOST,
        help="Number of faults: kills, and for one in five a stop past the lease.",
    ),
]
Messages = Annotated[int, option(placeholder="N", min=1, max=MOST, help="Number of messages.")]
FaultSeconds = Annotated[
    float,
    option(
        "--seconds", placeholder="SECONDS", min=1, max=MOST, help="Length of traffic and faults."
    ),
]
Keep = Annotated[bool, option("--keep", help="Keep the database and the ledgers.")]

FleetProcs = Annotated[
    int, option("--procs", placeholder="N", min=2, max=64, help="Number of worker processes.")
]
Sends = Annotated[
    int, option("--messages", placeholder="N", min=1, max=10_000, help="Number of timed sends.")
]
Kills = Annotated[int, option(placeholder="N", min=1, max=1_000, help="Number of killed workers.")]
IdleSeconds = Annotated[
    float,
    option(
        "--seconds", placeholder="SECONDS", min=0.1, max=3600, help="How long to watch it idle."
    ),
]


def demo(
    count: Count = 200,
    procs: Procs = 4,
    seed: Seed = DEMO_SEED,
    db: OwnDb = None,
    as_json: Json = False,
) -> None:
    """Run producer, fleet and recovery on one file, and check the sums.

    Prints each figure beside its reference. The exit code is 6 if an account does not balance.

    Example: durableq demo --procs 4
    """
    from durableq.demo import show

    if db is not None:
        check_lasting(db)
    report = show.run(db, count, procs, seed, output.live())
    if as_json:
        output.document(report.as_dict())
    else:
        tables.table(("ACCOUNT", "REFERENCE", "MEASURED"), report.rows)
        output.line()
        for problem in report.problems:
            output.line(f"PROBLEM: {problem}")
        if not report.problems:
            output.line("Every account balances.")
    if report.problems:
        raise typer.Exit(output.UNHEALTHY)


def chaos(
    seed: ChaosSeed = DEMO_SEED,
    kills: Faults = 40,
    messages: Messages = 400,
    seconds: FaultSeconds = 20,
    keep: Keep = False,
    db: OwnDb = None,
    as_json: Json = False,
) -> None:
    """Kill and stop workers at random, and check every promise.

    A producer, four workers and recovery run on one new file until every message has ended. Each
    order must be charged exactly once, or discarded with a reason; no order may be lost or
    invented, and every stale receipt must be refused. The exit code is 6 after a violation, and
    the file is then kept.

    Example: durableq chaos --kills 100 --seconds 60
    """
    if db is not None:
        check_lasting(db)
    from durableq.testing.chaos.run import Asked, run

    account = run(Asked(seed, kills, messages, seconds), db, output.live(), keep=keep)
    if as_json:
        output.document(account.as_dict())
    else:
        _show(account)
    if account.violations:
        raise typer.Exit(output.UNHEALTHY)


def fleet(
    ctx: typer.Context,
    procs: FleetProcs = 4,
    messages: Sends = 300,
    kills: Kills = 20,
    seconds: IdleSeconds = 10,
    as_json: Json = False,
) -> None:
    """Measure a fleet: latency of a send, of a kill -9, and its idle cost.

    Uses a temporary database. The figures are printed beside their targets, and no target changes
    the exit code.

    Example: durableq bench fleet --json
    """
    if ctx.parent is not None and ctx.parent.params.get("db") is not None:
        raise output.Misuse("`bench fleet` makes a file of its own: leave out --db.")
    from durableq.bench.fleet import measure

    figures = measure(procs, messages, kills, seconds, output.live())
    if as_json:
        output.document(figures.as_dict())
        return
    output.line(figures.machine)
    tables.table(("FLEET", "TARGET", "MEASURED"), figures.rows)


COMMANDS: Final = (demo, chaos)
BENCH_COMMANDS: Final = (fleet,)


def _show(account: Account) -> None:
    rows = [
        (f"faults: {name}", str(account.faults_happened.get(name, 0)), f"{number} asked for")
        for name, number in account.faults_asked.items()
    ]
    rows += [(name.replace("_", " "), str(n), "") for name, n in account.figures.items()]
    tables.table(("ACCOUNT", "MEASURED", ""), rows)
    output.line()
    for violation in account.violations:
        for text in f"VIOLATION: {violation}".splitlines():
            output.line(text)
    if not account.violations:
        output.line(f"Seed {account.asked.seed}: every invariant holds.")
    if account.database:
        output.line(f"The file:    {account.database}")
    if account.ledgers:
        output.line(f"The ledgers: {account.ledgers}")
