"""`durableq bench`: figures of this machine."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from durableq.cli import output
from durableq.cli.options import Json

Procs = Annotated[int, typer.Option(min=2, max=64, help="Worker processes.")]
Messages = Annotated[int, typer.Option(min=1, max=10_000, help="Sends that are timed.")]
Kills = Annotated[int, typer.Option(min=1, max=1_000, help="Workers that are killed.")]
Seconds = Annotated[float, typer.Option(min=0.1, max=3600, help="How long it is watched idle.")]


def fleet(
    ctx: typer.Context,
    procs: Procs = 4,
    messages: Messages = 300,
    kills: Kills = 20,
    seconds: Seconds = 10,
    as_json: Json = False,
) -> None:
    """Measure a fleet: from send to handler, from a kill -9 to the next handler, and idle.

    It runs on a file of its own, which is removed. The figures decide nothing.

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
    output.table(("FLEET", "MEANT", "MEASURED"), figures.rows)


COMMANDS: Final = (fleet,)
