"""Groups: which of their messages are active, and which of them are blocked.

`enter` is called for a send, `take_steps` for messages that leave or come back, `change` for those
that are put back. They fill the places that become free in the same transaction. So only active
messages are in the index of ready ones, and a receive looks for nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from durableq.engines.sql.columns import LEASE_EPOCH_MS
from durableq.engines.sql.transactions import WriteTransaction
from durableq.model.flow.groups import Group, GroupSettings, wait_ms
from durableq.model.flow.rank import RANKS_PER_MS, weight
from durableq.model.message import State
from durableq.model.settings import Limits

GROUPS: Final = int(Limits.GROUPS)
BURY_AT_RECEIVE: Final = int(Limits.BURY_AT_RECEIVE)
#: Limits that a next message may wait for, or that change its rank.
SLOW: Final = int(Limits.AGING | Limits.GROUP_RATE)
_STRICT: Final = weight(has_groups=True, aging_ms=0)
_NONE: Final = Group()
_BLOCKED: Final = State.BLOCKED.value
_DELAYED: Final = State.DELAYED.value
#: Where a row of sql.INSERT_FLOW has what depends on the group.
_STATE, _DUE, _GROUP = 2, 5, 13

Row = tuple[Any, ...]


class Step(NamedTuple):
    """A change of a group's counts."""

    active: int = 0
    holding: int = 0

    def plus(self, other: Step) -> Step:
        """Return both changes as one."""
        return Step(self.active + other.active, self.holding + other.holding)


ONE_LEFT: Final = Step(active=-1)


def settings_of(tx: WriteTransaction, queue_id: int) -> GroupSettings:
    """Return the settings of a queue that groups need."""
    key = "settings", queue_id
    found: GroupSettings | None = tx.known.get(key)
    if found is None:
        row = tx.execute(tx.sql.GROUP_SETTINGS, (queue_id,)).fetchone()
        found = tx.known[key] = GroupSettings(*row)
    return found


def enter(tx: WriteTransaction, queue_id: int, rows: Sequence[Row]) -> list[Row]:
    """Return messages that are sent as a queue with groups stores them.

    Args:
        tx: the transaction.
        queue_id: the queue.
        rows: the values for sql.INSERT, or for sql.INSERT_FLOW.
    """
    settings = settings_of(tx, queue_id)
    named = [row[_GROUP] if len(row) > _GROUP else "" for row in rows]
    groups = _read(tx, queue_id, [*dict.fromkeys(filter(None, named))])
    changed, entered = {}, []
    for row, name in zip(rows, named, strict=True):
        values = [*row]
        if name:
            group = groups.get(name, _NONE)
            if group.room(settings):
                groups[name] = changed[name] = group.after(active=1)
                until = _token_ms(tx, group, settings)
                if until > row[_DUE]:
                    values[_STATE], values[_DUE] = _DELAYED, until
            else:
                values[_STATE] = _BLOCKED
        entered.append(tuple(values))
    write(tx, queue_id, changed)
    return entered


def take_steps(tx: WriteTransaction, steps: Iterable[tuple[int, str, Step]]) -> None:
    """Change the counts of groups, given by queue and name, in the queues that have groups."""
    by_queue: dict[int, dict[str, Step]] = {}
    for queue_id, name, step in steps:
        if tx.limits_of(queue_id) & GROUPS:
            of_queue = by_queue.setdefault(queue_id, {})
            of_queue[name] = of_queue[name].plus(step) if name in of_queue else step
    for queue_id, of_queue in by_queue.items():
        if tx.limits_of(queue_id) & SLOW:
            change(tx, queue_id, of_queue)
            continue
        alike = [name for name, step in of_queue.items() if step == ONE_LEFT]
        if alike:
            _take_turn(tx, queue_id)
            for name in alike:
                _hand_on(tx, queue_id, name)
        if len(alike) < len(of_queue):
            change(tx, queue_id, {n: step for n, step in of_queue.items() if step != ONE_LEFT})


