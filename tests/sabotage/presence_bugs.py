"""Bugs to plant where processes see on PostgreSQL that others live."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from durableq.engines.postgres import connecting, database, fleet, forking, location, presence
from durableq.engines.sql.fleet import SQLFleet
from durableq.model import text
from durableq.supervisor import peers

Presence: Any = presence.Presence


def hold_no_locks() -> None:
    Presence._take = lambda *_: None


def take_the_lock_behind_the_row() -> None:
    register, take = Presence.register, Presence._take

    def register_first(self: Any, worker: Any) -> Any:
        keys: list[Any] = []
        self._take = keys.append
        try:
            entered = register(self, worker)
        finally:
            del self._take
        with self._turn:
            for key in keys:
                take(self, key)
        return entered

    Presence.register = register_first


def take_no_lock_again() -> None:
    """A connection that was lost is replaced without its locks."""
    lose = Presence._lose

    def forget(self: Any) -> None:
        lose(self)
        self._wanted.clear()

    Presence._lose = forget


def tell_nobody_of_a_loss() -> None:
    Presence._tell = lambda _: None


def leave_the_living_out() -> None:
    """A worker that was taken for dead stays unlisted."""
    Presence.enter_again = lambda *_: False


def trust_free_locks_after_a_loss() -> None:
    Presence.lasts = lambda self, _: self._connection is not None


def trust_free_locks_after_a_restart() -> None:
    module: Any = fleet
    module._ENDED = module._ENDED.replace("> make_interval", ">= 0 * make_interval")


def take_a_lost_connection_for_a_death() -> None:
    module: Any = peers
    module.ENDED_SECONDS = 0.0


def leave_late_leases() -> None:
    """Messages that a server leases to a dead worker stay leased."""
    cls: Any = peers.DeadWorkers
    cls._release_late = lambda *_: None


def take_late_leases_of_the_living() -> None:
    """A worker that was taken for dead, and is back, loses its messages again."""
    cls: Any = peers.DeadWorkers
    release = cls._release_late
    cls._release_late = lambda self, store, _registered: release(self, store, ())


def let_vanished_clients_stay() -> None:
    """The server waits for them as long as its system does."""
    module: Any = connecting
    module._OF_SERVER = {}


def take_workers_from_their_supervisors() -> None:
    module: Any = peers
    decide = module._delay

    def delay(worker: Any, answered: bool | None) -> float | None:
        return decide(worker, None if answered is None else False)  # type: ignore[no-any-return]

    module._delay = delay


def beat_in_the_line_of_writes() -> None:
    """Register, beat and leave as all other writes, which give up soon here."""
    cls: Any = fleet.PostgresFleet
    for name in ("register", "beat", "unregister"):
        setattr(cls, name, getattr(SQLFleet, name))
    found: Any = location.Location
    parse = found.parse.__func__
    found.parse = classmethod(lambda of, url: replace(parse(of, url), busy_timeout_ms=300))


def rely_on_every_session() -> None:
    module: Any = database
    module.keeps_session = lambda _: True


def keep_the_connections_of_the_parent() -> None:
    module: Any = forking
    module.detach = lambda _: None


def show_passwords() -> None:
    module: Any = text
    module._PASSWORD = re.compile("(?!)")


PRESENCE = "tests/engine/test_postgres_presence.py::"
POOLER = "tests/engine/test_postgres_pooler.py::"
PEERS = "tests/unit/test_peers.py::"
BUGS = (
    *(hold_no_locks, take_the_lock_behind_the_row, take_no_lock_again, tell_nobody_of_a_loss),
    *(leave_the_living_out, trust_free_locks_after_a_loss, trust_free_locks_after_a_restart),
    *(take_a_lost_connection_for_a_death, take_workers_from_their_supervisors),
    *(beat_in_the_line_of_writes, rely_on_every_session, keep_the_connections_of_the_parent),
    *(leave_late_leases, take_late_leases_of_the_living, let_vanished_clients_stay),
    show_passwords,
)
SEEN_BY = (
    (
        "leave_late_leases",
        PEERS + "test_a_message_leased_to_a_worker_after_its_death_is_released",
    ),
    (
        "take_late_leases_of_the_living",
        PEERS + "test_a_worker_that_is_registered_again_keeps_its_messages",
    ),
    (
        "let_vanished_clients_stay",
        "tests/process/test_postgres_vanished.py::"
        "test_the_server_gives_up_a_vanished_client_as_soon_as_the_client_would",
    ),
    (
        "hold_no_locks",
        PRESENCE + "test_a_registered_worker_is_seen_to_live_until_its_process_closes",
    ),
    ("take_the_lock_behind_the_row", PRESENCE + "test_a_worker_is_never_listed_without_its_lock"),
    ("take_no_lock_again", PRESENCE + "test_a_lost_connection_is_replaced_with_its_locks"),
    (
        "tell_nobody_of_a_loss",
        PRESENCE + "test_a_lost_connection_counts_as_a_write_and_the_next_one_listens",
    ),
    (
        "leave_the_living_out",
        PRESENCE + "test_a_worker_that_was_taken_for_dead_is_entered_again_by_its_beat",
    ),
    (
        "trust_free_locks_after_a_loss",
        PRESENCE + "test_free_locks_mean_nothing_after_the_loss_of_the_own_connection",
    ),
    (
        "trust_free_locks_after_a_restart",
        PRESENCE + "test_free_locks_mean_nothing_after_a_restart_of_the_server",
    ),
    (
        "take_a_lost_connection_for_a_death",
        PEERS + "test_an_unseen_worker_that_only_lost_its_connection_is_not_taken_for_dead",
    ),
    (
        "take_workers_from_their_supervisors",
        PEERS + "test_an_unseen_worker_is_never_taken_from_a_supervisor_that_answers",
    ),
    (
        "beat_in_the_line_of_writes",
        PRESENCE + "test_beats_and_registrations_do_not_wait_for_the_write_lock",
    ),
    (
        "rely_on_every_session",
        POOLER + "test_sessions_are_relied_on_only_where_they_are_kept[introduces itself]",
    ),
    (
        "keep_the_connections_of_the_parent",
        PRESENCE + "test_the_lock_is_freed_though_a_forked_child_lives_on",
    ),
    (
        "show_passwords",
        "tests/unit/test_address.py::test_an_application_shows_no_password",
    ),
)
