"""Bugs to plant in the circuit breaker of a queue."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from durableq.engines.sql import breaker
from durableq.model.flow import breaker as machine
from durableq.model.flow import queue_breaker
from tests.sabotage.texts import rewrite


def count_the_receives_of_an_outage() -> None:
    """A receive that raised Unavailable counts."""
    module: Any = breaker
    judge = module.judge
    module.judge = lambda *arguments: judge(*arguments)._replace(is_uncounted=False)


def keep_the_places_of_probes() -> None:
    """A probe takes its place for as long as the breaker is half-open, also when it is killed."""
    module: Any = breaker
    probing = module._probing
    most: dict[int, int] = {}

    def keep(tx: Any, queue_id: int, state: Any, stored: Any) -> Any:
        found = probing(tx, queue_id, state, stored)
        if found is None or state.phase is not machine.Phase.HALF_OPEN:
            most.clear()
            return found
        taken = most[queue_id] = max(found.taken, most.get(queue_id, 0))
        return module.Probing(max(0, stored.breaker_probes - taken), taken)

    module._probing = keep


def let_one_poison_message_open_it() -> None:
    """A message's Unavailable opens the breaker, also where the others succeed."""
    module: Any = queue_breaker
    module._others_succeed = lambda *_: False


def probe_with_any_message() -> None:
    rewrite("READY_FRESH", "durableq_failure.unavailable > 0", "false")


def know_the_breaker_of_this_process_only() -> None:
    """Each process has a breaker of its own."""
    module: Any = breaker
    find = module.find
    own: dict[int, queue_breaker.QueueBreaker] = {}

    def find_own(tx: Any, queue_id: int) -> Any:
        found = find(tx, queue_id)
        state = own.get(queue_id, queue_breaker.NEW)
        numbers = (state.since_ms, state.until_ms, state.trips, state.died, state.judged)
        phase = module._PHASES.index(state.phase)
        return module.StoredBreaker(phase, *numbers, state.completed, state.reason, *found[8:])

    def save_own(_: Any, queue_id: int, __: Any, after: Any, ___: str = "") -> bool:
        own[queue_id] = replace(after)
        return True

    module.find, module.save = find_own, save_own


def count_each_failure() -> None:
    """A message that fails again and again counts each time."""
    module: Any = queue_breaker
    judge = module.judge
    breaker_of: Any = breaker
    breaker_of.judge = lambda state, _, *others: judge(state, None, *others)


BUGS = (
    count_the_receives_of_an_outage,
    keep_the_places_of_probes,
    let_one_poison_message_open_it,
    probe_with_any_message,
    know_the_breaker_of_this_process_only,
    count_each_failure,
)
_CONTRACT = "tests/contract/test_sqlite.py::TestSQLite::"
_PROCESS = "tests/process/test_breaker.py::"
SEEN_BY = (
    (
        "count_the_receives_of_an_outage",
        _CONTRACT + "test_unavailable_opens_it_at_once_and_costs_no_receive",
    ),
    (
        "keep_the_places_of_probes",
        _CONTRACT + "test_the_place_of_a_lost_probe_returns_with_its_lease",
    ),
    (
        "let_one_poison_message_open_it",
        _CONTRACT + "test_one_poison_message_does_not_stop_a_queue",
    ),
    (
        "probe_with_any_message",
        _CONTRACT + "test_probes_are_messages_that_have_not_raised_unavailable",
    ),
    (
        "know_the_breaker_of_this_process_only",
        _PROCESS + "test_a_breaker_that_one_process_opened_stops_the_others",
    ),
    ("count_each_failure", _CONTRACT + "test_one_poison_message_counts_once"),
)
