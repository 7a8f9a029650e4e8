"""`durableq demo` and `chaos`: a whole fleet on a temporary file."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any, Final

import typer

from durableq.cli import output
from durableq.cli.help import option
from durableq.cli.options import DEMO_SEED, Json, NewDb, Procs, check_lasting

if TYPE_CHECKING:
    from durableq.demo.accounts import Report
    from durableq.testing.chaos.run import Account

MOST: Final = 100_000
DEMO_COUNT: Final = 200
_SEED: Final = "Seed of the traffic: equal seeds send equal orders."
_SPIKE: Final = "Show the limits of a queue: a spike and an outage, with them and without."
_UNPROTECTED: Final = "With --spike: only the run without limits."
_FAULTS: Final = (
    "Number of faults: kills, and for one in five a stop past the lease. Four that meet limits "
    "come on top."
)
_POSTGRES: Final = "On a PostgreSQL server that the run starts, and kills too."


def _number(shown: str, text: str, default: int, most: int = MOST, least: int = 1) -> Any:
    return option(shown, text, default, min=least, max=most)


#: What to do with the file of the demo.
_NEXT: Final = (
    "The file stays. To look around: export DURABLEQ_DB={}",
    "  durableq status       # the queues, with their counters",
    "  durableq show 8       # an order that failed, and its history",
    "  durableq dashboard    # the same in a browser",
)


def demo(
    count: int | None = option(
        "--count, --messages N",
        "Number of messages.",
        None,
        min=1,
        max=MOST,
        show_default="200, with --spike 20000",
    ),
    procs: Procs = 4,
    seed: int | None = option("--seed N", _SEED, None, show_default=str(DEMO_SEED)),
    spike: bool = option("--spike", _SPIKE, False),
    unprotected: bool = option("--unprotected", _UNPROTECTED, False),
    db: NewDb = None,
    as_json: Json = False,
) -> None:
    """Run producer, fleet and recovery on one database, and check the sums.

    Prints each figure beside its reference. The exit code is 6 if an account does not balance. A
    temporary file stays, and is named at the end.

    With --spike a producer sends 20,000 messages at once. Workers call a downstream that refuses
    more than 200 calls a second, and is down for ten seconds half way: once with the limits of a
    queue, then without. It takes about four minutes; --messages makes it shorter. The figures and
    plots of both runs replace durableq-spike.html in the current folder. A database of --db has no
    queue "calls", before and after both. The exit code is 6 if the limits did not hold.

    Example: durableq demo --procs 4
    """
    if db is not None:
        check_lasting(db)
    if spike:
        if seed is not None:
            raise output.Misuse("--spike has its own messages: drop --seed.")
        from durableq.cli.spike import run as run_spike

        run_spike(count, procs, db, is_unprotected=unprotected, as_json=as_json)
        return
    if unprotected:
        raise output.Misuse("--unprotected is a run of --spike: add --spike.")
    from durableq.demo import show

    seed = DEMO_SEED if seed is None else seed
    report = show.run(db, count or DEMO_COUNT, procs, seed, output.live(), keep=True)
    if as_json:
        output.document(report.as_dict())
    else:
        _print_report(report)
    if report.problems:
        raise typer.Exit(output.UNHEALTHY)


def _print_report(report: Report) -> None:
    output.table(("ACCOUNT", "REFERENCE", "MEASURED"), report.rows)
    output.line()
    output.lines(f"PROBLEM: {problem}" for problem in report.problems)
    if not report.problems:
        output.line("Every account balances.")
    if report.kept:
        for line in _NEXT:
            output.say(line.format(shlex.quote(report.kept)))


def chaos(
    seed: int = option("--seed N", "Seed of the traffic and of the faults.", DEMO_SEED),
    kills: int = _number("--kills N", _FAULTS, 40, least=0),
    messages: int = _number("--messages N", "Number of messages.", 400),
    seconds: float = _number("--seconds SECONDS", "Length of traffic and faults.", 20),
    keep: bool = option("--keep", "Keep the database and the ledgers.", False),
    postgres: bool = option("--postgres", _POSTGRES, False),
    db: NewDb = None,
    as_json: Json = False,
) -> None:
    """Kill and stop workers at random, and check every promise.

    A producer, four workers and recovery run on one new file, or one new schema of PostgreSQL,
    until every message has ended. Each order must be charged exactly once, or discarded with a
    reason; no order may be lost or invented, and every stale receipt must be refused. More queues
    have limits: a rate, a number in flight, a circuit breaker, groups in order. Workers are killed
    with the last token, the last place, the head of a group and a probe in an outage, and no limit
    may be exceeded. On PostgreSQL connections are cut. With --postgres a server of the run's own
    is killed too, all its processes, and started again. The exit code is 6 after a violation, and
    the database is then kept.

    Example: durableq chaos --kills 100 --seconds 60
    """
    if db is not None:
        check_lasting(db)
        if postgres:
            raise output.Misuse("--postgres starts a server of its own: drop --db.")
    from durableq.testing.chaos.run import Asked, run

    asked = Asked(seed, kills, messages, seconds)
    account = run(asked, db, output.live(), keep=keep, own_postgres=postgres)
    if as_json:
        output.document(account.as_dict())
    else:
        _print(account)
    if account.violations:
        raise typer.Exit(output.UNHEALTHY)


def _print(account: Account) -> None:
    rows = [
        (f"faults: {name}", str(account.faults_happened.get(name, 0)), f"{number} asked for")
        for name, number in account.faults_asked.items()
    ]
    rows += [(name.replace("_", " "), str(n), "") for name, n in account.figures.items()]
    output.table(("ACCOUNT", "MEASURED", ""), rows)
    output.line()
    for violation in account.violations:
        output.lines(f"VIOLATION: {violation}".splitlines())
    if not account.violations:
        output.line(f"Seed {account.asked.seed}: every invariant holds.")
    if account.database:
        output.line(f"The file:    {account.database}")
    if account.ledgers:
        output.line(f"The ledgers: {account.ledgers}")
