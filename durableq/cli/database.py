"""The file itself: `init`, `migrate`."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from durableq.admin import operations
from durableq.cli import output
from durableq.cli.options import Db, Json, check_lasting
from durableq.client.app import DurableQ

DONE: Final = {
    "empty": "created",
    "foreign": "created beside the other tables",
    "older": "upgraded",
    "current": "ready already",
}

Beside = Annotated[
    bool,
    typer.Option("--beside-other-tables", help="Also in a file with another application's tables."),
]


def init(beside_other_tables: Beside = False, db: Db = None, as_json: Json = False) -> None:
    """Create the database, or upgrade one that an older durableq made.

    Example: durableq init --db shop.db
    """
    with _named(db) as app:
        _tell(app.url, app.init(beside_other_tables=beside_other_tables), as_json)


def migrate(db: Db = None, as_json: Json = False) -> None:
    """Upgrade a database that an older durableq made, in one transaction. Stop its workers first.

    It says beforehand how long the upgrade takes and how much disk space it needs.

    Example: durableq migrate --db shop.db
    """
    with _named(db) as app:
        if estimate := operations.upgrade_estimate(app.url):
            output.say(estimate.sentence())
        _tell(app.url, app.migrate(), as_json)


COMMANDS: Final = (init, migrate)


def _named(db: str | None) -> DurableQ:
    app = DurableQ(db)
    check_lasting(app.url)
    return app


def _tell(url: str, found: str, as_json: bool) -> None:
    if as_json:
        output.document({"database": url, "found": found, "done": DONE[found]})
    else:
        output.line(f"{url}: {DONE[found]}.")