def completed(tx: WriteTransaction, queue_id: int, names: list[str | None]) -> None:
    """Count completed messages of a queue with groups, and let them leave their groups."""
    number = len(names)
    if ("turn", queue_id) in tx.known:
        tx.execute(tx.sql.COMPLETED, (number, queue_id))
    else:
        tx.known["turn", queue_id] = True
        tx.execute(tx.sql.COMPLETED_AND_TURN, (number, queue_id, _least_turn(tx)))
    if number == 1:  # to count them takes as long as the rest
        if names[0] is not None:
            _hand_on(tx, queue_id, names[0])
        return
    several = {}
    for name, times in Counter(filter(None, names)).items():
        if times == 1:
            _hand_on(tx, queue_id, name)
        else:
            several[name] = Step(-times)
    if several:
        change(tx, queue_id, several)


def _hand_on(tx: WriteTransaction, queue_id: int, name: str) -> None:
    """Let an active message leave its group; the next one takes its place.

    It is `change` for the way of messages that succeed.
    """
    execute, sql = tx.execute, tx.sql
    if execute(sql.TAKE_PLACE, (queue_id, name, tx.now_ms, _STRICT)).rowcount:
        return
    if not execute(sql.DROP_LAST, (queue_id, name, _lease_ms(tx) * 1_000_000)).rowcount:
        execute(sql.LEAVE_PLACE, (queue_id, name))
        if _first_returned(tx, queue_id, name) is not None:
            change(tx, queue_id, {name: Step()})


def change(tx: WriteTransaction, queue_id: int, steps: Mapping[str, Step]) -> None:
    """Change the counts of groups, and make blocked messages active where there is room."""
    settings = settings_of(tx, queue_id)
    groups, changed = _read(tx, queue_id, list(steps)), {}
    for name, step in steps.items():
        before = groups.get(name, _NONE)
        group = before.after(**step._asdict())
        room = group.room(settings) or _room_before_leased(tx, queue_id, name, group, settings)
        if room:
            group = group.after(active=_make_active(tx, queue_id, name, group, settings, room))
        if group != before:  # most that enter one with an active message only wait there
            changed[name] = group
    write(tx, queue_id, changed)


def fill(tx: WriteTransaction, queue_id: int) -> None:
    """Make blocked messages active in every group with room, after a change of settings."""
    names = [name for (name,) in tx.run(tx.sql.WAITING_GROUPS, in_queue=queue_id).fetchall()]
    change(tx, queue_id, dict.fromkeys(names, Step()))


def entrance(
    tx: WriteTransaction, queue_id: int, name: str | None, state: State
) -> dict[str, int | None]:
    """Return the values of sql.REDRIVE for the place of a message in its new queue.

    In a group it is the last one, and blocked until `sent_back`; elsewhere it has this state.
    """
    found: dict[str, int | None] = {"to_state": state.value, "new_sequence": None}
    if name is not None and tx.limits_of(queue_id) & GROUPS:
        (place,) = tx.execute(tx.sql.TAKE_LAST_PLACE).fetchone()
        found |= {"to_state": _BLOCKED, "new_sequence": place}
    return found


def sent_back(
    tx: WriteTransaction, source_id: int | None, target_id: int, name: str | None
) -> None:
    """Let a dead letter leave the group that it may hold, and enter that of its target."""
    if name is None:
        return
    steps = [(target_id, name, Step())]
    if source_id is not None:
        steps.append((source_id, name, Step(holding=-1)))
    take_steps(tx, steps)


