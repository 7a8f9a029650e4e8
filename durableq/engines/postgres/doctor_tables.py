"""Doctor checks of our tables: their parts, indexes, grants, dead rows and size."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from durableq.engines.postgres import installing, statements, tables
from durableq.engines.postgres.dialect import quoted
from durableq.engines.postgres.driver import driver
from durableq.engines.postgres.errors import first_line
from durableq.engines.postgres.schema import DEAD_LETTER_VIEW, grants_to_use
from durableq.model.health import Finding, bad, ok, warn
from durableq.model.limits import BODY_CEILING_BYTES
from durableq.model.units import span

if TYPE_CHECKING:
    from durableq.engines.postgres.database import Database
    from durableq.engines.postgres.driver import Link

MIB: Final = 1 << 20
#: Parts that are named in a finding.
MOST: Final = 3
#: Dead rows that are a warning: more than these, and than a part of the living ones.
DEAD_ROWS: Final = 50_000
DEAD_PART: Final = 0.5
#: A relation of this size that has so many times the bytes of its rows is a warning.
LARGE_BYTES: Final = 64 * MIB
BLOATED: Final = 4

_TABLE: Final = re.compile(r"CREATE TABLE (\w+) \(\n(.*)\n\)", re.DOTALL)
_COLUMN: Final = re.compile(r"^    ([a-z_]+) ", re.MULTILINE)
_VIEW: Final = re.compile(r"CREATE VIEW (\w+)")
_INDEX: Final = re.compile(r"CREATE (?:UNIQUE )?INDEX (\w+) ON (\w+)")
_PRESENT: Final = """\
SELECT c.relname::text, c.relname || '.' || a.attname
FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0
WHERE c.relnamespace = to_regnamespace($1) AND c.relkind IN ('r', 'p') AND NOT a.attisdropped
UNION ALL
SELECT relname::text, relname::text FROM pg_class
WHERE relnamespace = to_regnamespace($1) AND relkind = 'v'
UNION ALL
SELECT t.relname::text, i.relname::text
FROM pg_index AS x
JOIN pg_class AS i ON i.oid = x.indexrelid JOIN pg_class AS t ON t.oid = x.indrelid
WHERE i.relnamespace = to_regnamespace($1)
UNION ALL
SELECT conrelid::regclass::text, 'the primary key of ' || relname
FROM pg_constraint JOIN pg_class AS t ON t.oid = conrelid
WHERE contype = 'p' AND relnamespace = to_regnamespace($1)"""
_INVALID: Final = """\
SELECT i.relname::text FROM pg_index AS x JOIN pg_class AS i ON i.oid = x.indexrelid
WHERE i.relnamespace = to_regnamespace($1) AND i.relname LIKE 'durableq\\_%'
    AND NOT (x.indisvalid AND x.indisready)
