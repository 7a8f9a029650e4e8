"""Groups: which of their messages are active, and which of them are blocked.

Each transition into or out of a queue tells it here: `enter` for a send, `remove` for the end of
messages, `change` for the rest. Both fill the places that become free in the same transaction. So
only active messages are in the index of ready ones, and a receive looks for nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from durableq.engines.sql.columns import LEASE_EPOCH_MS
from durableq.engines.sql.transactions import WriteTransaction
from durableq.model.flow.groups import Group, GroupSettings, wait_ms
from durableq.model.flow.rank import RANKS_PER_MS, weight
from durableq.model.message import State
from durableq.model.settings import Limits

GROUPS: Final = int(Limits.GROUPS)
_NONE: Final = Group()
_BLOCKED: Final = State.BLOCKED.value
_DELAYED: Final = State.DELAYED.value
#: Where a row of sql.INSERT_FLOW has what depends on the group.
_STATE, _DUE, _GROUP, _SEQUENCE = 2, 5, 13, 14

Row = tuple[Any, ...]


class Step(NamedTuple):
    """A change of a group's counts."""

    live: int = 0
    active: int = 0
    holding: int = 0

    def plus(self, other: Step) -> Step:
        """Return both changes as one."""
        return Step(*map(sum, zip(self, other, strict=True)))


PUT_BACK: Final = Step(active=-1)


def settings_of(tx: WriteTransaction, queue_id: int) -> GroupSettings:
    """Return the settings of a queue that groups need."""
    key = "settings", queue_id
    found: GroupSettings | None = tx.known.get(key)
    if found is None:
        found = tx.known[key] = GroupSettings(
            *tx.execute(tx.sql.GROUP_SETTINGS, (queue_id,)).fetchone()
        )
    return found


def enter(tx: WriteTransaction, queue_id: int, rows: Sequence[Row]) -> list[Row]:
    """Return messages that are sent as a queue with groups stores them.

    Args:
        tx: the transaction.
        queue_id: the queue.
        rows: the values for sql.INSERT, or for sql.INSERT_FLOW.
    """
    settings = settings_of(tx, queue_id)
    groups = _read(tx, queue_id, _names(row[_GROUP] for row in rows if len(row) > _GROUP))
    entered = []
    for row in rows:
        name = row[_GROUP] if len(row) > _GROUP else None
        values = [*row]
        if name:
            group = groups.get(name, _NONE)
            is_free = group.is_free(settings)
            groups[name] = group = group._replace(
                live=group.live + 1, active=group.active + is_free, sequence=group.sequence + 1
            )
            values[_SEQUENCE] = group.sequence
            if not is_free:
                values[_STATE] = _BLOCKED
            elif settings.group_rate and (until := _token_ms(tx, group, settings)) > row[_DUE]:
                values[_STATE], values[_DUE] = _DELAYED, until
        entered.append(tuple(values))
    write(tx, queue_id, groups)
    return entered


def take_steps(tx: WriteTransaction, steps: Iterable[tuple[int, str, Step]]) -> None:
    """Change the counts of groups, given by queue and name, in the queues that have groups."""
    by_queue: dict[int, dict[str, Step]] = {}
    for queue_id, name, step in steps:
        if tx.limits_of(queue_id) & GROUPS:
            of_queue = by_queue.setdefault(queue_id, {})
            of_queue[name] = of_queue.get(name, Step()).plus(step)
    for queue_id, of_queue in by_queue.items():
        change(tx, queue_id, of_queue)


def change(tx: WriteTransaction, queue_id: int, steps: Mapping[str, Step]) -> None:
    """Change the counts of groups, and make blocked messages active where there is room."""
    settings = settings_of(tx, queue_id)
    groups = _read(tx, queue_id, list(steps))
    room = {}
    for name, step in steps.items():
        group = groups.get(name, _NONE).after(**step._asdict())
        if number := group.room(settings):
            room[name] = number, _token_ms(tx, group, settings)
            group = group._replace(active=group.active + number)
        groups[name] = group
    if room and _make_active(tx, queue_id, settings, room) != sum(n for n, _ in room.values()):
        for name in room:  # other code than durableq has removed messages
            groups[name] = _recount(tx, queue_id, name, groups[name])
    write(tx, queue_id, groups)


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
        group = _read(tx, queue_id, [name]).get(name, _NONE)
        found |= {"to_state": _BLOCKED, "new_sequence": group.sequence + 1}
    return found


