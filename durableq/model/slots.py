"""The decision about the slots of a schedule that are due.

The slots that a schedule has decided about are kept as periods of the wall clock, so a clock that
is set back meets no slot twice, and one that was wrong ahead for a while leaves the slots between
for their own time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from durableq.model import codec
from durableq.model.flow.sending import SHED, Backlog
from durableq.model.schedules import CatchUp, Schedule

#: Distance of two clocks that counts as a jump, as that of steady time.
JUMP_MS: Final = 30_000
#: A step of the clock of at most this is a correction; behind it the latest slot is still sent.
#: Debian's cron has the same limit.
STEP_MS: Final = 3 * 3_600_000
#: With catch_up="none" a slot that is later than this is skipped.
GRACE_MS: Final = 60_000
#: A schedule is late when its slot is due for so long.
LATE_MS: Final = 60_000
#: Periods that are kept: one, and one more for each jump that is not over.
MAX_PERIODS: Final = 8
#: Skipped slots are counted up to this number at once.
COUNTED: Final = 1_000

#: A period of the wall clock, both ends included.
Period = tuple[int, int]


class Timing(Protocol):
    """The slots of a schedule: times on the wall clock in milliseconds, whole seconds."""

    def after(self, wall_ms: int) -> int:
        """Return the first slot after a time."""
        ...

    def newest(self, after_ms: int, until_ms: int, limit: int) -> list[int]:
        """Return the slots after a time, up to another, in order: the newest, at most `limit`."""
        ...


class Now(NamedTuple):
    """The time of a decision."""

    #: The wall clock of the database.
    wall_ms: int
    #: The distance to it from steady time, which changes where the wall clock jumps.
    offset_ms: int
    #: The boot of the machine that knows this distance.
    boot_id: str = ""


class ScheduleState(NamedTuple):
    """The state of a schedule."""

    #: The next slot, on the wall clock.
    next_ms: int
    #: The periods whose slots are decided; time goes on at the end of the last one.
    periods: tuple[Period, ...]
    #: The distance from steady time to the wall clock at the last decision, and the boot of it.
    offset_ms: int
    boot_id: str
    paused: bool = False
    #: The newest slot that was sent; 0: none was.
    last_ms: int = 0
    #: Messages sent for slots, and slots that were skipped.
    sent: int = 0
    skipped: int = 0

    @property
    def end_ms(self) -> int:
        """The time up to which slots are decided."""
        return self.periods[-1][1]

    def has_jumped(self, now: Now) -> bool:
        """Return whether the wall clock has jumped since the last decision.

        Each boot of each host knows the distance for itself: with that of another one, only a clock
        that is behind is a jump.
        """
        if abs(now.offset_ms - self.offset_ms) <= JUMP_MS:
            return False
        return now.boot_id == self.boot_id or now.wall_ms < self.end_ms

    def wait_ms(self, now: Now) -> int | None:
        """Return the time until a decision is due; None: the schedule is paused."""
        if self.paused:
            return None
        return 0 if self.has_jumped(now) else max(0, self.next_ms - now.wall_ms)


class ScheduleInfo(NamedTuple):
    """A schedule as it stands. Its times are on the wall clock."""

    schedule: Schedule
    paused: bool
    #: The next slot; None: it is paused.
    next_ms: int | None
    #: The newest slot that was sent; None: none was.
    last_ms: int | None
    #: How long its next slot is due.
    late_ms: int
    sent: int
    skipped: int

    @property
    def is_late(self) -> bool:
        """Whether its next slot is due for longer than LATE_MS."""
        return self.late_ms > LATE_MS

    @classmethod
    def of(cls, schedule: Schedule, state: ScheduleState, wall_ms: int) -> ScheduleInfo:
        """Return a state for people, at a time on the wall clock."""
        late_ms = 0 if state.paused else max(0, wall_ms - state.next_ms)
        next_ms = None if state.paused else state.next_ms
        counted = (late_ms, state.sent, state.skipped)
        return cls(schedule, state.paused, next_ms, state.last_ms or None, *counted)


class Fired(NamedTuple):
    """The slots of a schedule that were decided at once."""

    #: Those for which messages were sent: `counted` leaves out those whose messages were shed.
    slots: tuple[int, ...] = ()
    #: The number of those without a message, at most COUNTED.
    skipped: int = 0


class Step(NamedTuple):
    """A decision: the state after it, and what is sent."""

    state: ScheduleState
    fired: Fired


def begin(timing: Timing, now: Now) -> ScheduleState:
    """Return the state of a new schedule: its first slot is the next one."""
    wall_ms = now.wall_ms
    return _counted_on(((wall_ms, wall_ms),), timing, ScheduleState(0, (), *now[1:]), now)


def retimed(state: ScheduleState, timing: Timing, now: Now) -> ScheduleState:
    """Return the state with another timing, or after a pause: the slots until now are over."""
    periods = _extended(_followed(state, now), now.wall_ms)
    return _counted_on(periods, timing, state, now)


def decide(
    schedule: Schedule, state: ScheduleState, timing: Timing, now: Now, backlog: Backlog
) -> Step:
    """Decide about the slots that are due; `counted` counts them, after the send.

    After a jump of the clock, those that were due by the clock as it was come first. Then the new
    time counts: behind a step of at most STEP_MS the latest slot is still sent, and no more;
    behind a longer one, none.

    More than the queue can hold at all are never sent: the newest that fit are, and the others are
    skipped. Otherwise no firing would ever succeed, and each would have more slots than the last.
    """
    due: list[int] = []
    passed: list[int] = []
    if state.has_jumped(now):
        before_ms = now.wall_ms - now.offset_ms + state.offset_ms
        passed = _slots(state.periods, timing, before_ms)
        due = _chosen(schedule, passed, before_ms, schedule.catch_up_limit)
        state = state._replace(periods=_extended(state.periods, before_ms))
        most = 1
    else:
        most = schedule.catch_up_limit
    periods = _followed(state, now)
    late = _slots(periods, timing, now.wall_ms)
    due += _chosen(schedule, late, now.wall_ms, most)
    is_all = schedule.catch_up is CatchUp.ALL
    due = due[-backlog.most_at_once(codec.size(schedule.body)) if is_all else -1 :]
    after = _counted_on(_extended(periods, now.wall_ms), timing, state, now)
    return Step(after, Fired(tuple(due), len(passed) + len(late) - len(due)))


def counted(step: Step, ids: Sequence[str]) -> Step:
    """Return a decision that is carried out, with its slots counted.

    Args:
        step: the decision.
        ids: of the messages of its slots, as the send returned them. A slot whose message the queue
            has shed counts as skipped.
    """
    state, fired = step
    slots = [slot for slot, sent in zip(fired.slots, ids, strict=True) if sent != SHED]
    skipped = fired.skipped + len(fired.slots) - len(slots)
    state = state._replace(
        last_ms=slots[-1] if slots else state.last_ms,
        sent=state.sent + len(slots),
        skipped=state.skipped + skipped,
    )
    return Step(state, Fired(tuple(slots), skipped))


def _chosen(schedule: Schedule, due: list[int], now_ms: int, most: int) -> list[int]:
    """Return those of due slots that the schedule catches up."""
    if schedule.catch_up is CatchUp.NONE:
        return [slot for slot in due[-1:] if now_ms - slot <= GRACE_MS]
    return due[-most:] if schedule.catch_up is CatchUp.ALL else due[-1:]


def _slots(periods: Sequence[Period], timing: Timing, until_ms: int) -> list[int]:
    """Return the undecided slots from the end of the last period to a time: the newest."""
    found: list[int] = []
    others = sorted(periods[:-1], reverse=True)
    end_ms, start_ms = until_ms, periods[-1][1]
    for first_ms, last_ms in others:
        if start_ms < last_ms and first_ms <= end_ms:
            found = timing.newest(max(last_ms, start_ms), end_ms, COUNTED - len(found)) + found
            end_ms = first_ms - 1
    if end_ms > start_ms and len(found) < COUNTED:
        found = timing.newest(start_ms, end_ms, COUNTED - len(found)) + found
    return found


def _followed(state: ScheduleState, now: Now) -> tuple[Period, ...]:
    """Return the periods with that of now at the end; after a jump it may be another one."""
    if not state.has_jumped(now):
        return state.periods
    for period in reversed(state.periods):
        if period[0] <= now.wall_ms <= period[1] + STEP_MS:
            return (*(one for one in state.periods if one != period), period)
    periods = sorted(state.periods, key=lambda one: -abs(one[1] - now.wall_ms))
    return (*periods[-(MAX_PERIODS - 1) :], (now.wall_ms, now.wall_ms))


def _extended(periods: tuple[Period, ...], until_ms: int) -> tuple[Period, ...]:
    """Extend the last period to a time; those that it meets become a part of it."""
    start_ms, end_ms = periods[-1][0], max(periods[-1][1], until_ms)
    others = []
    for period in sorted(periods[:-1]):
        if start_ms <= period[1] and period[0] <= end_ms:
            start_ms, end_ms = min(start_ms, period[0]), max(end_ms, period[1])
        else:
            others.append(period)
    return (*others, (start_ms, end_ms))


def _counted_on(
    periods: tuple[Period, ...], timing: Timing, state: ScheduleState, now: Now
) -> ScheduleState:
    """Return the state with these periods: its next slot is the first in none of them."""
    next_ms = timing.after(periods[-1][1])
    while found := [end for start, end in periods if start <= next_ms <= end]:
        next_ms = timing.after(max(found))
    return state._replace(
        next_ms=next_ms, periods=periods, offset_ms=now.offset_ms, boot_id=now.boot_id
    )


def paused(state: ScheduleState, *, is_paused: bool, timing: Timing, now: Now) -> ScheduleState:
    """Return the state after a pause or its end; the slots of a pause are not sent later."""
    if is_paused or not state.paused:
        return state._replace(paused=is_paused)
    return retimed(state, timing, now)._replace(paused=False)


def with_definition(
    before: Schedule, after: Schedule, state: ScheduleState, timing: Timing, now: Now
) -> ScheduleState:
    """Return the state of a schedule whose definition changes.

    Another timing counts from now: slots of the old one that are due and not sent yet are dropped.
    """
    if before.has_timing_of(after):
        return state
    return retimed(state, timing, now)
