"""The command `chaos`: faults on purpose, and whether every promise held."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from durableq.cli import output
from durableq.cli.options import DEMO_SEED, Json, OwnDb, check_lasting

if TYPE_CHECKING:
    from durableq.testing.chaos.account import Account

MOST: Final = 100_000

Seed = Annotated[int, typer.Option(help="Which traffic, and when which faults.")]
Kills = Annotated[
    int, typer.Option(min=0, max=MOST, help="Faults: kills, and a fifth stops past the lease.")
]
Messages = Annotated[int, typer.Option(min=1, max=MOST, help="Messages.")]
Seconds = Annotated[
    float, typer.Option(min=1, max=MOST, help="How long traffic and faults go on, in seconds.")
]
Keep = Annotated[bool, typer.Option("--keep", help="Leave the file and the ledgers.")]


def chaos(
    seed: Seed = DEMO_SEED,
    kills: Kills = 40,
    messages: Messages = 400,
    seconds: Seconds = 20,
    keep: Keep = False,
    db: OwnDb = None,
    as_json: Json = False,
) -> None:
    """Kill and stop workers at random, let all drain, and check that every promise held.

    A producer, four workers and recovery run on one new file. Each order must be charged exactly
    once, or discarded with a reason; nothing may be lost or invented, and every stale receipt
    must be refused. It ends with exit code 6 if anything is violated, and then leaves the file.

    Example: durableq chaos --kills 100 --seconds 60
    """
    if db is not None:
        check_lasting(db)
    from durableq.testing.chaos.account import Asked
    from durableq.testing.chaos.run import run

    account = run(Asked(seed, kills, messages, seconds), db, output.live(), keep=keep)
    if as_json:
        output.document(account.as_dict())
    else:
        _show(account)
    if account.violations:
        raise typer.Exit(output.UNHEALTHY)


def _show(account: Account) -> None:
    rows = [
        (f"faults: {name}", str(account.faults_happened.get(name, 0)), f"{number} asked for")
        for name, number in account.faults_asked.items()
    ]
    rows += [(name.replace("_", " "), str(n), "") for name, n in account.figures.items()]
    output.table(("ACCOUNT", "MEASURED", ""), rows)
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


COMMANDS: Final = (chaos,)
