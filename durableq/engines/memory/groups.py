"""Groups: which of their messages are active, and which of them are blocked.

Nothing is counted here: after each change of a group its messages are looked at again.
"""

from __future__ import annotations

from collections import Counter

from durableq.engines.memory.tables import Queue, Row, Tables
from durableq.model.flow.groups import (
    Group,
    GroupSettings,
    charged,
    limited_debt,
    tokens,
    wait_ms,
)
from durableq.model.flow.rank import RANKS_PER_MS, rank, weight
from durableq.model.message import State
from durableq.model.settings import QueueSettings


def settings_of(settings: QueueSettings) -> GroupSettings:
    """Return the settings of a queue that groups need."""
    return GroupSettings(*(getattr(settings, name) for name in GroupSettings._fields))


def is_grouped(queue: Queue, row: Row) -> bool:
    """Return whether a message takes part in the groups of its queue."""
    return row.group is not None and bool(queue.settings.group_concurrency)


def members(tables: Tables, queue: str, name: str | None) -> list[Row]:
    """Return the messages of a group in a queue, in their order."""
    rows = [row for row in tables.in_queue(queue) if row.group == name and name is not None]
    return sorted(rows, key=lambda row: (row.sequence, int(row.id)))


def count(tables: Tables, queue: str, name: str) -> Group:
    """Return the counts of a group."""
    dead = [row for row in tables.rows.values() if row.source_queue == queue and row.group == name]
    return Group(
        active=sum(row.state is not State.BLOCKED for row in members(tables, queue, name)),
        holding=len(dead),
        tat_ns=tables.group_tats.get((queue, name), 0),
    )


def enter(tables: Tables, row: Row, now_ms: int, lease_ms: int) -> Row:
    """Return a message that is sent as its queue stores it."""
    queue, name = tables.queues[row.queue], row.group
    due_ms = max(now_ms, row.delayed_until_ms)
    rank = rank_of(queue.settings, row.draft.priority, due_ms)
    row = row._replace(rank=rank, sequence=int(row.id))
    if name is None or not is_grouped(queue, row):
        return row
    group, settings = count(tables, row.queue, name), settings_of(queue.settings)
    if not group.room(settings):
        return row._replace(state=State.BLOCKED)
    until_ms = now_ms + wait_ms(group.tat_ns, settings, lease_ms)
    if until_ms > max(now_ms, row.delayed_until_ms):
        return row._replace(state=State.DELAYED, delayed_until_ms=until_ms)
    return row


def fill(tables: Tables, queue: str, name: str, now_ms: int, lease_ms: int) -> list[Row]:
    """Make blocked messages of a group active where there is room; return them."""
    settings = settings_of(tables.queues[queue].settings)
    group = count(tables, queue, name)
    room = group.room(settings) or _room_before_leased(tables, queue, name, group)
    if not room:
        return []
    left_ms = wait_ms(group.tat_ns, settings, lease_ms)
    until_ms = now_ms + left_ms if left_ms else 0
    blocked = [row for row in members(tables, queue, name) if row.state is State.BLOCKED]
    heads = []
    for row in blocked[:room]:
        due_ms = max(row.delayed_until_ms, until_ms)
        state = State.DELAYED if due_ms > now_ms else State.READY
        heads.append(row._replace(state=state, delayed_until_ms=due_ms))
    return heads


def _room_before_leased(tables: Tables, queue: str, name: str, group: Group) -> int:
    """Return 1 if the first message that waits is before all that are active, and they leased.

    As in SQS, a message that comes back does not wait there for those behind it in its batch.
    """
    settings = tables.queues[queue].settings
    is_held = not group._replace(active=0).room(settings_of(settings))
    rows = members(tables, queue, name)
    if is_held or not settings.bury_at or not rows:
        return 0
    active = {row.state for row in rows if row.state is not State.BLOCKED}
    has_returned = rows[0].state is State.BLOCKED and rows[0].receive_count > 0
    return int(has_returned and active == {State.IN_FLIGHT})


