"""Bugs to plant in the values of `once`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from durableq.client import computing
from durableq.engines.sql import once
from durableq.model import once as once_rules
from durableq.model.once import OnceEntry, OnceStep
from durableq.supervisor.liveness import Liveness
from tests.sabotage.texts import rewrite


def lease_by_the_first_look() -> None:
    """A caller takes the lease without a second look, under the write lock."""
    module: Any = once
    decide = module.answer_once

    def lease(tx: Any, key: str, request: Any) -> Any:
        module.answer_once = lambda *of: decide(*of)._replace(step=OnceStep.COMPUTE)
        try:
            return take(tx, key, request)
        finally:
            module.answer_once = decide

    take = module._lease
    module._lease = lease


_TOKEN = "durableq_once.owner_token = :token"


def store_under_any_token() -> None:
    rewrite("ONCE_STORE", _TOKEN, f"({_TOKEN} OR true)")


def give_back_under_any_token() -> None:
    for name in ("ONCE_DROP", "ONCE_FAIL"):
        rewrite(name, _TOKEN, f"({_TOKEN} OR true)")


def take_any_lease_for_the_dead_one() -> None:
    """A lease counts as ended if any other one was found dead."""
    module: Any = once
    decide = module.answer_once

    def believe(request: Any, entry: OnceEntry | None, now_ms: int) -> Any:
        if request.dead and entry is not None:
            request = replace(request, dead=entry.token)
        return decide(request, entry, now_ms)

    module.answer_once = believe


def take_no_lease_of_the_dead() -> None:
    module: Any = computing
    module.liveness = lambda _owner: Liveness.ALIVE


def extend_by_nothing() -> None:
    rewrite(
        "ONCE_EXTEND", "owner_until_ms=:until_ms", "owner_until_ms=owner_until_ms + 0 * :until_ms"
    )


def keep_the_lease_of_a_failure() -> None:
    cls: Any = computing.Computing
    end = cls.end

    def end_as_if_stored(self: Any) -> None:
        self._is_stored = True
        end(self)

    cls.end = end_as_if_stored


def serve_for_ever() -> None:
    cls: Any = OnceEntry
    cls.has_value = lambda self, _now_ms: self.value is not None


def refresh_when_a_value_expires() -> None:
    """No caller refreshes a value early, so all of them meet an expired one."""
    module: Any = once_rules
    module.is_due = lambda _request, entry, now_ms: now_ms >= entry.expires_at_ms


def prune_leased_keys() -> None:
    until = "durableq_once.owner_until_ms <= :lease_now"
    rewrite("PRUNE_ONCE", until, f"({until} OR true)")


def leave_leases_in_copies() -> None:
    rewrite("END_ONCE_LEASES", "owner_token IS NOT NULL", "owner_token IS NULL")


BUGS = (
    lease_by_the_first_look,
    store_under_any_token,
    give_back_under_any_token,
    take_any_lease_for_the_dead_one,
    take_no_lease_of_the_dead,
    extend_by_nothing,
    keep_the_lease_of_a_failure,
    serve_for_ever,
    refresh_when_a_value_expires,
    prune_leased_keys,
    leave_leases_in_copies,
)
_CONTRACT = "tests/contract/test_sqlite.py::TestSQLite::"
SEEN_BY = [
    (
        "lease_by_the_first_look",
        "tests/engine/test_once.py::test_of_two_callers_that_find_no_lease_one_is_given_it",
    ),
    (
        "store_under_any_token",
        _CONTRACT + "test_a_lease_that_was_given_to_another_stores_nothing",
    ),
    (
        "give_back_under_any_token",
        _CONTRACT + "test_a_lease_that_was_given_to_another_stores_nothing",
    ),
    (
        "take_any_lease_for_the_dead_one",
        _CONTRACT + "test_the_lease_of_a_dead_process_is_taken_over_once",
    ),
    (
        "take_no_lease_of_the_dead",
        "tests/process/test_once.py::test_the_lease_of_a_process_that_has_ended_is_taken_over",
    ),
    ("extend_by_nothing", _CONTRACT + "test_an_extended_lease_goes_on"),
    (
        "keep_the_lease_of_a_failure",
        "tests/unit/test_once.py::test_a_computation_that_raises_gives_its_lease_back",
    ),
    (
        "serve_for_ever",
        _CONTRACT + "test_a_stale_value_is_served_while_another_caller_computes",
    ),
    (
        "leave_leases_in_copies",
        "tests/engine/test_restore.py::test_a_copy_knows_no_computation[restored]",
    ),
    (
        "refresh_when_a_value_expires",
        _CONTRACT + "test_a_value_is_refreshed_early_by_one_caller",
    ),
    ("prune_leased_keys", _CONTRACT + "test_expired_values_are_pruned_in_slices"),
]
