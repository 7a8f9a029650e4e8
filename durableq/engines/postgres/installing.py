"""The functions of the hot verbs in a schema: their names there, and their creation."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from durableq.engines.postgres.dialect import qualified, quoted
from durableq.engines.postgres.functions import FUNCTIONS
from durableq.engines.postgres.location import FOLDING, LISTENING
from durableq.engines.sql.schema import REVISIONS
from durableq.model.errors import DatabaseUnusable
from durableq.runtime.logs import facts

if TYPE_CHECKING:
    from durableq.engines.postgres.database import Database
    from durableq.engines.postgres.driver import Link

log = logging.getLogger("durableq.engine")

_PARAMETER: Final = re.compile(r"\bp_\w+ ([A-Z]+(?:\[\])?)")
_FIND: Final = """\
SELECT proname::text FROM pg_proc
WHERE pronamespace = to_regnamespace($1) AND proname::text = ANY ($2)"""
_FIND_ALL: Final = """\
SELECT oid::regprocedure::text FROM pg_proc
WHERE pronamespace = to_regnamespace($1) AND proname ~ '^durableq_\\w+_[0-9a-f]{8}$'"""


class Functions(NamedTuple):
    """The functions for the tables of a schema, by our name for each."""

    #: The texts that create them, by their names in the schema.
    texts: Mapping[str, str]
    #: The statements that call them.
    calls: Mapping[str, str]


def functions_of(database: Database) -> Functions:
    """Return the functions for a schema."""
    return _functions(database.schema, database.key, database.channel)


@lru_cache(16)
def _functions(schema: str, key: int, channel: str) -> Functions:
    """Return the functions for a schema, its lock, and its channel.

    A name has a hash of the text: each release calls its own, beside those of another release, and
    a schema that was renamed does not call those that write to the old one.
    """
    constants = {
        "lock": str(key),
        "folding": str(key ^ FOLDING),
        "listening": str(key ^ LISTENING),
        "channel": channel,
        "revision": REVISIONS[-1],
    }
    texts, calls = {}, {}
    for name, text in FUNCTIONS.items():
        whole = re.sub("@([a-z]+)@", lambda found: constants[found[1]], text)
        whole = _in_schema(whole, schema)
        own = f"durableq_{name}_{hashlib.sha256(whole.encode()).hexdigest()[:8]}"
        texts[own] = whole.replace(f"durableq_{name}(", f"{own}(", 1)
        types = _PARAMETER.findall(text[: text.index("RETURNS")])
        given = ", ".join(f"${number}::{kind}" for number, kind in enumerate(types, 1))
        rows = "* FROM " if "RETURNS TABLE" in text else ""
        calls[name] = f"SELECT {rows}{quoted(schema)}.{own}({given})"
    return Functions(texts, calls)


def _in_schema(text: str, schema: str) -> str:
    """Return a text with the names of our tables in a schema, also those in literals."""
    in_literals = quoted(schema).replace("'", "''")
    return qualified(text.replace("'durableq_message", f"'{in_literals}.durableq_message"), schema)


def install(database: Database) -> None:
    """Create the functions that are missing; hot verbs are off where that is not allowed."""
    wanted = functions_of(database).texts
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


def _create(database: Database, wanted: Mapping[str, str]) -> None:
    with database.write() as tx:
        present = found(tx.link, database)
        for name, text in wanted.items():
            if name not in present:
                tx.raw.execute_text(text, prepare=False)


def found(link: Link, database: Database) -> set[str]:
    """Return the names of those functions that are there."""
    names = [*functions_of(database).texts]
    rows = link.execute(_FIND, (database.quoted_schema, names)).fetchall()
    return {name for (name,) in rows}


def remove(link: Link, database: Database) -> None:
    """Drop all functions, of any release."""
    rows = link.execute(_FIND_ALL, (database.quoted_schema,)).fetchall()
    for (name,) in rows:
        link.execute_text(f"DROP FUNCTION {name}", prepare=False)