ORDER BY 1"""
_GRANTS: Final = """\
SELECT c.relname::text, wanted
FROM pg_class AS c, unnest(CASE c.relkind WHEN 'v' THEN ARRAY['SELECT']
    WHEN 'S' THEN ARRAY['USAGE', 'SELECT', 'UPDATE']
    ELSE ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE'] END) AS wanted
WHERE c.relnamespace = to_regnamespace($1) AND c.relname LIKE 'durableq\\_%'
    AND c.relkind IN ('r', 'p', 'S', 'v')
    AND NOT CASE c.relkind WHEN 'S' THEN has_sequence_privilege(c.oid, wanted)
        ELSE has_table_privilege(c.oid, wanted) END
ORDER BY 1, 2"""
_MAY_CREATE: Final = "SELECT has_schema_privilege($1::regnamespace::oid, 'CREATE')"
_VACUUM: Final = """\
SELECT relname::text, n_live_tup, n_dead_tup,
    extract(epoch FROM clock_timestamp() - greatest(last_vacuum, last_autovacuum))::float8
FROM pg_stat_all_tables WHERE schemaname = $1 AND relname LIKE 'durableq\\_%'
ORDER BY n_dead_tup DESC"""
#: Each relation with its size, and that of its rows, as the last analysis saw them.
_SIZES: Final = """\
SELECT c.relname::text, c.relkind::text, pg_relation_size(c.oid),
    (t.reltuples * (28 + coalesce((
        SELECT sum(avg_width * (1 - null_frac)) FROM pg_stats
        WHERE schemaname = $1 AND tablename = t.relname
            AND (c.relkind = 'r' OR attname IN (
                SELECT attname FROM pg_attribute WHERE attrelid = c.oid))), 100)))::bigint
FROM pg_class AS c
LEFT JOIN pg_index AS x ON x.indexrelid = c.oid
JOIN pg_class AS t ON t.oid = coalesce(x.indrelid, c.oid)
WHERE c.relnamespace = to_regnamespace($2) AND t.relname LIKE 'durableq\\_%'
    AND c.relkind IN ('r', 'i')
ORDER BY 3 DESC"""
_TOTAL: Final = """\
SELECT coalesce(sum(pg_table_size(oid)), 0)::bigint, coalesce(sum(pg_indexes_size(oid)), 0)::bigint
FROM pg_class WHERE relnamespace = to_regnamespace($1) AND relname LIKE 'durableq\\_%'
    AND relkind = 'r'"""
_AMCHECK: Final = """\
SELECT pronamespace::regnamespace::text || '.bt_index_check' FROM pg_proc
WHERE proname = 'bt_index_check' AND pronargs = 2 AND has_function_privilege(oid, 'EXECUTE')"""
_BTREES: Final = """\
SELECT i.oid::regclass::text FROM pg_index AS x JOIN pg_class AS i ON i.oid = x.indexrelid
WHERE i.relnamespace = to_regnamespace($1) AND i.relname LIKE 'durableq\\_%'
    AND x.indisvalid AND x.indisready
ORDER BY 1"""
#: The rules of rows that SQLite checks at each write, as the condition of a row that breaks one.
_RULES: Final = {
    "durableq_message": {
        "state": "state NOT IN (0, 1, 2, 3)",
        "receipt": "length(receipt) <> 16",
        "payload hash": "(key IS NULL) <> (payload_hash IS NULL)",
        # Bytes are stored as two digits each, after a mark.
        "size": f"octet_length(body) > {2 * BODY_CEILING_BYTES + 2}",
    },
    "durableq_idempotency": {"status": "status NOT IN (0, 1)"},
}
_RESTORE: Final = "Restore a dump of all tables; durableq restore says how."


def lacking(link: Link, database: Database) -> list[str]:
    """Return the tables, columns, primary keys, indexes and views that current tables lack."""
    wanted = []
    for text in (*statements.CREATE, *tables.CREATE, DEAD_LETTER_VIEW):
        if made := _TABLE.match(text):
            table, columns = made.groups()
            wanted += [(table, f"{table}.{column}") for column in _COLUMN.findall(columns)]
            if "PRIMARY KEY" in columns:
                wanted.append((table, f"the primary key of {table}"))
        elif index := _INDEX.match(text):
            wanted.append((index[2], index[1]))
        elif view := _VIEW.match(text):
            wanted.append((view[1], view[1]))
    present = link.execute(_PRESENT, (database.quoted_schema,)).fetchall()
    names, parts = {name for name, _ in present}, {part for _, part in present}
    return sorted(
        {part if table in names else table for table, part in wanted if part not in parts}
    )


def check_parts(link: Link, database: Database) -> Finding:
    """Judge whether every table, column, primary key, index and view is there."""
    missing = lacking(link, database)
    if missing:
        return bad("tables", f"missing: {', '.join(missing)}", _RESTORE)
    return ok("tables", "every table, column, primary key, index and view is there")


def check_indexes(link: Link, database: Database) -> Finding:
    """Judge whether an index is left invalid, as an interrupted CONCURRENTLY leaves one."""
    invalid = [name for (name,) in link.execute(_INVALID, (database.quoted_schema,)).fetchall()]
    if not invalid:
        return ok("indexes", "each is valid")
    again = "; ".join(
        f"REINDEX INDEX CONCURRENTLY {database.quoted_schema}.{quoted(name)}" for name in invalid
    )
    return bad("indexes", f"invalid, so no statement uses it: {', '.join(invalid)}", f"{again}.")


def check_functions(link: Link, database: Database) -> Finding:
    """Judge whether the functions of this release are there, and may be called."""
    name, wanted = "functions", installing.functions_of(database)
    present = installing.found(link, database)
    missing = [
        ours for ours, own in zip(wanted.calls, wanted.texts, strict=True) if own not in present
    ]
    if not missing:
        return ok(name, "each function of the fast path is there")
    may_create = link.execute(_MAY_CREATE, (database.quoted_schema,)).fetchone()[0]
    if may_create:
        return ok(name, f"missing, and made by the next opening: {', '.join(missing)}")
    return warn(
        name,
        f"missing, so these are slow and one at a time: {', '.join(missing)}",
        "Run durableq init of this release as the owner of the tables.",
    )


def check_grants(link: Link, database: Database) -> Finding:
    """Judge whether this user may do what a worker does."""
    rows = link.execute(_GRANTS, (database.quoted_schema,)).fetchall()
    if not rows:
        return ok("grants", "this user may read and write each table")
    by_name: dict[str, list[str]] = {}
    for name, privilege in rows:
        by_name.setdefault(name, []).append(privilege)
    told = [f"{', '.join(kinds)} on {name}" for name, kinds in by_name.items()]
    more = f"; and {len(told) - MOST} more" if len(told) > MOST else ""
    return bad("grants", f"this user lacks {'; '.join(told[:MOST])}{more}", grants_to_use(database))


def check_vacuum(link: Link, database: Database) -> Finding:
    """Judge the dead rows of the tables, and when they were last removed."""
    name = "vacuum"
    rows = link.execute(_VACUUM, (database.schema,)).fetchall()
    if not rows:
        return ok(name, "no table has been written yet")
    table, live, dead, seconds = rows[0]
    last = "never vacuumed" if seconds is None else f"vacuumed {span(int(seconds * 1000))} ago"
    what = f"dead rows: {dead:,} in {table} beside {live:,}, {last}"
    if dead < max(DEAD_ROWS, DEAD_PART * live):
        return ok(name, what)
    advice = (
        "See oldest_xmin and transactions for what holds vacuum back, and settings for autovacuum. "
        f"By hand: VACUUM {database.quoted_schema}.{table}."
    )
    return warn(name, what, advice)


def check_size(link: Link, database: Database) -> Iterator[Finding]:
    """Judge the size of tables and indexes by what their rows need."""
    name, schema = "size", database.quoted_schema
    of_tables, of_indexes = link.execute(_TOTAL, (schema,)).fetchone()
    bloated = [
        row
        for row in link.execute(_SIZES, (database.schema, schema)).fetchall()
        if row[2] > LARGE_BYTES and row[3] >= 0 and row[2] > BLOATED * row[3]
    ]
    for relation, kind, size, needed in bloated[:MOST]:
        remedy = (
            f"REINDEX INDEX CONCURRENTLY {schema}.{relation}"
            if kind == "i"
            else f"VACUUM FULL {schema}.{relation}, with all workers stopped"
        )
        what = f"{relation} has {size // MIB:,} MiB; its rows need about {needed // MIB:,}"
        yield warn(name, what, f"If it does not fill again: {remedy}.")
    if not bloated:
        what = f"the tables have {of_tables / MIB:,.1f} MiB, their indexes {of_indexes / MIB:,.1f}"
        yield ok(name, what)


def check_rows(link: Link, database: Database) -> Finding:
    """Look at every message and record for values that durableq never writes."""
    name, faults = "rows", []
    for table, rules in _RULES.items():
        counts = ", ".join(f"count(*) FILTER (WHERE {broken})" for broken in rules.values())
        text = database.in_schema(f"SELECT {counts} FROM {table}")  # noqa: S608 - constants
        found = zip(rules, link.execute(text).fetchone(), strict=True)
        faults += [f"{number:,} in {table} with a wrong {rule}" for rule, number in found if number]
    if faults:
        return bad(name, "; ".join(faults), f"Find out what else writes there. {_RESTORE}")
    return ok(name, "every message and idempotency record has possible values")


def check_integrity(link: Link, database: Database) -> Finding:
    """Compare each index with its table, with the extension amcheck."""
    name = "integrity"
    function = link.execute(_AMCHECK).fetchone()
    if function is None:
        advice = "To compare them: CREATE EXTENSION amcheck, and GRANT EXECUTE on its functions."
        return ok(name, "the indexes were not compared: there is no extension amcheck", advice)
    indexes = [index for (index,) in link.execute(_BTREES, (database.quoted_schema,)).fetchall()]
    faults = []
    for index in indexes:
        try:
            link.execute(f"SELECT {function[0]}(to_regclass($1), true)", (index,)).fetchall()
        except driver.Error as error:
            faults.append(f"{index}: {first_line(error)}")
    if faults:
        more = f"; and {len(faults) - MOST} more" if len(faults) > MOST else ""
        again = f"REINDEX the named ones; if that fails: {_RESTORE}"
        return bad(name, f"amcheck: {'; '.join(faults[:MOST])}{more}", again)
    return ok(name, f"amcheck: {len(indexes)} indexes have every row of their tables")
