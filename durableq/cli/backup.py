"""Copies of the file: `backup`, `restore`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from durableq.cli import output
from durableq.cli.options import Db, Json, Yes, check_lasting
from durableq.client.app import DurableQ

if TYPE_CHECKING:
    from durableq.model.health import Copied

To = Annotated[
    Path, typer.Argument(metavar="FILE", help="Where to; it must not exist.", show_default=False)
]
Backup = Annotated[
    Path, typer.Argument(metavar="FILE", help="What a backup made.", show_default=False)
]
Replace = Annotated[
    bool,
    typer.Option("--replace", help="Also where there is a database: that one is set aside."),
]


def backup(to: To, db: Db = None, as_json: Json = False) -> None:
    """Make a consistent copy of the database while everything runs.

    The copy is compact, checked and on the disk when the command ends; a copy that was not
    finished never has the name. An older durableq's file can be copied too.

    Example: durableq backup shop-monday.db --db shop.db
    """
    from durableq.admin import operations

    url = DurableQ(db).url
    check_lasting(url)
    with output.progress("copied, in %", 100) as tell:
        copied = operations.back_up(url, to, tell)
    if as_json:
        output.document({"database": url, "backup": copied.path, "bytes": copied.size_bytes})
    else:
        output.line(f"{copied.path}: {_size(copied)}, checked, a copy of {url}.")


def restore(
    backup: Backup,
    replace: Replace = False,
    yes: Yes = False,
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Make a database of a backup: checked first, upgraded if it is of an older durableq.

    Messages that were in flight are ready again, uncounted, and no worker is registered. What
    happened after the backup is not in it: work done since then will be done again.

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
    with output.progress("restored, in %", 100) as tell:
        copied = operations.restore(backup, url, replace=replace, progress=tell)
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
    output.line(f"{url}: restored from {backup}, {_size(copied)}, checked.")
    output.line(f"{copied.released} messages that were in flight are ready again.")
    if copied.set_aside is not None:
        output.line(f"What was there before is now {copied.set_aside}.")


COMMANDS: Final = (backup, restore)


def _size(copied: Copied) -> str:
    return f"{copied.size_bytes / (1 << 20):.1f} MiB"
