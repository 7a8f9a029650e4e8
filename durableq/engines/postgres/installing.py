"""The functions of the hot verbs in a schema: their names there, and their creation."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from durableq.engines.postgres.dialect import qualified, quoted
from durableq.engines.postgres.functions import FUNCTIONS
from durableq.model.errors import DatabaseUnusable
from durableq.runtime.logs import facts

if TYPE_CHECKING:
    from durableq.engines.postgres.database import Database
    from durableq.engines.postgres.driver import Link

log = logging.getLogger("durableq.engine")

_FIND: Final = """\
SELECT proname::text FROM pg_proc
WHERE pronamespace = to_regnamespace($1) AND proname::text = ANY ($2)"""
_FIND_ALL: Final = """\
SELECT oid::regprocedure::text FROM pg_proc
WHERE pronamespace = to_regnamespace($1) AND proname ~ '^durableq_\\w+_[0-9a-f]{8}$'"""


@lru_cache(16)
def functions_of(schema: str) -> Mapping[str, tuple[str, str]]:
    """Return the functions for the tables in a schema: name there and text, by our name.

    A name has a hash of the text: each release calls its own, beside those of another release, and
    a schema that was renamed does not call those that write to the old one.
    """
    found = {}
    for name, text in FUNCTIONS.items():
        whole = _in_schema(text, schema)
        digest = hashlib.sha256(whole.encode()).hexdigest()[:8]
        own = f"durableq_{name}_{digest}"
        found[name] = own, whole.replace(f"durableq_{name}(", f"{own}(", 1)
    return found


def _in_schema(text: str, schema: str) -> str:
    """Return a text with the names in it, also those in literals, in a schema."""
    in_literals = quoted(schema).replace("'", "''")
    return qualified(text.replace("'durableq_", f"'{in_literals}.durableq_"), schema)


def install(database: Database) -> None:
    """Create the functions that are missing; hot verbs are off where that is not allowed."""
    wanted = functions_of(database.schema)
    with database.connected() as (link, _):
        if len(found(link, database)) == len(wanted):
            return
    try:
        _create(database, wanted)
    except DatabaseUnusable as error:
        database.is_hot = False
        log.warning(
            "sends and receives are slow and one at a time, for the user of the database may not "
            "create functions: run `durableq init` as the owner of the tables (%s)",
            error,
            extra=facts("no_functions"),
        )


def _create(database: Database, wanted: Mapping[str, tuple[str, str]]) -> None:
    with database.write() as tx:
        present = found(tx.link, database)
        for name, text in wanted.values():
            if name not in present:
                tx.raw.execute_text(text, prepare=False)


def found(link: Link, database: Database) -> set[str]:
    """Return the names of those functions that are there."""
    names = [name for name, _ in functions_of(database.schema).values()]
    rows = link.execute(_FIND, (database.quoted_schema, names)).fetchall()
    return {name for (name,) in rows}


def remove(link: Link, database: Database) -> None:
    """Drop all functions, of any release."""
    rows = link.execute(_FIND_ALL, (database.quoted_schema,)).fetchall()
    for (name,) in rows:
        link.execute_text(f"DROP FUNCTION {name}", prepare=False)
