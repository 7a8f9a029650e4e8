"""Removing what time has ended: `prune`."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Final

import typer

from durableq.cli import output
from durableq.cli.options import Db, Json, opened
from durableq.store.core import Capability, Pruned, Store

SLICE: Final = 1_000

Slice = Annotated[
    int,
    typer.Option(
        "--limit",
        min=1,
        max=100_000,
        help="So many of each kind in one transaction; others may write in between.",
    ),
]


def prune(limit: Slice = SLICE, db: Db = None, as_json: Json = False) -> None:
    """Remove what time has ended: expired messages, expired records, old history.

    Workers do this on the way, a little at a time; without workers, or after changing a
    retention, this does all of it.

    Example: durableq prune --limit 500
    """
    with opened(db) as store:
        tell(prune_all(store, limit), as_json)


COMMANDS: Final = (prune,)


def prune_all(store: Store, limit: int) -> Pruned:
    """Prune slice by slice until a slice is not full."""
    total = Pruned(0, 0, 0)
    while True:
        now = dataclasses.astuple(store.require(Capability.MAINTENANCE).prune(limit))
        total = Pruned(*map(sum, zip(dataclasses.astuple(total), now, strict=True)))
        if max(now) < limit:
            return total


def tell(total: Pruned, as_json: bool) -> None:
    """Print how many of each were removed."""
    if as_json:
        output.document(dataclasses.asdict(total))
    else:
        output.line(
            f"Pruned {total.records} records, {total.expired} expired messages and "
            f"{total.history} events of history."
        )
