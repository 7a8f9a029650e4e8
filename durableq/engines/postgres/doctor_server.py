"""Doctor checks of the server: version, settings, connections, standbys, clock."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from durableq.model.health import Finding, bad, ok, warn
from durableq.model.units import span

if TYPE_CHECKING:
    from durableq.engines.postgres.database import Database
    from durableq.engines.postgres.driver import Link

MIB: Final = 1 << 20
#: Part of the connections in use that is a warning.
CROWDED: Final = 0.8
#: Transaction ids of a database, of two billion, that are a warning.
OLD_IDS: Final = 1_000_000_000
#: A standby, or a slot, that is so far behind is a warning.
BEHIND_SECONDS: Final = 60
BEHIND_BYTES: Final = 1 << 30
#: A server's clock that differs so much is a warning.
CLOCK_OFF_MS: Final = 2_000

_SERVER: Final = """\
SELECT current_setting('server_version'), current_database()::text, current_user::text,
    pg_is_in_recovery(), age(datfrozenxid)::bigint
FROM pg_database WHERE datname = current_database()"""
_SETTINGS: Final = """\
SELECT name, setting, coalesce(unit, '') FROM pg_settings WHERE name IN (
    'synchronous_commit', 'fsync', 'full_page_writes', 'autovacuum', 'track_counts',
    'client_connection_check_interval', 'default_transaction_isolation', 'statement_timeout',
    'idle_in_transaction_session_timeout', 'transaction_timeout',
    'lock_timeout', 'synchronous_standby_names', 'default_transaction_deferrable')"""
#: These are of the role or the database; ours has set some for this session.
_RESET: Final = "SELECT reset_val FROM pg_settings WHERE name = 'statement_timeout'"
_CONNECTIONS: Final = """\
SELECT current_setting('max_connections')::bigint
        - current_setting('superuser_reserved_connections')::bigint,
    (SELECT count(*) FROM pg_stat_activity
        WHERE datid IS NOT NULL AND coalesce(backend_type, 'client backend') = 'client backend'),
    (SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'durableq%'),
    (SELECT datconnlimit::bigint FROM pg_database WHERE datname = current_database()),
    (SELECT CASE WHEN rolsuper THEN -1 ELSE rolconnlimit END::bigint
        FROM pg_roles WHERE rolname = current_user),
    (SELECT count(*) FROM pg_stat_activity WHERE usename = current_user)"""
_STANDBYS: Final = """\
SELECT coalesce(nullif(application_name, ''), client_addr::text, 'a standby'), sync_state,
    coalesce(extract(epoch FROM replay_lag), 0)::float8,
    coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn), 0)::bigint
