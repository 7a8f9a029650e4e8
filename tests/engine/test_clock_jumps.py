"""All processes share the time of a file, and it continues across boots."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from durableq import DurableQ
from durableq.engines import examine_store, open_store, registered_workers
from durableq.model.health import Finding, Level
from durableq.model.limits import DAY_MS, HOUR_MS
from durableq.model.message import Completion, draft
from durableq.runtime.clock import RENEW_MS
from durableq.store.core import Capability, Store
from durableq.supervisor.liveness import this_process
from durableq.testing import FakeClock
from tests.engine import plain

WEEKS_MS = 21 * DAY_MS
YEAR_MS = 366 * DAY_MS
MOVED_MS = WEEKS_MS + HOUR_MS


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def opened(db: Path, clock: FakeClock) -> Store:
    store = open_store(str(db), clock=clock)
    store.declare_queue("orders", {})
    return store


def fill(store: Store) -> None:
    """Leave a waiting message and the record of a completed one."""
    store.send("orders", [draft("paid", key="k")])
    [message] = store.receive("orders", 1).messages
    assert message.receipt is not None
    store.complete([Completion(message.receipt, "7")])
    store.send("orders", [draft("waits")])


def assert_all_there(store: Store) -> None:
    store.require(Capability.MAINTENANCE).prune()
    store.require(Capability.MAINTENANCE).maintain()
    assert store.require(Capability.INSPECT).queue("orders").counts.ready == 1
    store.send("orders", [draft("paid", key="k")])
    received = store.receive("orders", 2)
    assert [message.body for message in received.messages] == ['"waits"']
    assert [duplicate.result for duplicate in received.duplicates] == ["7"]


def anchor(db: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        plain.one(db, "SELECT value FROM durableq_meta WHERE name LIKE 'clock:%'")
    )
    return found


@pytest.mark.parametrize("reopened", [False, True])
@pytest.mark.parametrize("jump_ms", [DAY_MS, YEAR_MS, -WEEKS_MS])
def test_the_next_process_that_opens_the_file_notices_a_jump(
    db: Path, clock: FakeClock, jump_ms: int, reopened: bool
) -> None:
    store = opened(db, clock)
    fill(store)
    if reopened:
        store.close()
    clock.set_wall(clock.wall_ms() + jump_ms)
    with_jump = opened(db, clock)
    with_jump.require(Capability.MAINTENANCE).prune()
    clock.set_wall(clock.wall_ms() - jump_ms)
    assert_all_there(with_jump if reopened else store)
    with_jump.close()
    store.close()


def test_a_machine_that_starts_behind_and_is_corrected_loses_nothing(
    db: Path, clock: FakeClock
) -> None:
    """The machine has no battery-backed clock: it starts with a date of weeks ago."""
    before = opened(db, clock)
    before.close()
    clock.reboot()
    clock.set_wall(clock.wall_ms() - WEEKS_MS)
    store = opened(db, clock)
    fill(store)
    clock.advance(20)
    clock.set_wall(clock.wall_ms() + MOVED_MS)
    assert_all_there(store)
    store.close()


def test_a_new_file_on_a_machine_that_is_behind_loses_nothing(db: Path, clock: FakeClock) -> None:
    clock.set_wall(clock.wall_ms() - WEEKS_MS)
    store = opened(db, clock)
    fill(store)
    clock.set_wall(clock.wall_ms() + WEEKS_MS)
    assert_all_there(store)
    store.close()


def test_a_restart_after_the_correction_loses_nothing_either(db: Path, clock: FakeClock) -> None:
    clock.set_wall(clock.wall_ms() - WEEKS_MS)
    store = opened(db, clock)
    fill(store)
    clock.set_wall(clock.wall_ms() + WEEKS_MS)
    store.send("orders", [])
    store.close()
    clock.reboot()
    clock.advance(60)
    again = opened(db, clock)
    assert_all_there(again)
    again.close()


def test_a_machine_that_was_off_has_no_jump(
    db: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    store = opened(db, clock)
    fill(store)
    store.close()
    clock.advance(30 * 86_400)
    clock.reboot()
    again = opened(db, clock)
    pruned = again.require(Capability.MAINTENANCE).prune()
    assert (pruned.expired, pruned.records) == (1, 1)
    assert not caplog.records
    again.close()


def test_a_correct_clock_is_adopted_at_once(db: Path, clock: FakeClock) -> None:
    """A message that is sent after the correction has its queue's retention and correct dates."""
    clock.set_wall(clock.wall_ms() - WEEKS_MS)
    store = opened(db, clock)
    clock.advance(60)
    clock.set_wall(clock.wall_ms() + WEEKS_MS)
    store.send("orders", [draft(1)])
    assert store.require(Capability.INSPECT).peek("orders", 1)[0].sent_at_ms == clock.wall_ms()
    clock.advance(14 * 86_400 - 1)
    assert store.require(Capability.MAINTENANCE).prune().expired == 0
    clock.advance(1)
    assert store.require(Capability.MAINTENANCE).prune().expired == 1
    store.close()