def _make_active(
    tx: WriteTransaction,
    queue_id: int,
    name: str,
    group: Group,
    settings: GroupSettings,
    room: int,
) -> int:
    """Make the next messages of a group active, as many as there is room for.

    Returns:
        Their number; there may be fewer.
    """
    _take_turn(tx, queue_id)
    until, per_level = _token_ms(tx, group, settings), _weight(settings)
    values = queue_id, name, room, tx.now_ms, until, per_level
    number: int = tx.execute(tx.sql.MAKE_ACTIVE, values).rowcount
    return number


def _room_before_leased(
    tx: WriteTransaction, queue_id: int, name: str, group: Group, settings: GroupSettings
) -> int:
    """Return 1 if the first message that waits is before all active ones, and these are leased.

    As in SQS, a message that comes back does not wait there for those behind it in its batch.
    """
    is_held = not group._replace(active=0).room(settings)
    first = None if is_held else _first_returned(tx, queue_id, name)
    if first is None:
        return 0
    leased, first_leased = tx.execute(tx.sql.GROUP_IN_FLIGHT, (queue_id, name)).fetchone()
    return int(leased == group.active > 0 and first < first_leased)


def _first_returned(tx: WriteTransaction, queue_id: int, name: str) -> int | None:
    """Return the place of a group's first message that waits, if it was received before.

    Another one is behind all that are leased. None: in a queue that does not bury at a receive.
    """
    if not tx.limits_of(queue_id) & BURY_AT_RECEIVE:
        return None
    first = tx.execute(tx.sql.FIRST_BLOCKED, (queue_id, name)).fetchone()
    return first[0] if first is not None and first[1] else None


def _take_turn(tx: WriteTransaction, queue_id: int) -> None:
    """Give the heads that this transaction makes a rank behind all that wait.

    Times have milliseconds. Within one, each transaction has a turn of its own.
    """
    if ("turn", queue_id) not in tx.known:
        tx.known["turn", queue_id] = True
        tx.execute(tx.sql.TAKE_TURN, (queue_id, _least_turn(tx)))


def _least_turn(tx: WriteTransaction) -> int:
    return tx.now_ms * RANKS_PER_MS + 1


def _weight(settings: GroupSettings) -> int:
    return weight(has_groups=True, aging_ms=settings.priority_aging_ms)


def _lease_ms(tx: WriteTransaction) -> int:
    return tx.lease_now_ms - LEASE_EPOCH_MS


def _token_ms(tx: WriteTransaction, group: Group, settings: GroupSettings) -> int:
    """Return the time of a group's next token; 0: it has one."""
    left_ms = wait_ms(group.tat_ns, settings, _lease_ms(tx))
    return tx.now_ms + left_ms if left_ms else 0


def counts_of(tx: WriteTransaction, queue_id: int, name: str) -> Group:
    """Return the counts of one group."""
    return _read(tx, queue_id, [name]).get(name, _NONE)


def _read(tx: WriteTransaction, queue_id: int, names: list[str]) -> dict[str, Group]:
    """Return the groups that have counts."""
    if not names:
        return {}
    text, listed = tx.listed(tx.sql.GROUPS_NAMED, tx.sql.GROUPS_NAMED_ONE, names)
    rows = tx.execute(text, (queue_id, listed)).fetchall()
    return {name: Group(*counts) for name, *counts in rows}


def write(tx: WriteTransaction, queue_id: int, groups: Mapping[str, Group]) -> None:
    """Store the counts of groups, and forget those that say nothing."""
    lease_ms = _lease_ms(tx)
    kept, dropped = [], []
    for name, group in groups.items():
        if group.is_needed(lease_ms):
            kept.append((queue_id, name, *group))
        else:
            dropped.append((queue_id, name))
    _run(tx, tx.sql.STORE_GROUP, kept)
    _run(tx, tx.sql.DROP_GROUP, dropped)


def _run(tx: WriteTransaction, text: str, rows: Sequence[Row]) -> None:
    """Run a statement for each row."""
    if len(rows) == 1:  # which costs half as much
        tx.execute(text, rows[0])
    elif rows:
        tx.raw.executemany(text, rows)
