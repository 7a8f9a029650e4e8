"""The slots sent are those of a plain model, through jumps, pauses, changes and crashes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from durableq.engines.memory import MemoryStore
from durableq.model import slots as rules
from durableq.model.errors import InvalidInput
from durableq.model.flow.sending import UNLIMITED
from durableq.model.schedules import schedule_of, slot_text
from durableq.model.slots import GRACE_MS, Now, Period
from durableq.runtime.cron import checked_timing, timing_of
from durableq.testing import FakeClock, FakeRandom

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
BERLIN = ZoneInfo("Europe/Berlin")


def slots(expression: str, start: str, end: str, zone: ZoneInfo = BERLIN) -> list[str]:
    """The local times of the slots after one local time, up to another."""
    first, last = (datetime.fromisoformat(text).replace(tzinfo=zone) for text in (start, end))
    timing = timing_of(expression, zone.key)
    found = timing.newest(round(first.timestamp() * 1000), round(last.timestamp() * 1000), 100)
    return [f"{datetime.fromtimestamp(slot / 1000, zone):%d %H:%M%z}" for slot in found]


# ---- daylight saving time: on 29 March 2026 it is 03:00 after 01:59, on 25 October 02:00 twice


def test_a_local_time_that_does_not_exist_comes_at_the_end_of_the_gap() -> None:
    found = slots("30 2 * * *", "2026-03-28 00:00", "2026-03-30 12:00")
    assert found == ["28 02:30+0100", "29 03:00+0200", "30 02:30+0200"]


def test_two_local_times_that_do_not_exist_are_one_slot() -> None:
    found = slots("0,30 2 * * *", "2026-03-29 00:00", "2026-03-29 12:00")
    assert found == ["29 03:00+0200"]


def test_a_local_time_that_exists_twice_comes_the_first_time() -> None:
    found = slots("30 2 * * *", "2026-10-24 12:00", "2026-10-26 12:00")
    assert found == ["25 02:30+0200", "26 02:30+0100"]


def test_within_the_second_hour_the_slot_of_the_first_has_passed() -> None:
    second = datetime(2026, 10, 25, 2, 10, tzinfo=BERLIN, fold=1)
    after = timing_of("30 2 * * *", BERLIN.key).after(round(second.timestamp() * 1000))
    assert datetime.fromtimestamp(after / 1000, BERLIN).day == 26


@pytest.mark.parametrize(("expression", "number"), [("*/30 * * * *", 8), ("0 * * * *", 4)])
def test_intervals_go_on_in_real_time(expression: str, number: int) -> None:
    assert len(slots(expression, "2026-10-25 01:00", "2026-10-25 04:00")) == number
    assert len(slots(expression, "2026-03-29 01:00", "2026-03-29 04:00")) == number // 2


def test_a_star_in_the_hour_that_changes_goes_on_in_real_time() -> None:
    assert slots("*/30 2 * * *", "2026-03-29 00:00", "2026-03-29 12:00") == []
    assert slots("*/30 2 * * *", "2026-10-25 00:00", "2026-10-25 12:00") == [
        *("25 02:00+0200", "25 02:30+0200"),
        *("25 02:00+0100", "25 02:30+0100"),
    ]


def test_half_an_hour_of_daylight_saving_is_known_too() -> None:
    zone = ZoneInfo("Australia/Lord_Howe")  # on 4 October 2026 it is 02:30 after 01:59
    assert slots("15 2 * * *", "2026-10-04 00:00", "2026-10-04 12:00", zone) == ["04 02:30+1100"]


@given(
    st.sampled_from(["30 2 * * *", "*/20 * * * *", "15 */2 * * *", "0,30 1,2,3 * * *"]),
    st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"]),
    st.integers(0, 8784 * 60),
    st.integers(0, 4000),
    st.integers(1, 12),
)
@settings(max_examples=60, deadline=None)
def test_the_newest_slots_are_the_last_of_all(
    expression: str, zone: str, minute: int, minutes: int, limit: int
) -> None:
    timing = timing_of(expression, zone)
    start = round(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1000) + minute * MINUTE_MS
    end = start + minutes * MINUTE_MS
    one_by_one = []
    slot = timing.after(start)
    while slot <= end:
        one_by_one.append(slot)
        slot = timing.after(slot)
    assert timing.newest(start, end, limit) == one_by_one[-limit:]
    assert one_by_one == sorted({*one_by_one})


# ---- expressions that are refused


@pytest.mark.parametrize(
    ("every", "says"),
    [
        ("0 0 30 2 *", "no cron expression|never comes"),
        ("61 * * * *", "no cron expression"),
        ("x", "five fields"),
        ("* * * * * *", "five fields"),
        ("", "five fields"),
        ("@reboot", "There are @annually"),
        (timedelta(0), "interval"),
        (timedelta(milliseconds=1500), "whole seconds"),
        (timedelta(days=400), "whole seconds"),
        (timedelta(seconds=-5), "interval"),
        (5, "cron expression"),
        (None, "cron expression"),
    ],
)
def test_a_schedule_without_a_slot_is_refused(every: Any, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        checked_timing(every, None)


@pytest.mark.parametrize("every", ["every 0 s", "every 5 s", " every  999999999 s"])
@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
def test_the_stored_form_of_an_interval_is_refused(every: str, zone: str | None) -> None:
    with pytest.raises(InvalidInput, match="For an interval give a timedelta"):
        checked_timing(every, zone)


@pytest.mark.parametrize("zone", ["Mars/Base", "", "../UTC", 5, "a\0b"])
def test_a_time_zone_that_does_not_exist_is_refused(zone: Any) -> None:
    with pytest.raises(InvalidInput, match="zone"):
        checked_timing("* * * * *", zone)


def test_an_interval_has_no_time_zone() -> None:
    with pytest.raises(InvalidInput, match="no time zone"):
        checked_timing(timedelta(minutes=5), "Europe/Berlin")


def test_short_names_and_intervals_are_stored_in_one_form() -> None:
    assert checked_timing("@Hourly", None) == ("0 * * * *", "UTC")
    assert checked_timing(" 0  3 * * * ", "Europe/Berlin") == ("0 3 * * *", "Europe/Berlin")
    assert checked_timing(timedelta(minutes=5), None) == ("every 300 s", "UTC")


# ---- the slots that are sent, against a plain model


class Model:
    """Each slot is decided once: a set of them, slot by slot, on a grid of minutes.

    It knows nothing of periods: it has the time as it was told, and marks minutes.
    """

    def __init__(self, now_ms: int, step: int, catch_up: str, limit: int) -> None:
        self.decided = {minute_of(now_ms)}
        self.at_ms = now_ms
        self.step, self.catch_up, self.limit = step, catch_up, limit

    def is_slot(self, minute: int) -> bool:
        return minute % self.step == 0

    def between(self, after_ms: int, until_ms: int) -> list[int]:
        """The undecided slots after a time, up to another; they are decided with this."""
        minutes = range(minute_of(after_ms) + 1, minute_of(until_ms) + 1)
        found = [m for m in minutes if m not in self.decided]
        self.decided.update(minutes)
        return [m * MINUTE_MS for m in found if self.is_slot(m)]

    def choose(self, due: list[int], now_ms: int, limit: int) -> list[int]:
        if self.catch_up == "none":
            return [slot for slot in due[-1:] if now_ms - slot <= GRACE_MS]
        return due[-limit:] if self.catch_up == "all" else due[-1:]

    def pass_time(self, now_ms: int) -> list[int]:
        """Time has passed on a clock that did not jump."""
        due = self.between(self.at_ms, now_ms)
        self.at_ms = max(self.at_ms, now_ms)
        return self.choose(due, now_ms, self.limit)

    def pause_until(self, now_ms: int) -> None:
        self.between(self.at_ms, now_ms)
        self.at_ms = max(self.at_ms, now_ms)


def minute_of(ms: int) -> int:
    return ms // MINUTE_MS


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("pass"), st.integers(1, 400)),
        st.tuples(st.just("look"), st.just(0)),
        st.tuples(st.just("crash"), st.just(0)),
        st.tuples(st.just("pause"), st.integers(1, 300)),
        st.tuples(st.just("timing"), st.sampled_from([1, 2, 5, 60])),
        st.tuples(st.just("reboot"), st.just(0)),
    ),
    max_size=25,
)


class CrashError(Exception):
    """The process ends here."""


class Crashing(MemoryStore):
    """A store whose next send, or the move behind it, fails: the transaction is undone."""

    crash = ""

    def send_now(self, queue: str, drafts: Any) -> list[str]:
        sent = super().send_now(queue, drafts)
        if self.crash == "send":
            raise CrashError
        return sent

    def _put_schedule(self, *arguments: Any, **named: Any) -> None:
        super()._put_schedule(*arguments, **named)
        if self.crash == "move":
            raise CrashError


def definition(step: int, catch_up: str, limit: int) -> Any:
    expression = "0 * * * *" if step == 60 else f"*/{step} * * * *"
    return schedule_of("tick", "orders", expression, "UTC", catch_up=catch_up, catch_up_limit=limit)


def crash(store: Crashing, where: Iterator[str]) -> None:
    store.crash = next(where)
    with suppress(CrashError):
        store.fire_schedule("tick")
    store.crash = ""


@given(STEPS, st.sampled_from(["latest", "all", "none"]), st.integers(1, 30))
@settings(max_examples=150, deadline=None)
def test_the_slots_sent_are_those_of_the_model(
    steps: list[tuple[str, int]], catch_up: str, limit: int
) -> None:
    clock, where = FakeClock(), itertools.cycle(["send", "move"])
    with closing(Crashing(clock, FakeRandom())) as store:
        store.declare_queue("orders", {})
        store.declare_schedules([definition(1, catch_up, limit)])
        model = Model(clock.wall_ms(), 1, catch_up, limit)
        wanted: list[int] = []
        for step, number in steps:
            if step == "pass":
                clock.advance(number * 17)
            elif step == "crash":
                crash(store, where)
            elif step == "pause":
                wanted += model.pass_time(clock.wall_ms())
                store.fire_schedule("tick")
                store.pause_schedule("tick", paused=True)
                clock.advance(number * 17)
                assert store.fire_schedule("tick").slots == ()
                store.pause_schedule("tick", paused=False)
                model.pause_until(clock.wall_ms())
            elif step == "timing":
                changed = number != model.step
                store.declare_schedules([definition(number, catch_up, limit)])
                if changed:
                    model.pause_until(clock.wall_ms())
                    model.step = number
            elif step == "reboot":
                clock.reboot()
            else:
                wanted += model.pass_time(clock.wall_ms())
                store.fire_schedule("tick")
            assert store.schedule("tick").sent == len(wanted)
        keys = [message.key for message in store.peek("orders", 10_000)]
        assert keys == [f"tick@{slot_text(slot)}" for slot in wanted]


JUMPS = st.lists(
    st.tuples(
        st.sampled_from(["pass", "pass", "jump", "look"]),
        st.one_of(st.integers(-500, 500), st.sampled_from([-525_600, 525_600, 1_440, -1_440])),
    ),
    min_size=1,
    max_size=30,
)


@given(JUMPS, st.sampled_from(["latest", "all", "none"]))
@settings(max_examples=150, deadline=None)
def test_through_jumps_of_the_clock_no_slot_is_sent_twice(
    steps: list[tuple[str, int]], catch_up: str
) -> None:
    schedule = schedule_of(
        "tick", "orders", "*/5 * * * *", "UTC", catch_up=catch_up, catch_up_limit=7
    )
    timing = timing_of(schedule.timing, "UTC")
    wall_ms, steady_ms, most = 1_700_000_000_000, 1_700_000_000_000, 0
    state = rules.begin(timing, Now(wall_ms, 0, "b"))
    sent: list[int] = []
    jumps = 0
    for step, minutes in steps:
        if step == "jump":
            wall_ms += minutes * MINUTE_MS
            jumps += 1
        elif step == "pass":
            wall_ms += abs(minutes) * MINUTE_MS % (9 * HOUR_MS)
            steady_ms += abs(minutes) * MINUTE_MS % (9 * HOUR_MS)
        now = Now(wall_ms, wall_ms - steady_ms, "b")
        jumped = state.has_jumped(now)
        if state.wait_ms(now) == 0:
            before = state
            decided = rules.decide(schedule, state, timing, now, UNLIMITED)
            state, fired = rules.counted(decided, ["1"] * len(decided.fired.slots))
            most = 7 if catch_up == "all" else 1
            # Behind a jump: those that were due before it, and one more.
            assert len(fired.slots) <= most + (jumped and catch_up == "all")
            sent += fired.slots
            assert state.wait_ms(now) != 0
            assert_periods(state.periods)
            assert before.sent + len(fired.slots) == state.sent
        if jumps >= rules.MAX_PERIODS - 1:
            break
    assert len(sent) == len({*sent})


def assert_periods(periods: tuple[Period, ...]) -> None:
    """Periods do not touch, and there are few."""
    assert 1 <= len(periods) <= rules.MAX_PERIODS
    for (_, end), (start, _) in itertools.pairwise(sorted(periods)):
        assert end < start