def test_the_anchor_is_not_written_for_each_message(db: Path, clock: FakeClock) -> None:
    store = opened(db, clock)
    first = anchor(db)
    for _ in range(10):
        fill(store)
    assert anchor(db) == first
    clock.advance(RENEW_MS / 1000)
    fill(store)
    assert anchor(db)["boot_ms"] == first["boot_ms"] + RENEW_MS
    store.close()


def test_reading_notices_a_jump_and_writes_nothing(db: Path, clock: FakeClock) -> None:
    store = opened(db, clock)
    fill(store)
    first = anchor(db)
    clock.set_wall(clock.wall_ms() + YEAR_MS)
    reader = open_store(str(db), clock=clock)
    first = anchor(db)
    clock.set_wall(clock.wall_ms() + YEAR_MS)
    assert reader.require(Capability.IDEMPOTENCY).record("orders", "k") is not None
    assert reader.require(Capability.IDEMPOTENCY).records("orders", 10)
    assert reader.require(Capability.INSPECT).peek("orders", 1)[0].sent_at_ms == clock.wall_ms()
    assert anchor(db) == first
    reader.close()
    store.close()


def test_a_send_in_a_transaction_of_ones_own_is_in_the_files_time(
    db: Path, clock: FakeClock
) -> None:
    with DurableQ(db, clock=clock) as dq:
        orders = dq.queue("orders")
        orders.send("first", delay=30)
        clock.set_wall(clock.wall_ms() + YEAR_MS)
        with dq.engine.begin() as connection:
            orders.send("second", delay=60, connection=connection)
        clock.set_wall(clock.wall_ms() - YEAR_MS)
        clock.advance(60)
        assert [message.body for message in orders.receive(10)] == ["first", "second"]


def wall_clock(db: Path, clock: FakeClock) -> Finding:
    [found] = [f for f in examine_store(str(db), clock=clock) if f.name == "wall_clock"]
    return found


@pytest.mark.parametrize(
    ("jump_ms", "words"), [(YEAR_MS, "ahead by 366 d"), (-WEEKS_MS, "back by 21 d")]
)
def test_the_doctor_warns_of_a_jump_for_a_day(
    db: Path, clock: FakeClock, jump_ms: int, words: str
) -> None:
    store = opened(db, clock)
    fill(store)
    assert wall_clock(db, clock).level is Level.OK
    clock.set_wall(clock.wall_ms() + jump_ms)
    unseen = wall_clock(db, clock)
    assert unseen.level is Level.WARN
    assert f"the wall clock jumped {words}" in unseen.what
    assert "timedatectl" in unseen.advice
    fill(store)
    clock.advance(86_399)
    assert words in wall_clock(db, clock).what
    clock.advance(1)
    assert wall_clock(db, clock).level is Level.OK
    store.close()


def test_a_beat_stays_as_fresh_as_it_was_before_a_jump(db: Path) -> None:
    """`restore --replace` judges by the beat where a worker's process cannot be seen."""
    clock = FakeClock()
    store = open_store(str(db), clock=clock)
    store.require(Capability.FLEET).register(this_process("w"))
    clock.set_wall(clock.wall_ms() + YEAR_MS)
    store.send("orders", []) if store.require(Capability.INSPECT).queues() else store.require(
        Capability.FLEET
    ).reclaim()
    [worker] = store.require(Capability.FLEET).workers()
    assert worker.beat_at_ms == clock.wall_ms()
    store.close()
    assert len(registered_workers(str(db))) == 1