def sent_back(
    tx: WriteTransaction, source_id: int | None, target_id: int, name: str | None
) -> None:
    """Let a dead letter leave the group that it may hold, and enter that of its target."""
    if name is None:
        return
    steps = [(target_id, name, Step(live=1))]
    if source_id is not None:
        steps.append((source_id, name, Step(holding=-1)))
    take_steps(tx, steps)


def _make_active(
    tx: WriteTransaction,
    queue_id: int,
    settings: GroupSettings,
    room: Mapping[str, tuple[int, int]],
) -> int:
    """Make the next messages of groups active; return their number.

    Args:
        tx: the transaction.
        queue_id: the queue.
        settings: its settings.
        room: the number of messages, and the time of the next token, of each group.
    """
    turn, per_level = _turn(tx, queue_id), _weight(settings)
    rows = [
        (queue_id, name, number, tx.now_ms, until, turn, per_level)
        for name, (number, until) in room.items()
    ]
    return _run(tx, tx.sql.MAKE_ACTIVE, rows)


def _turn(tx: WriteTransaction, queue_id: int) -> int:
    """Return the rank of the heads that this transaction makes: behind all that wait.

    Times have milliseconds. Within one, each transaction has a turn of its own.
    """
    key = "turn", queue_id
    found: int | None = tx.known.get(key)
    if found is None:
        least = tx.now_ms * RANKS_PER_MS + 1
        (found,) = tx.execute(tx.sql.TAKE_TURN, (queue_id, least)).fetchone()
        tx.known[key] = found
    return found


def _weight(settings: GroupSettings) -> int:
    return weight(has_groups=True, aging_ms=settings.priority_aging_ms)


def _token_ms(tx: WriteTransaction, group: Group, settings: GroupSettings) -> int:
    """Return the time of a group's next token; 0: it has one."""
    left_ms = wait_ms(group, settings, tx.lease_now_ms - LEASE_EPOCH_MS)
    return tx.now_ms + left_ms if left_ms else 0


def _names(names: Iterable[str | None]) -> list[str]:
    return [*dict.fromkeys(filter(None, names))]


def _read(tx: WriteTransaction, queue_id: int, names: list[str]) -> dict[str, Group]:
    """Return the groups that there are."""
    if not names:
        return {}
    if len(names) == 1:
        text, listed = tx.sql.GROUPS_NAMED_ONE, names[0]
    else:
        text, listed = tx.sql.GROUPS_NAMED, tx.list_of(names)
    rows = tx.execute(text, (queue_id, listed)).fetchall()
    return {name: Group(*counts) for name, *counts in rows}


def write(tx: WriteTransaction, queue_id: int, groups: Mapping[str, Group]) -> None:
    """Store the counts of groups, and forget those that say nothing."""
    lease_ms = tx.lease_now_ms - LEASE_EPOCH_MS
    kept, dropped = [], []
    for name, group in groups.items():
        if group.is_needed(lease_ms):
            kept.append((queue_id, name, *group))
        else:
            dropped.append((queue_id, name))
    _run(tx, tx.sql.STORE_GROUP, kept)
    _run(tx, tx.sql.DROP_GROUP, dropped)


def _run(tx: WriteTransaction, text: str, rows: Sequence[Row]) -> int:
    """Run a statement for each row; return the number of rows that it changed."""
    if not rows:
        return 0
    single = len(rows) == 1  # which costs half as much
    done = tx.execute(text, rows[0]) if single else tx.raw.executemany(text, rows)
    number: int = done.rowcount
    return number


def _recount(tx: WriteTransaction, queue_id: int, name: str, group: Group) -> Group:
    live, active = tx.run(tx.sql.COUNT_GROUP, in_queue=queue_id, name=name).fetchone()
    return group._replace(live=live, active=active)
