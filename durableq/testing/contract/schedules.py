"""Schedules: one message for each slot, whatever becomes of clocks and processes."""
# ruff: noqa: D102, S101 - test names are sentences, and tests assert

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from durableq.model.errors import Conflict, InvalidInput, NotFound, QueueFull, UnknownQueue
from durableq.model.flow.sending import SHED, OnFull
from durableq.model.info import WorkerInfo
from durableq.model.message import Completion, Event, draft
from durableq.model.schedules import Schedule, schedule_of, slot_text
from durableq.model.slots import Fired
from durableq.store.core import Capability
from durableq.testing.contract.case import (
    DEAD,
    ORDERS,
    FullStore,
    StoreCase,
    bodies,
    needs,
    receive,
)
from durableq.testing.fakes import FakeClock, FakeRandom

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS


def every(timing: str = "* * * * *", name: str = "tick", **options: Any) -> Schedule:
    """Return a schedule into the queue `orders`, by default of each minute."""
    return schedule_of(name, options.pop("queue", ORDERS), timing, "UTC", **options)


def slots_of(store: FullStore) -> list[str]:
    """Receive all messages, and return their slots."""
    return [str(json.loads(one.attributes or "{}")["slot"]) for one in receive(store, 1000)]


def fire(store: FullStore, name: str = "tick") -> int:
    """Decide about a schedule; return the number of messages sent."""
    return len(store.fire_schedule(name).slots)


def wait_ms(store: FullStore) -> int | None:
    """Return the time until a decision is due; None: none will be."""
    return store.next_slots_in_ms(["tick", "not there"]).get("tick")


