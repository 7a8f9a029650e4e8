"""Bugs to plant in the limits of receives."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest.mock import ANY

from durableq.engines.memory import flow as memory_flow
from durableq.engines.sql import dead_letters, flow, queries, redrive_steps, settling
from durableq.engines.sqlite.session import Session, roll_back
from durableq.model.flow import capacity, prepaid
from durableq.worker import options
from tests.sabotage.texts import rewrite

MS = 1_000_000


def charge_a_token_after_the_commit() -> None:
    """A token is paid for in the next transaction of the process, which a kill prevents."""
    module: Any = flow
    charge = module.charge
    owed: list[Any] = []

    def later(tx: Any, *of_receive: Any) -> None:
        for earlier in owed:
            charge(tx, *earlier)
        owed[:] = [of_receive]

    module.charge = later


def give_a_token_back_with_a_release() -> None:
    rewrite(
        "IN_FLIGHT",
        "in_flight=(durableq_counters.in_flight + :number)",
        "in_flight=(durableq_counters.in_flight + :number), tat_ns = 0",
    )


def limit_each_process() -> None:
    """Each process has a bucket of its own."""
    module: Any = flow
    charged = module.charged
    own = {"tat_ns": 0}

    def own_allowance(state: Any, *of_receive: Any) -> Any:
        return capacity.allowance(state._replace(**own), *of_receive)

    def own_charged(state: Any, *of_receive: Any) -> Any:
        paid = charged(state._replace(**own), *of_receive)
        own["tat_ns"] = paid.tat_ns
        return paid

    module.allowance, module.charged = own_allowance, own_charged


def read_all_limits_with_the_queue() -> None:
    """Limits that are switched on between two receives of a process hold in others only."""
    module: Any = flow
    module._READ_APART = 0


def charge_all_that_was_asked_for() -> None:
    """Messages that are deferred or skipped on the way are paid for."""
    for module in (flow, memory_flow):
        target: Any = module
        target.charged = lambda state, first, retried, now_ms: capacity.charged(
            state, max(first + retried, 2), 0, now_ms
        )
    ahead: Any = prepaid.Prepaid
    pay = ahead.pay
    ahead.pay = lambda self, of, number, *of_rate: pay(self, of, max(number, 2), *of_rate)


def keep_the_debt_of_a_slow_rate() -> None:
    module: Any = flow
    module.with_limited_debt = lambda state, _: capacity.Paid(*state[5:8])


def forget_the_end_of_a_lease_that_is_put_back() -> None:
    """A failure, a release and a reclaim leave the place taken."""
    module: Any = settling
    module.count_leases = lambda *_: None


def forget_the_end_of_a_lease_that_is_completed() -> None:
    rewrite("COMPLETED_IN_FLIGHT", "in_flight - :number", "in_flight - 0 * :number")


def forget_the_end_of_a_lease_by_a_decision() -> None:
    module: Any = dead_letters
    module.count_leases = lambda *_: None


def forget_the_leases_of_a_redrive() -> None:
    module: Any = redrive_steps
    module.count_leases = lambda *_: None


def switch_the_limit_on_without_a_count() -> None:
    module: Any = flow
    module.count_again = lambda *_: None


def let_retries_through_without_credit() -> None:
    module: Any = capacity
    module.retries.allowed = lambda *_: 100


def charge_no_retry() -> None:
    """A retry costs nothing, so credit is never used up."""
    module: Any = capacity
    credit_after = module.retries.credit_after
    module.retries.credit_after = lambda credit, share, first, _: credit_after(
        credit, share, first, 0
    )


def wait_for_nothing_while_a_limit_holds() -> None:
    """A worker that a limit holds back looks again at once."""
    module: Any = queries
    module.flow.waits_ms = lambda *_, is_ready, **__: [0] if is_ready else []


def pay_ahead_from_now() -> None:
    """Tokens that are paid for ahead count from the payment, though they are taken later."""
    module: Any = prepaid
    charge = module.rate.charge

    def from_now(tat_ns: int, until_ms: int, *of_tokens: int) -> int:
        return int(charge(tat_ns, until_ms - prepaid.MOST_MS, *of_tokens))

    module.rate = SimpleNamespace(charge=from_now)


def keep_what_an_undone_receive_has_paid_for() -> None:
    session: Any = Session
    session.roll_back = lambda self: roll_back(self.raw)


def take_tokens_of_an_old_rate() -> None:
    """Tokens that were paid for ahead are taken though another process has changed the rate."""
    ahead: Any = prepaid.Prepaid
    ahead.of = property(lambda _: ANY, lambda *_: None)


def read_few_places_and_nothing_else() -> None:
    """A process that knows a queue for its few places in flight sees no later limit."""
    module: Any = flow
    grant = module.grant

    def by_places(tx: Any, queue: Any, asked: int, found: Any) -> Any:
        return (
            (min(asked, *found), None, None, None)
            if len(found) == 1
            else grant(tx, queue, asked, found)
        )

    module.grant = by_places


def start_a_handler_that_needs_more_than_the_limit() -> None:
    module: Any = options
    module.check_in_flight = lambda *_: None


BUGS = (
    charge_a_token_after_the_commit,
    give_a_token_back_with_a_release,
    limit_each_process,
    read_all_limits_with_the_queue,
    charge_all_that_was_asked_for,
    keep_the_debt_of_a_slow_rate,
    forget_the_end_of_a_lease_that_is_put_back,
    forget_the_end_of_a_lease_that_is_completed,
    forget_the_end_of_a_lease_by_a_decision,
    forget_the_leases_of_a_redrive,
    switch_the_limit_on_without_a_count,
    let_retries_through_without_credit,
    charge_no_retry,
    wait_for_nothing_while_a_limit_holds,
    pay_ahead_from_now,
    keep_what_an_undone_receive_has_paid_for,
    take_tokens_of_an_old_rate,
    read_few_places_and_nothing_else,
    start_a_handler_that_needs_more_than_the_limit,
)
_SQLITE = "tests/contract/test_sqlite.py::TestSQLite::"
_COUNTERS = "tests/contract/test_sqlite_counters.py::TestSQLiteWithCounters::"
_PROCESS = "tests/process/test_limits.py::"
_WORKERS = "tests/engine/test_limited_workers.py::"
_HOLDERS = (
    "tests/process/test_killed_holders.py::"
    "test_of_many_killed_holders_none_keeps_a_place_or_frees_it_twice[100]"
)
_RECEIVES = "tests/engine/test_limited_receives.py::"
_KILLED = _PROCESS + "test_killed_before_any_statement_a_call_pays_for_its_leases_or_for_none"
SEEN_BY = (
    ("forget_the_end_of_a_lease_that_is_put_back", _HOLDERS),
    (
        "charge_no_retry",
        "tests/process/test_killed_holders.py::"
        "test_the_last_credit_of_retries_of_a_killed_process_is_spent",
    ),
    ("charge_a_token_after_the_commit", _KILLED + "[receive]"),
    ("give_a_token_back_with_a_release", _SQLITE + "test_a_token_is_not_given_back_with_a_place"),
    (
        "limit_each_process",
        _PROCESS
        + "test_no_window_of_eight_processes_is_above_the_rate_though_one_is_killed[100-10]",
    ),
    ("charge_all_that_was_asked_for", _SQLITE + "test_only_leased_messages_are_paid_for"),
    (
        "keep_the_debt_of_a_slow_rate",
        _SQLITE + "test_a_fast_rate_does_not_wait_for_the_debt_of_a_slow_one",
    ),
    (
        "forget_the_end_of_a_lease_that_is_put_back",
        _PROCESS + "test_killed_processes_leave_no_place_taken_and_free_none_twice[3-100]",
    ),
    (
        "forget_the_end_of_a_lease_that_is_put_back",
        _COUNTERS + "test_each_end_of_a_lease_makes_room",
    ),
    (
        "forget_the_end_of_a_lease_that_is_completed",
        _COUNTERS + "test_each_end_of_a_lease_makes_room",
    ),
    (
        "forget_the_end_of_a_lease_by_a_decision",
        _COUNTERS + "test_decisions_and_leases_by_id_count",
    ),
    ("forget_the_leases_of_a_redrive", _COUNTERS + "test_a_redrive_leaves_no_place_taken"),
    (
        "switch_the_limit_on_without_a_count",
        _COUNTERS + "test_leases_are_counted_when_the_limit_is_switched_on",
    ),
    (
        "let_retries_through_without_credit",
        _SQLITE + "test_retries_are_a_share_of_the_deliveries",
    ),
    (
        "wait_for_nothing_while_a_limit_holds",
        _WORKERS + "test_a_worker_sleeps_until_the_next_token",
    ),
    (
        "pay_ahead_from_now",
        "tests/unit/test_prepaid.py::test_tokens_that_are_taken_late_count_as_taken_then[10-5000]",
    ),
    (
        "keep_what_an_undone_receive_has_paid_for",
        _RECEIVES + "test_a_receive_that_is_undone_has_paid_for_nothing",
    ),
    (
        "take_tokens_of_an_old_rate",
        _RECEIVES + "test_a_changed_rate_holds_though_tokens_are_paid_for",
    ),
    (
        "read_few_places_and_nothing_else",
        _RECEIVES + "test_a_rate_that_is_switched_on_holds_at_the_next_receive",
    ),
    (
        "read_all_limits_with_the_queue",
        _RECEIVES + "test_a_breaker_that_is_switched_on_holds_at_the_next_receive[rate]",
    ),
    (
        "start_a_handler_that_needs_more_than_the_limit",
        _WORKERS + "test_a_handler_that_takes_more_than_may_be_in_flight_is_refused[wanted0]",
    ),
)