def next_turn(last: int, now_ms: int) -> int:
    """Return the rank of heads that are made in one transaction, behind those made before."""
    return max(last + 1, now_ms * RANKS_PER_MS + 1)


def rank_of(settings: QueueSettings, priority: int, at_ms: int) -> int:
    """Return the rank of a message that is due at a time."""
    has_groups, aging_ms = bool(settings.group_concurrency), settings.priority_aging_ms
    return rank(priority, at_ms, has_groups=has_groups, aging_ms=aging_ms)


def rank_of_head(settings: QueueSettings, priority: int, turn: int) -> int:
    """Return the rank of a message that becomes a head."""
    return turn - priority * weight(has_groups=True, aging_ms=settings.priority_aging_ms)


def token_wait_ms(tables: Tables, row: Row, lease_ms: int, granted: Counter[str]) -> int:
    """Take a token of a message's group; return the time until there is one, or 0.

    Args:
        tables: the tables.
        row: the message.
        lease_ms: the lease clock.
        granted: the tokens that this receive has taken, by group.
    """
    settings, name = tables.queues[row.queue].settings, row.group
    if name is None or not settings.group_rate:
        return 0
    tat_ns = tables.group_tats.get((row.queue, name), 0)
    if granted[name] < tokens(tat_ns, settings, lease_ms):
        granted[name] += 1
        return 0
    return wait_ms(charged(tat_ns, settings, lease_ms, granted[name]), settings, lease_ms)


def charge(tables: Tables, queue: str, lease_ms: int, granted: Counter[str]) -> None:
    """Pay for the tokens that a receive has taken."""
    settings = tables.queues[queue].settings
    for name, number in granted.items():
        tat_ns = tables.group_tats.get((queue, name), 0)
        tables.group_tats[queue, name] = charged(tat_ns, settings, lease_ms, number)


def block(tables: Tables, queue: str) -> None:
    """Block what is too much of each group, when a queue gets groups or its limit is lowered."""
    concurrency = tables.queues[queue].settings.group_concurrency
    rows = tables.in_queue(queue)
    for name in {row.group for row in rows if row.group is not None}:
        group = members(tables, queue, name)
        group.sort(key=lambda row: row.state is not State.IN_FLIGHT)
        for row in group[concurrency:]:
            if row.state not in {State.IN_FLIGHT, State.BLOCKED}:
                due_ms = row.due_ms or 0 if row.over_budget else row.delayed_until_ms
                tables.rows[row.id] = row._replace(
                    state=State.BLOCKED,
                    deferred=False,
                    delayed_until_ms=0 if row.deferred else due_ms,
                    due_ms=None,
                )


def unblock(tables: Tables, queue: str, now_ms: int) -> None:
    """Make all blocked messages of a queue ready or delayed, when it has no groups any more."""
    for row in tables.in_queue(queue):
        if row.state is State.BLOCKED:
            state = State.DELAYED if row.delayed_until_ms > now_ms else State.READY
            tables.rows[row.id] = row._replace(state=state)


def rank_again(tables: Tables, queue: str) -> None:
    """Rank all messages of a queue by the time at which each became due."""
    settings = tables.queues[queue].settings
    for row in tables.in_queue(queue):
        until_ms = row.delayed_until_ms if row.due_ms is None else row.due_ms
        due_ms = max(row.enqueued_at_ms, until_ms)
        rank = rank_of(settings, row.draft.priority, due_ms)
        tables.rows[row.id] = row._replace(rank=rank)


def cut_debts(tables: Tables, queue: str, lease_ms: int) -> None:
    """Let a changed rate apply at once: a group owes at most one burst of it."""
    settings = tables.queues[queue].settings
    for (name, group), tat_ns in tables.group_tats.items():
        if name == queue:
            tables.group_tats[name, group] = limited_debt(tat_ns, settings, lease_ms)
