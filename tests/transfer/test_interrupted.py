"""A transfer that is interrupted at any step goes on, or is undone."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from durableq.admin import transfer as moving
from durableq.admin.transfer import abort, transfer
from durableq.engines import open_store
from durableq.engines.sql.moving import SQLEnd
from durableq.engines.sql.schema import REVISIONS
from durableq.model.errors import Conflict, DatabaseMoved, DatabaseUnusable, DurableQError
from durableq.model.message import Receipt
from durableq.testing import FakeClock
from durableq.testing.contract.case import send
from tests.transfer.places import KINDS, Places, all_there_is, fill, opened, revision, rows, sql

#: The steps that write, in their order: the name, and which of the calls.
STEPS = (
    *(("begin_filling", 0), ("pause", 0), ("put", 0), ("put", 1), ("put", 8), ("put", 14)),
    *(("raise_ids", 0), ("mark_moved", 0), ("end_filling", 0)),
)
Step = tuple[str, int]
#: Transfers between two kinds of stores have all of the code.
both_ways = pytest.mark.parametrize("places", KINDS[:2], indirect=True)
at_each_step = pytest.mark.parametrize(
    "step", STEPS, ids=[f"{name}-{number}" for name, number in STEPS]
)
before_or_after = pytest.mark.parametrize("after", [False, True], ids=["before", "after"])


class Stopped(BaseException):
    """The end of a process, as far as one process can play it."""


def stop(patch: pytest.MonkeyPatch, step: Step, *, after: bool) -> None:
    """End each transfer before or after one of the calls that write.

    Args:
        patch: replaces the calls.
        step: the name of the call, and which of them.
        after: whether it is made.
    """
    name, number = step
    write: Callable[..., Any] = getattr(SQLEnd, name)
    calls = count()

    def call(*arguments: Any) -> Any:
        is_it = next(calls) == number
        if is_it and not after:
            raise Stopped
        answer = write(*arguments)
        if is_it:
            raise Stopped
        return answer

    patch.setattr(SQLEnd, name, call)


def interrupted(places: Places, clock: FakeClock, step: Step, *, after: bool) -> list[Any]:
    """Fill a store and interrupt its transfer; return its state without leases."""
    with opened(places.source, clock=clock) as store:
        fill(store)
        store.release(leases(places.source))
        state = all_there_is(store)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(moving, "FIRST_ROWS", 4)
        patch.setattr(moving, "MOST_ROWS", 4)
        stop(patch, step, after=after)
        with pytest.raises(Stopped):
            transfer(*places, clocks=(clock, clock))
    return state


def leases(url: str) -> list[Receipt]:
    """Return the receipts of all leases."""
    found = sql(
        url,
        "SELECT q.name, m.id, m.receipt FROM durableq_message AS m "
        "JOIN durableq_queue AS q ON q.id = m.queue_id WHERE m.state = 1",
    )
    return [Receipt(name, str(number), bytes(token).hex()) for name, number, token in found]


@both_ways
@at_each_step
@before_or_after
def test_a_transfer_that_stopped_at_a_step_goes_on(
    places: Places, step: Step, *, after: bool
) -> None:
    clock = FakeClock()
    state = interrupted(places, clock, step, after=after)
    if revision(places.source) != REVISIONS[-1]:
        with pytest.raises(DatabaseMoved):
            open_store(places.source, clock=clock)
    if step == STEPS[-1] and after:
        with pytest.raises(DatabaseMoved, match="was moved to"):
            transfer(*places, clocks=(clock, clock))
    else:
        transfer(*places, clocks=(clock, clock))
    with opened(places.target, clock=clock) as store:
        assert all_there_is(store) == state
    assert revision(places.source) == "moved"


@both_ways
@at_each_step
@before_or_after
def test_a_transfer_that_stopped_at_a_step_is_undone(
    places: Places, step: Step, *, after: bool
) -> None:
    clock = FakeClock()
    state = interrupted(places, clock, step, after=after)
    reason = {(STEPS[0], False): "is not being moved", (STEPS[-1], True): "has ended, so it cannot"}
    if refusal := reason.get((step, after)):
        with pytest.raises(Conflict, match=refusal):
            abort(*places, clocks=(clock, clock))
        return
    done = abort(*places, clocks=(clock, clock))
    assert done.emptied
    assert done.freed == (step not in STEPS[:2] or (step, after) == (STEPS[1], True))
    with opened(places.source, clock=clock) as store:
        assert all_there_is(store) == state
    with opened(places.target, clock=clock) as store:
        assert store.queues() == []
    transfer(*places, clocks=(clock, clock))
    with opened(places.target, clock=clock) as store:
        assert all_there_is(store) == state


def test_a_source_works_again_though_its_target_is_gone(places: Places) -> None:
    clock = FakeClock()
    state = interrupted(places, clock, ("put", 3), after=True)
    done = abort(places.source, "postgresql://nobody@127.0.0.1:1/nowhere", (clock, clock))
    assert done.freed
    assert not done.emptied
    assert "127.0.0.1" in str(done.left)
    with opened(places.source, clock=clock) as store:
        assert all_there_is(store) == state
    with pytest.raises(DatabaseMoved, match="is being filled from"):
        open_store(places.target, clock=clock)
    # What the target has is older than the source, so the next transfer begins anew.
    with opened(places.source, clock=clock) as store:
        send(store, "more")
    transfer(*places, clocks=(clock, clock))
    assert rows(places.target) == rows(places.source)


def test_a_transfer_that_is_aborted_meanwhile_stops(places: Places) -> None:
    with opened(places.source) as store:
        fill(store)

    def undo(done: int, _total: int, _step: str) -> None:
        if done:
            abort(*places)

    with pytest.raises(DurableQError, match="is not as this transfer left it"):
        transfer(*places, undo)
    with opened(places.source) as old, opened(places.target) as new:
        assert old.queues() != []
        assert new.queues() == []


def test_a_second_transfer_at_the_same_time_is_refused(places: Places) -> None:
    with opened(places.source) as store:
        fill(store)
    told: list[str] = []

    def again(_done: int, _total: int, step: str) -> None:
        if not told:
            told.append(step)
            transfer(*places)

    with pytest.raises(DurableQError, match=r"fills .* too|not as this transfer left it"):
        transfer(*places, again)
    assert revision(places.source) == "moved"
    assert rows(places.target) == rows(places.source)


def test_of_two_transfers_that_write_in_turn_one_stops(places: Places) -> None:
    with opened(places.source) as store:
        fill(store)
    told: list[str] = []

    def stop_after_one(_done: int, _total: int, _step: str) -> None:
        raise Stopped

    def again(_done: int, _total: int, step: str) -> None:
        if not told:
            told.append(step)
            with pytest.raises(Stopped):
                transfer(*places, stop_after_one)

    with pytest.raises(Conflict, match=r"Another process fills .* too"):
        transfer(*places, again)
    assert transfer(*places).resumed
    assert rows(places.target) == rows(places.source)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE durableq_message SET priority = priority + 1 WHERE id = 1",
        "DELETE FROM durableq_message WHERE id = (SELECT max(id) FROM durableq_message)",
        "UPDATE durableq_history SET actor = 'another'",
        "UPDATE durableq_counters SET sent = sent + 1",
    ],
)
def test_rows_that_are_not_the_same_in_the_end_are_found(places: Places, change: str) -> None:
    clock = FakeClock()
    with opened(places.source, clock=clock) as store:
        fill(store)
        number = rows(places.source)

    def disturb(done: int, total: int, step: str) -> None:
        if done == total and step.startswith("copied"):
            sql(places.target, change)

    with pytest.raises(DatabaseUnusable, match="are not the same in"):
        transfer(*places, disturb, (clock, clock))
    assert revision(places.source) == "moving"
    with pytest.raises(DatabaseMoved):
        open_store(places.target, clock=clock)
    abort(*places, clocks=(clock, clock))
    with opened(places.source, clock=clock):
        assert rows(places.source) == number