@needs(Capability.SCHEDULES)
class SchedulesContract(StoreCase):
    """Schedules that are declared, fired, paused, run now and removed."""

    def test_a_slot_is_sent_once_when_it_is_due(self, store: FullStore, clock: FakeClock) -> None:
        store.declare_schedules([every(body={"a": 1}, attributes={"by": "me"}, priority=3)])
        assert wait_ms(store) == 40_000
        assert store.fire_schedule("tick") == Fired()
        clock.advance(40)
        assert wait_ms(store) == 0
        assert store.fire_schedule("tick") == Fired((clock.wall_ms(),))
        assert store.fire_schedule("tick") == Fired()
        assert wait_ms(store) == MINUTE_MS
        [message] = receive(store)
        slot = slot_text(clock.wall_ms())
        assert (message.body, message.priority) == ('{"a":1}', 3)
        assert message.key == f"tick@{slot}" == "tick@2023-11-14T22:14:00Z"
        told = {"by": "me", "schedule": "tick", "slot": slot}
        assert json.loads(message.attributes or "") == told

    def test_a_schedule_is_shown_as_it_stands(self, store: FullStore, clock: FakeClock) -> None:
        schedules = [every(name="b"), every("0 0 * * *", name="a")]
        store.declare_schedules(schedules)
        first, second = store.schedules()
        assert (first.schedule, second.schedule) == (schedules[1], schedules[0])
        assert second == store.schedule("b")
        assert (second.last_ms, second.late_ms, second.sent) == (None, 0, 0)
        assert second.next_ms == clock.wall_ms() + 40_000
        clock.advance(102)
        late = store.schedule("b")
        assert (late.late_ms, late.is_late) == (62_000, True)
        store.fire_schedule("b")
        after = store.schedule("b")
        assert (after.sent, after.skipped, after.late_ms) == (1, 1, 0)
        assert after.last_ms == clock.wall_ms() - 2_000
        assert after.next_ms == clock.wall_ms() + 58_000

    def test_a_schedule_that_is_declared_again_does_not_change(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        store.declare_schedules([every()])
        clock.advance(90)
        store.declare_schedules([every()])
        assert fire(store) == 1
        assert store.schedule("tick").sent == 1

    def test_of_the_slots_of_a_long_silence_the_latest_is_sent(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        store.declare_schedules([every()])
        clock.advance(3600 * 5)
        assert store.fire_schedule("tick") == Fired((clock.wall_ms() - 20_000,), 299)
        assert fire(store) == 0

    def test_all_slots_of_a_silence_are_sent_up_to_a_limit(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        store.declare_schedules([every(catch_up="all", catch_up_limit=10)])
        clock.advance(40 + 8 * 60)
        assert fire(store) == 9
        clock.advance(3600)
        fired = store.fire_schedule("tick")
        assert (len(fired.slots), fired.skipped) == (10, 50)
        assert fired.slots[-1] == clock.wall_ms()
        assert len(set(slots_of(store))) == 19

    def test_slots_that_are_not_caught_up_are_skipped(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        store.declare_schedules([every("0 * * * *", catch_up="none")])
        clock.advance(46 * 60 + 40 + 61)
        assert store.fire_schedule("tick") == Fired((), 1)
        clock.advance(3600 - 31)
        assert fire(store) == 1
        info = store.schedule("tick")
        assert (info.sent, info.skipped) == (1, 1)

    def test_an_interval_counts_in_whole_multiples(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        store.declare_schedules([every("every 300 s")])
        assert wait_ms(store) == 100_000
        clock.advance(100)
        assert store.fire_schedule("tick").slots == (clock.wall_ms(),)

    # ---- clocks

    @pytest.mark.parametrize("catch_up", ["latest", "all"])
    def test_a_clock_that_jumps_ahead_by_a_day_sends_nothing_of_the_day(
        self, store: FullStore, clock: FakeClock, catch_up: str
    ) -> None:
        store.declare_schedules([every(catch_up=catch_up, catch_up_limit=1000)])
        clock.advance(40)
        assert fire(store) == 1
        clock.set_wall(clock.wall_ms() + DAY_MS)
        assert wait_ms(store) == 0
        assert store.fire_schedule("tick") == Fired()
        assert wait_ms(store) == MINUTE_MS
        clock.advance(60)
        assert store.fire_schedule("tick").slots == (clock.wall_ms(),)

    def test_behind_a_small_step_of_the_clock_the_latest_slot_is_sent(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        store.declare_schedules([every("0 23 * * *", catch_up="all")])
        clock.set_wall(clock.wall_ms() + HOUR_MS)
        assert len(store.fire_schedule("tick").slots) == 1
        assert fire(store) == 0

    def test_a_clock_that_goes_back_sends_no_slot_again(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        store.declare_schedules([every(catch_up="all")])
        clock.advance(40)
        sent = fire(store)
        for _ in range(30):
            clock.advance(60)
            sent += fire(store)
        clock.set_wall(clock.wall_ms() - 20 * MINUTE_MS)
        for _ in range(20):
            assert fire(store) == 0
            clock.advance(60)
        clock.advance(60)
        sent += fire(store)
        slots = slots_of(store)
        assert len(slots) == len({*slots}) == sent == 32

    def test_a_clock_that_was_ahead_for_a_while_leaves_the_slots_between(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        store.declare_schedules([every("0 * * * *")])
        clock.advance(46 * 60 + 40)
        assert fire(store) == 1
        right_ms = clock.wall_ms()
        clock.set_wall(right_ms + 365 * DAY_MS)
        assert fire(store) == 0
        clock.advance(3600)
        assert fire(store) == 1  # an hour of the wrong year
        clock.set_wall(right_ms + HOUR_MS)
        assert store.fire_schedule("tick").slots == (right_ms + HOUR_MS,)
        clock.advance(3600)
        assert store.fire_schedule("tick").slots == (right_ms + 2 * HOUR_MS,)

    def test_a_restart_of_the_machine_catches_up_as_any_silence(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        store.declare_schedules([every("0 0 * * *")])
        clock.advance(DAY_MS / 1000)
        clock.reboot()
        assert len(store.fire_schedule("tick").slots) == 1

    # ---- changes

    def test_another_timing_counts_from_now(self, store: FullStore, clock: FakeClock) -> None:
        store.declare_schedules([every()])
        clock.advance(300)
        store.declare_schedules([every("*/2 * * * *")])
        assert fire(store) == 0
        clock.advance(100)
        assert store.fire_schedule("tick").slots == (clock.wall_ms(),)

    def test_another_body_leaves_the_slots_as_they_are(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        store.declare_queue("mail", {})
        store.declare_schedules([every()])
        clock.advance(40)
        store.declare_schedules([every(body="b", queue="mail")])
        assert fire(store) == 1
        assert bodies(receive(store, queue="mail")) == ['"b"']

    def test_a_paused_schedule_sends_nothing_and_catches_nothing_up(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        store.declare_schedules([every(catch_up="all")])
        info = store.pause_schedule("tick", paused=True, actor="person (ann)")
        assert (info.paused, info.next_ms) == (True, None)
        clock.advance(600)
        assert wait_ms(store) is None
        assert fire(store) == 0
        store.declare_schedules([every(catch_up="all", body="b")])
        assert store.schedule("tick").paused
        assert not store.pause_schedule("tick", paused=False).paused
        assert fire(store) == 0
        clock.advance(60)
        assert fire(store) == 1

    def test_a_pause_that_is_on_already_changes_nothing(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        store.declare_schedules([every()])
        clock.advance(40)
        store.pause_schedule("tick", paused=False)
        assert fire(store) == 1

    def test_a_schedule_that_is_run_now_keeps_its_slots(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        store.declare_schedules([every(body="b")])
        store.pause_schedule("tick", paused=True)
        first, second = store.run_schedule("tick", actor="ann"), store.run_schedule("tick")
        messages = receive(store)
        assert [message.id for message in messages] == [first, second]
        assert len({message.key for message in messages}) == 2
        assert json.loads(messages[0].attributes or "") == {"schedule": "tick"}
        assert store.schedule("tick").sent == 0

    def test_a_removed_schedule_is_gone(self, store: FullStore, clock: FakeClock) -> None:
        store.declare_schedules([every()])
        store.remove_schedule("tick", actor="ann")
        clock.advance(60)
        assert store.schedules() == []
        assert wait_ms(store) is None
        assert fire(store) == 0

    def test_an_unknown_schedule_is_refused(self, store: FullStore) -> None:
        calls: list[Any] = [
            lambda: store.schedule("x"),
            lambda: store.pause_schedule("x", paused=True),
            lambda: store.run_schedule("x"),
            lambda: store.remove_schedule("x"),
        ]
        for call in calls:
            with pytest.raises(NotFound, match="There is no schedule 'x'"):
                call()
        assert store.next_slots_in_ms([]) == {}

    def test_a_schedule_needs_its_queue(self, store: FullStore) -> None:
        with pytest.raises(UnknownQueue):
            store.declare_schedules([every(), every(queue="mail", name="b")])
        assert store.schedules() == []

    @needs(Capability.CONTROL)
    def test_a_schedule_goes_with_its_queue(self, store: FullStore) -> None:
        store.declare_queue("mail", {})
        store.declare_schedules([every(), every(queue="mail", name="b")])
        store.delete_queue("mail")
        assert [info.schedule.name for info in store.schedules()] == ["tick"]

    def test_a_full_queue_keeps_the_slot_due(self, store: FullStore, clock: FakeClock) -> None:
        store.declare_queue(ORDERS, {"max_backlog": 1})
        store.declare_schedules([every()])
        store.send(ORDERS, [draft("a")])
        clock.advance(60)
        with pytest.raises(QueueFull):
            store.fire_schedule("tick")
        assert store.schedule("tick").late_ms == 20_000
        receive(store)
        store.complete([])
        store.declare_queue(ORDERS, {"max_backlog": 2})
        assert fire(store) == 1

    @pytest.mark.parametrize(
        ("limits", "fit"),
        [
            ({"max_backlog": 10}, 10),
            ({"max_backlog_bytes": 23}, 5),  # a body is "null"
            ({"max_backlog": 3, "max_backlog_bytes": 1_000}, 3),
        ],
    )
    def test_of_more_slots_than_the_queue_can_hold_the_newest_are_sent(
        self, store: FullStore, clock: FakeClock, limits: dict[str, int], fit: int
    ) -> None:
        store.declare_queue(ORDERS, limits)
        store.declare_schedules([every(catch_up="all")])
        clock.advance(40 + 29 * 60)
        newest = tuple(clock.wall_ms() - n * MINUTE_MS for n in reversed(range(fit)))
        assert store.fire_schedule("tick") == Fired(newest, 30 - fit)
        info = store.schedule("tick")
        assert (info.sent, info.skipped, info.late_ms) == (fit, 30 - fit, 0)
        clock.advance(60)
        with pytest.raises(QueueFull):
            store.fire_schedule("tick")
        store.complete([Completion(one.receipt) for one in receive(store, fit) if one.receipt])
        assert fire(store) == 1

    def test_slots_for_which_there_is_no_room_now_stay_due(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        store.declare_queue(ORDERS, {"max_backlog": 4})
        store.declare_schedules([every(catch_up="all")])
        store.send(ORDERS, [draft("a"), draft("b")])
        clock.advance(40 + 2 * 60)
        with pytest.raises(QueueFull):
            store.fire_schedule("tick")
        assert (store.schedule("tick").sent, wait_ms(store)) == (0, 0)
        store.complete([Completion(one.receipt) for one in receive(store, 2) if one.receipt])
        assert (fire(store), store.schedule("tick").skipped) == (3, 0)

    def test_a_message_that_never_fits_keeps_its_slot_due(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        store.declare_queue(ORDERS, {"max_backlog_bytes": 3})
        store.declare_schedules([every(catch_up="all")])
        clock.advance(300)
        with pytest.raises(InvalidInput, match="1 message with 4 bytes can never fit"):
            store.fire_schedule("tick")
        assert wait_ms(store) == 0
        store.declare_queue(ORDERS, {"max_backlog_bytes": 0})
        assert fire(store) == 5

    @needs(Capability.INSPECT)
    def test_a_slot_whose_message_is_shed_counts_as_skipped(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        store.declare_queue(ORDERS, {"max_backlog": 3, "on_full": OnFull.SHED})
        store.declare_schedules([every(catch_up="all")])
        store.send(ORDERS, [draft("a")])
        clock.advance(40 + 4 * 60)
        stored = (clock.wall_ms() - 2 * MINUTE_MS, clock.wall_ms() - MINUTE_MS)
        assert store.fire_schedule("tick") == Fired(stored, 3)
        info = store.schedule("tick")
        assert (info.sent, info.skipped, info.last_ms) == (2, 3, stored[-1])
        assert store.run_schedule("tick") == SHED
        actions = [event.detail["action"] for event in store.events().events]
        assert actions == ["added", "skipped"]
        assert store.queue(ORDERS).counters.shed == 2
        clock.advance(60)
        assert store.fire_schedule("tick") == Fired((), 1)
        assert store.schedule("tick").last_ms == stored[-1]

    def test_the_messages_of_one_schedule_have_different_keys(
        self, store: FullStore, clock: FakeClock, rng: FakeRandom
    ) -> None:
        store.declare_schedules([every(catch_up="all"), every(name="b", catch_up="all")])
        clock.advance(300)
        assert fire(store) + fire(store, "b") == 10
        assert len({message.key for message in receive(store, 100)}) == 10

    @needs(Capability.INSPECT)
    def test_changes_are_in_the_history_of_the_queue(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        store.declare_schedules([every()])
        store.declare_schedules([every(body="b")])
        store.pause_schedule("tick", paused=True, actor="person (ann)")
        store.pause_schedule("tick", paused=False)
        store.run_schedule("tick")
        clock.advance(300)
        store.fire_schedule("tick")
        store.remove_schedule("tick")
        events = store.events().events
        assert {event.event for event in events} == {Event.SCHEDULE}
        told = [(event.detail["schedule"], event.detail["action"]) for event in events]
        actions = ["added", "changed", "paused", "resumed", "run", "skipped", "removed"]
        assert told == [("tick", action) for action in actions]
        assert events[2].actor == "person (ann)"
        assert events[5].detail["number"] == 4

    @needs(Capability.INSPECT, Capability.CONTROL)
    def test_the_breaker_of_a_queue_does_not_show_its_schedules(self, store: FullStore) -> None:
        store.declare_schedules([every()])
        assert store.breaker(ORDERS).transitions == ()

    @needs(Capability.FLEET)
    def test_a_worker_names_its_schedules(self, store: FullStore) -> None:
        store.register(WorkerInfo("host-a:7", 7, 1, schedules=("tick", "b")))
        store.register(WorkerInfo("host-a:8", 8, 1))
        assert [worker.schedules for worker in store.workers()] == [("tick", "b"), ()]

    def test_a_schedule_that_cannot_be_is_refused(self) -> None:
        for options, says in (
            ({"name": "a b"}, "The name of a schedule"),
            ({"catch_up": "some"}, "catch_up is"),
            ({"catch_up_limit": 0}, "catch_up_limit"),
            ({"body": b"x"}, "not bytes"),
            ({"attributes": {"slot": "x"}}, "is set by the schedule"),
            ({"attributes": {str(n): n for n in range(9)}}, "attributes"),
            ({"priority": 101}, "priority"),
            ({"group": ""}, "group"),
            ({"expires_in": 0}, "expires_in"),
        ):
            with pytest.raises(InvalidInput, match=says):
                every(**options)

    def test_a_dead_letter_queue_takes_no_slots_unless_it_is_ordinary(
        self, store: FullStore
    ) -> None:
        of_letters = every(queue=DEAD)
        with pytest.raises(Conflict, match="is a dead-letter queue"):
            store.declare_schedules([every(name="other"), of_letters])
        assert store.schedules() == []
        store.declare_queue(DEAD, {"dead_letter_queue": None})
        store.declare_schedules([of_letters])
        assert [info.schedule for info in store.schedules()] == [of_letters]