FROM pg_stat_replication ORDER BY 1"""
_SLOTS: Final = """\
SELECT slot_name::text, pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint
FROM pg_replication_slots WHERE NOT active AND restart_lsn IS NOT NULL ORDER BY 2 DESC LIMIT 1"""
_BEHIND: Final = """\
SELECT extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float8"""
_CLOCK: Final = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint"
_FOREVER: Final = "A power loss, or a crash of the machine, may destroy the database: set it on."


def settings_of(link: Link) -> dict[str, str]:
    """Return settings by name, those of a time in milliseconds."""
    rows = link.execute(_SETTINGS).fetchall()
    return {name: f"{int(value) * 1000}" if unit == "s" else value for name, value, unit in rows}


def check_server(link: Link, database: Database) -> Iterator[Finding]:
    """Judge the version, the kind of the server, and its reserve of transaction ids."""
    version, name, user, is_standby, used = link.execute(_SERVER).fetchone()
    what = f"PostgreSQL {version}, database {name}, schema {database.schema}, user {user}"
    if is_standby:
        (behind,) = link.execute(_BEHIND).fetchone()
        lag = "" if behind is None else f", {span(int(behind * 1000))} behind"
        advice = "Nothing can be sent or received here. Name the primary server."
        yield bad("server", f"{what}: a standby, which is read-only{lag}", advice)
    else:
        yield ok("server", what)
    if used > OLD_IDS:
        yield warn(
            "transaction_ids",
            f"{used:,} of 2,147,483,648 are in use since the last freeze",
            "Find what holds vacuum back (oldest_xmin); then VACUUM FREEZE. The server stops "
            "writing at the end.",
        )


def check_durability(link: Link, _: Database) -> Iterator[Finding]:
    """Judge the settings that a commit needs to survive a crash."""
    name, settings = "durability", settings_of(link)
    unsafe = [each for each in ("fsync", "full_page_writes") if settings[each] == "off"]
    if unsafe:
        yield bad(name, f"{' and '.join(unsafe)} is off", _FOREVER)
        return
    standbys, commit = settings["synchronous_standby_names"], settings["synchronous_commit"]
    told = f"synchronous_commit is {commit}: a commit survives power loss"
    if not standbys or commit == "local":
        yield ok(name, told)
        return
    states = [row[1] for row in link.execute(_STANDBYS).fetchall()]
    if {"sync", "quorum"} & {*states}:
        yield ok(name, f"{told}, and the loss of this server")
        return
    advice = "Start one, or empty synchronous_standby_names: until then each write waits for ever."
    yield bad(name, f"no standby of synchronous_standby_names ({standbys}) is there", advice)


def check_settings(link: Link, database: Database) -> Iterator[Finding]:
    """Judge the other settings that concern us."""
    name, settings = "settings", settings_of(link)
    before = list(_warnings(settings, database))
    (statement_ms,) = link.execute(_RESET).fetchone()
    if 0 < int(statement_ms) < 60_000:
        before.append(
            (
                f"statement_timeout is {span(int(statement_ms))}",
                "A write may wait 30 s for the others. Reset it: ALTER ROLE … SET "
                "statement_timeout = 0.",
            )
        )
    for what, advice in before:
        yield warn(name, what, advice)
    if not before:
        yield ok(name, "none is in the way")


def _warnings(settings: dict[str, str], database: Database) -> Iterator[tuple[str, str]]:
    if settings["autovacuum"] == "off" or settings["track_counts"] == "off":
        yield (
            "autovacuum does not run (autovacuum or track_counts is off)",
            "Set both on: a queue leaves a dead row with each step of a message.",
        )
    if settings["client_connection_check_interval"] == "0" and database.keeps_sessions:
        yield (
            "client_connection_check_interval cannot be set on this server",
            "Nothing: the death of a worker inside a statement is noticed when that ends.",
        )
    for each in ("idle_in_transaction_session_timeout", "transaction_timeout"):
        limit_ms = int(settings.get(each, 0))
        if 0 < limit_ms < 60_000:
            yield (
                f"{each} is {span(limit_ms)}",
                "A message.transaction() of user code that takes longer is undone.",
            )


def check_connections(link: Link, _: Database) -> Finding:
    """Judge the number of connections."""
    name = "connections"
    most, used, ours, of_database, of_role, mine = link.execute(_CONNECTIONS).fetchone()
    what = f"{used} of {most} are in use, {ours} of them durableq's"
    advice = "Raise max_connections, use fewer workers or threads, or a pooler in session mode."
    if used >= CROWDED * most:
        return warn(name, what, advice)
    if of_role >= 0 and mine >= CROWDED * of_role:
        return warn(name, f"{mine} of the {of_role} that this user may have are in use", advice)
    if of_database >= 0 and used >= CROWDED * of_database:
        return warn(name, f"{used} of the {of_database} of this database are in use", advice)
    return ok(name, what)


def check_sessions(_: Link, database: Database) -> Finding:
    """Say whether a connection is a session of the server, or a pooler's."""
    name = "sessions"
    if database.keeps_sessions:
        return ok(name, "each connection is a session of its own: a worker's end is seen by it")
    return warn(
        name,
        "through a pooler, so no locks and notifications are relied on: workers look each second, "
        "and the messages of a worker that died on another host wait for the end of their leases",
        "Let workers and recovery connect to the server itself, and producers to the pooler.",
    )


def check_replication(link: Link, _: Database) -> Iterator[Finding]:
    """Judge how far standbys are behind, and slots that nobody reads."""
    name = "replication"
    (is_standby,) = link.execute("SELECT pg_is_in_recovery()").fetchone()
    if is_standby:
        return  # the finding of the server has its lag
    standbys = link.execute(_STANDBYS).fetchall()
    late = [row for row in standbys if row[2] > BEHIND_SECONDS or row[3] > BEHIND_BYTES]
    for standby, _state, seconds, size in late:
        what = f"{standby} is {span(int(seconds * 1000))} and {size // MIB:,} MiB behind"
        yield warn(name, what, "After a failover to it, what it has not received is gone.")
    slot: Any = link.execute(_SLOTS).fetchone()
    if slot is not None and slot[1] > BEHIND_BYTES:
        what = f"nobody reads the slot {slot[0]}, which keeps {slot[1] // MIB:,} MiB of log"
        yield warn(name, what, f"The disk fills: SELECT pg_drop_replication_slot('{slot[0]}').")
    elif not late:
        names = ", ".join(f"{row[0]} ({row[1]})" for row in standbys)
        yield ok(name, f"standbys: {names}" if names else "no standby is connected")


def check_clock(link: Link, _: Database) -> Finding:
    """Compare the server's clock with this machine's; the shortest of three trips counts."""
    trips = []
    for _attempt in range(3):
        began, before_ms = time.monotonic(), time.time() * 1000
        (server_ms,) = link.execute(_CLOCK).fetchone()
        trip_ms = (time.monotonic() - began) * 1000
        trips.append((trip_ms, server_ms - before_ms - trip_ms / 2))
    trip_ms, ahead_ms = min(trips)
    name, order = "server_clock", "ahead of" if ahead_ms > 0 else "behind"
    what = f"{span(abs(int(ahead_ms)))} {order} this machine's (a trip takes {trip_ms:.1f} ms)"
    if abs(ahead_ms) - trip_ms < CLOCK_OFF_MS:
        return ok(name, what)
    advice = (
        "Check both (timedatectl). Leases and delays count on the server's clock alone; times that "
        "are shown here are off by as much."
    )
    return warn(name, what, advice)
