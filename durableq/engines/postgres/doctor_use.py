"""Doctor checks of what uses the database: long transactions, the write lock, the oldest xmin."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from durableq.model.health import Finding, ok, warn
from durableq.model.units import span

if TYPE_CHECKING:
    from durableq.engines.postgres.database import Database
    from durableq.engines.postgres.driver import Link

#: A transaction that is open so long is a warning.
LONG_SECONDS: Final = 60
#: Transactions since the oldest that vacuum must spare, from which on it is a warning.
OLD_XMIN: Final = 100_000
#: Findings of one kind.
MOST: Final = 3
#: Looks at the lock, while somebody holds it.
SAMPLES: Final = 6
SAMPLE_SECONDS: Final = 0.05

_TRANSACTIONS: Final = """\
SELECT pid::bigint, coalesce(nullif(application_name, ''), backend_type),
    coalesce(usename::text, ''), coalesce(client_addr::text, 'this host'), state,
    extract(epoch FROM clock_timestamp() - xact_start)::float8
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
    AND xact_start < clock_timestamp() - make_interval(secs => $1)
    AND backend_type = 'client backend'
ORDER BY xact_start"""
_HIDDEN: Final = """\
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND query = '<insufficient privilege>'"""
#: Each that keeps vacuum from removing rows: its age in transactions, its kind, its name.
_XMIN: Final = """\
SELECT age(backend_xmin)::bigint AS oldness,
    CASE backend_type WHEN 'walsender' THEN 'a standby with hot_standby_feedback'
        ELSE 'a transaction' END,
    'pid ' || pid || ' (' || coalesce(nullif(application_name, ''), backend_type) || ')',
    'SELECT pg_terminate_backend(' || pid || ')'
FROM pg_stat_activity WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid()
    AND (datname = current_database() OR datname IS NULL)
UNION ALL
SELECT greatest(age(xmin), age(catalog_xmin))::bigint, 'a replication slot', slot_name,
    'SELECT pg_drop_replication_slot(''' || slot_name || ''')'
FROM pg_replication_slots WHERE xmin IS NOT NULL
UNION ALL
SELECT age(transaction)::bigint, 'a prepared transaction', gid,
    'ROLLBACK PREPARED ''' || gid || ''''
FROM pg_prepared_xacts WHERE database = current_database()
ORDER BY oldness DESC LIMIT 1"""
_LOCK: Final = """\
SELECT l.pid::bigint, l.granted, coalesce(nullif(a.application_name, ''), a.backend_type, ''),
    coalesce(a.state, ''),
    coalesce(extract(epoch FROM clock_timestamp() - a.xact_start), 0)::float8
FROM pg_locks AS l LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.objsubid = 1
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND (l.classid::bigint << 32 | l.objid::bigint) = $1"""


def check_transactions(link: Link, _: Database) -> Iterator[Finding]:
    """Name transactions that are open for long."""
    name = "transactions"
    rows = link.execute(_TRANSACTIONS, (float(LONG_SECONDS),)).fetchall()
    for pid, program, user, address, state, seconds in rows[:MOST]:
        yield warn(
            name,
            f"pid {pid} ({program}, user {user}, from {address}) is {state} in a transaction for "
            f"{span(int(seconds * 1000))}",
            f"Vacuum removes no row that ended since. To end it: SELECT "
            f"pg_terminate_backend({pid}).",
        )
    (hidden,) = link.execute(_HIDDEN).fetchone()
    if hidden:
        advice = "To see them: GRANT pg_read_all_stats TO this user."
        yield ok(name, f"{hidden} connections of other users are not shown to this one", advice)
    elif not rows:
        yield ok(name, f"none is open for {span(LONG_SECONDS * 1000)}")


def check_oldest_xmin(link: Link, _: Database) -> Finding:
    """Say what keeps vacuum from removing rows, and for how many transactions."""
    name = "oldest_xmin"
    row = link.execute(_XMIN).fetchone()
    if row is None:
        return ok(name, "nothing holds vacuum back")
    oldness, kind, holder, remedy = row
    what = f"{kind}, {holder}, holds vacuum back for {oldness:,} transactions"
    if oldness < OLD_XMIN:
        return ok(name, what)
    advice = f"Each receive reads past the dead rows since then. Let it end, or: {remedy}."
    return warn(name, what, advice)


def check_write_lock(link: Link, database: Database) -> Finding:
    """Say who holds the lock of the schema's writes all the while."""
    name = "write_lock"
    held, waiting = _look(link, database)
    for _attempt in range(SAMPLES - 1):
        if not held:
            break
        time.sleep(SAMPLE_SECONDS)
        now, waiting = _look(link, database)
        held = {pid: now[pid] for pid in held if pid in now}
    for pid, (program, state, seconds) in held.items():
        what = (
            f"pid {pid} ({program}, {state}) held it all the while, in a transaction of "
            f"{span(int(seconds * 1000))}; {waiting} wait"
        )
        advice = (
            "A transaction of an application that has sent in it is too long; others wait for its "
            f"end. To undo it: SELECT pg_terminate_backend({pid})."
        )
        return warn(name, what, advice)
    return ok(name, "no process holds it for long")


def _look(link: Link, database: Database) -> tuple[dict[int, tuple[str, str, float]], int]:
    """Return the holders of the lock by pid, and the number of those that wait for it."""
    rows = link.execute(_LOCK, (database.key,)).fetchall()
    held = {
        pid: (program, state, seconds) for pid, granted, program, state, seconds in rows if granted
    }
    return held, len(rows) - len(held)
