"""Bugs to plant where PostgreSQL differs from what one expects of it: decision 47 lists them."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any, Final

from durableq.engines.postgres import connecting, database, end_watch, tables, wakeup
from durableq.runtime.clock import SystemClock
from tests.sabotage.connection_bugs import ERRORS, change_texts
from tests.sabotage.presence_bugs import PRESENCE
from tests.sabotage.texts import change


def lock_and_look_in_one_statement() -> None:
    """The snapshot is older than the lock, which was waited for."""
    change("IF NOT pg_try_advisory_xact_lock_shared(@lock@) THEN", "IF false THEN")
    where = "WHERE q.name = p_queue AND q.paused = 0 AND "
    locked = "(SELECT pg_advisory_xact_lock_shared(@lock@)::text) IS NOT NULL"
    change(where, where.replace("WHERE", f"WHERE {locked} AND"))


def look_with_the_snapshot_of_the_lock() -> None:
    change_texts(**{"ISOLATION LEVEL READ COMMITTED": "ISOLATION LEVEL REPEATABLE READ"})


def take_the_time_before_the_wait() -> None:
    """`now()` is the beginning of the transaction."""
    change("clock_timestamp()", "now()")
    change_texts(**{"clock_timestamp()": "now()"})


def lease_by_the_clients_clock() -> None:
    cls: Any = database.Database
    moment = cls.moment
    cls.moment = lambda self, now_ms: moment(self, now_ms)._replace(
        lease_ms=SystemClock.wall_ms(self.server)
    )


def wait_for_notifications_alone() -> None:
    cls: Any = wakeup.NotifyWatch
    wait = cls._wait

    def wait_without_looks(self: Any, *given: Any) -> bool:
        self._look_seconds = inf
        return bool(wait(self, *given))

    cls._wait = wait_without_looks


def leave_room_in_pages() -> None:
    module: Any = tables
    module.CREATE = tuple(
        text.replace("SET (autovacuum", "SET (fillfactor = 70, autovacuum")
        for text in tables.CREATE
    )


def take_the_end_of_a_wait_for_that_of_a_worker() -> None:
    module: Any = end_watch
    module._WAIT = end_watch._WAIT.replace("THEN NULL;", "THEN SET durableq.ended = 'yes';")


def let_statements_run_on_without_their_client() -> None:
    module: Any = connecting
    module._CHECK_CLIENT = "SELECT 1"


def leave_vanished_hosts_to_the_servers_patience() -> None:
    module: Any = connecting
    module._OPTIONS = {
        name: value
        for name, value in connecting._OPTIONS.items()
        if not name.startswith(("keepalives", "tcp_user_timeout"))
    }


TRAPS: Final = "tests/engine/test_postgres_traps.py::"
_SNAPSHOT: Final = TRAPS + "test_a_receive_behind_the_lock_sees_the_changes_of_its_holder"
_LEASE: Final = TRAPS + "test_a_lease_counts_from_the_end_of_the_wait_on_the_servers_clock"
BUGS: Final[tuple[Callable[[], None], ...]] = (
    lock_and_look_in_one_statement,
    look_with_the_snapshot_of_the_lock,
    take_the_time_before_the_wait,
    lease_by_the_clients_clock,
    wait_for_notifications_alone,
    leave_room_in_pages,
    take_the_end_of_a_wait_for_that_of_a_worker,
    let_statements_run_on_without_their_client,
    leave_vanished_hosts_to_the_servers_patience,
)
SEEN_BY: Final = [
    ("lock_and_look_in_one_statement", _SNAPSHOT + "[hot]"),
    ("look_with_the_snapshot_of_the_lock", _SNAPSHOT + "[shared]"),
    ("take_the_time_before_the_wait", _LEASE + "[hot]"),
    ("take_the_time_before_the_wait", _LEASE + "[shared]"),
    ("lease_by_the_clients_clock", _LEASE + "[shared]"),
    (
        "wait_for_notifications_alone",
        TRAPS + "test_a_wait_looks_from_time_to_time_though_nothing_notifies",
    ),
    (
        "leave_room_in_pages",
        TRAPS + "test_pages_have_no_spare_room_and_dead_rows_are_removed_soon",
    ),
    (
        "take_the_end_of_a_wait_for_that_of_a_worker",
        TRAPS + "test_a_wait_for_a_worker_lasts_until_its_end",
    ),
    (
        "let_statements_run_on_without_their_client",
        ERRORS
        + "test_the_settings_of_connections[-client_connection_check_interval-200ms-postgres]",
    ),
    (
        "leave_vanished_hosts_to_the_servers_patience",
        PRESENCE + "test_a_vanished_host_is_noticed_within_half_a_minute",
    ),
]
