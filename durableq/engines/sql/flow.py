"""Limits of a queue inside a receive: how many messages may be leased, and what that costs.

The rules are in `durableq.model.flow`. A limit is read and charged in the transaction that leases,
under the write lock, so no two receives grant one token or one place in flight twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from durableq.engines.sql import breaker
from durableq.engines.sql.columns import (
    FEW_IN_FLIGHT,
    FLOW_COLUMNS,
    FLOW_STATE,
    PACE_COLUMNS,
    PREPAID_COLUMNS,
)
from durableq.engines.sql.transactions import StoredQueue, Transaction, WriteTransaction
from durableq.model.flow.capacity import (
    Allowance,
    FlowState,
    allowance,
    charged,
    with_limited_debt,
)
from durableq.model.flow.prepaid import Prepaid
from durableq.model.flow.retries import is_limited
from durableq.model.flow.retries import wait_ms as retry_wait_ms
from durableq.model.message import Message, of_fields
from durableq.model.settings import RECEIVE_LIMITS, Limits, QueueSettings

_BREAKER: Final = int(Limits.BREAKER)
_IN_FLIGHT: Final = int(Limits.IN_FLIGHT)
_RETRY_SHARE: Final = int(Limits.RETRY_SHARE)
_RATE: Final = int(Limits.RATE)
_FEW_IN_FLIGHT: Final = int(Limits.FEW_IN_FLIGHT)
#: Limits whose state RECEIVE_LIMITED does not read with the queue.
_READ_APART: Final = RECEIVE_LIMITS & ~(_RATE | _IN_FLIGHT | _FEW_IN_FLIGHT)
_ALL: Final = 1 << 62
#: Limits with a state that a receive changes.
_PAID: Final = _RATE | _RETRY_SHARE


#: The number of messages that a receive may lease, that of retries among them unless all may be,
#: the state of the limits before it or the tokens that are paid for (None: nothing is to be paid),
#: and the room that a breaker leaves unless it is closed. A named tuple would take 0.4 µs more.
Grant = tuple[int, int | None, FlowState | Prepaid | None, breaker.Probing | None]


def stored_limits(tx: Transaction, settings: QueueSettings) -> int:
    """Return the bits of a queue's limits, as its row has them."""
    limits = settings.limits
    if tx.has_one_writer and 0 < settings.max_in_flight <= FEW_IN_FLIGHT:
        limits = limits & ~Limits.IN_FLIGHT | Limits.FEW_IN_FLIGHT
    return int(limits)


def receive_text(tx: WriteTransaction, queue: str, limit: int) -> str:
    """Return the statement that reads a queue which is in `tx.limited`, for a receive."""
    ahead = tx.limited[queue]
    if ahead is None:
        return tx.sql.RECEIVE_FEW
    # The limit is checked later, as other queues' is.
    is_prepaid = type(limit) is int and ahead.covers(limit, tx.lease_now_ms)
    return tx.sql.RECEIVE_PREPAID if is_prepaid else tx.sql.RECEIVE_LIMITED


def prepaid_on(tx: WriteTransaction, queue: tuple[str, int, int]) -> Prepaid | None:
    """Return what this connection has paid for ahead on a queue; None: it pays for each receive."""
    name, _, limits = queue
    has_rate_alone = limits & RECEIVE_LIMITS == _RATE
    return tx.limited.get(name) if has_rate_alone and tx.has_one_writer else None


def state_of(tx: Transaction, queue_id: int, limits: int) -> FlowState:
    """Return the limits of a queue and their state.

    Args:
        tx: the transaction; its counters are written.
        queue_id: the queue.
        limits: the bits of those that are on.

    Raises:
        DatabaseUnusable: the state is not there.
    """
    text = tx.sql.FLOW_OF_BREAKER if limits & _BREAKER else tx.sql.FLOW
    found = tx.execute(text, (queue_id,)).fetchone()
    if found is None:
        raise breaker.missing_state()
    return of_fields(FlowState, found)


def of_settings(settings: QueueSettings, values: Iterable[int | None]) -> FlowState:
    """Return the limits of a queue and their state, from the columns of FLOW_STATE."""
    found = {name: value or 0 for name, value in zip(FLOW_STATE, values, strict=True)}
    limits = {name: getattr(settings, name) for name in FLOW_COLUMNS if name not in found}
    return FlowState(**limits, **found)


def grant(
    tx: WriteTransaction, queue: tuple[str, int, int], asked: int, found: Sequence[Any]
) -> Grant:
    """Return the number of messages that a receive may lease now.

    Args:
        tx: the transaction.
        queue: its name, its id, and the bits of the limits that are on.
        asked: the number that the caller asks for.
        found: what `receive_text` has read with the queue: its free places in flight,
            PREPAID_COLUMNS or PACE_COLUMNS; empty: all is read here.
    """
    name, queue_id, limits = queue
    if len(found) == 1 and limits & RECEIVE_LIMITS == _FEW_IN_FLIGHT:
        return max(0, min(asked, found[0])), None, None, None
    if len(found) == len(PREPAID_COLUMNS) and limits & RECEIVE_LIMITS == _RATE:
        ahead = tx.limited[name]
        if ahead is not None and ahead.of == (queue_id, *found):  # they cover what is asked
            return asked, None, ahead, None
    probing = None
    if len(found) == len(PACE_COLUMNS) and not (limits & _READ_APART or tx.counts):
        rate, burst, max_in_flight, tat_ns, in_flight = found
        if tat_ns is None:
            raise breaker.missing_state()
        state = of_fields(FlowState, (rate, burst, max_in_flight, 0, 0, tat_ns, 0, 0, in_flight, 0))
    else:
        if not limits & _READ_APART:
            has_few_alone = limits & RECEIVE_LIMITS == _FEW_IN_FLIGHT
            tx.limited[name] = None if has_few_alone else tx.limited.get(name) or Prepaid()
        tx.write_counters()
        if limits & _BREAKER:
            probing = breaker.room(tx, queue_id)
            if probing is not None:
                asked = min(asked, probing.places)
        state = state_of(tx, queue_id, limits)
    ahead = prepaid_on(tx, queue)
    paid = 0 if ahead is None else ahead.left((queue_id, state.rate, state.burst), tx.lease_now_ms)
    allowed = allowance(state, asked, tx.lease_now_ms, paid) if asked else Allowance(0)
    if allowed.retries:
        let_through(tx, queue_id, allowed.retries)
    return allowed.number, allowed.retries, state if limits & _PAID else None, probing


def charge(
    tx: WriteTransaction,
    queue: tuple[str, int, int],
    state: FlowState | Prepaid,
    messages: Sequence[Message],
) -> None:
    """Pay for the messages that a receive has leased, and for no others.

    Args:
        tx: the transaction.
        queue: its name, its id, and the bits of the limits that are on.
        state: as `grant` returned it.
        messages: the leased messages.
    """
    (_, queue_id, limits), number = queue, len(messages)
    if isinstance(state, Prepaid):
        state.take(number)
        return
    begun = tx.counts.pop((queue_id, tx.sql.IN_FLIGHT), 0) if tx.counts else 0
    if ahead := prepaid_on(tx, queue):
        of, now_ms = (queue_id, state.rate, state.burst), tx.lease_now_ms
        tat_ns = ahead.pay(of, number, state.tat_ns, now_ms, state.pace(now_ms))
        tx.execute(tx.sql.CHARGE_RATE, (tat_ns, begun, queue_id))
    elif not limits & _RETRY_SHARE:
        tat_ns, *_ = charged(state, number, 0, tx.lease_now_ms)
        tx.execute(tx.sql.CHARGE_RATE, (tat_ns, begun, queue_id))
    else:
        first = sum(message.receive_count == 1 for message in messages)
        paid = charged(state, first, number - first, tx.lease_now_ms)
        tx.execute(tx.sql.CHARGE, (*paid, begun, queue_id))


def let_through(tx: WriteTransaction, queue_id: int, retries: int) -> None:
    """Make retries ready that the retry budget held back, the oldest first."""
    tx.execute(tx.sql.LET_THROUGH, (queue_id, retries))


def waits_ms(
    tx: Transaction, queue_id: int, limits: int, due_ms: int | None, *, is_ready: bool
) -> list[int]:
    """Return the times until the limits let messages through; none: not before a lease ends.

    Args:
        tx: the transaction.
        queue_id: the queue.
        limits: the bits of those that are on.
        due_ms: the time until a message is due; None: none is delayed.
        is_ready: whether a message is ready.
    """
    state = state_of(tx, queue_id, limits)
    if limits & _RETRY_SHARE and tx.execute(tx.sql.HAS_OVER_BUDGET, (queue_id,)).fetchone():
        retry_ms = retry_wait_ms(state.retry_credit, state.delivered_at_ms, tx.lease_now_ms)
        due_ms = retry_ms if due_ms is None else min(due_ms, retry_ms)
    waits = [0] if is_ready else []
    if due_ms is not None:
        waits.append(due_ms)
    if limits & _BREAKER:
        waits = breaker.waits_ms(tx, queue_id, due_ms, is_ready=is_ready)
    allowed = allowance(state, 1, tx.lease_now_ms) if waits else Allowance(1)
    if allowed.number:
        return waits
    return [] if allowed.wait_ms is None else [max(wait, allowed.wait_ms) for wait in waits]


def count_leases(tx: WriteTransaction, queue_id: int, limits: int, number: int) -> None:
    """Count leases that began, or ended if `number` is negative, where they are limited."""
    if limits & _IN_FLIGHT:
        tx.count(queue_id, tx.sql.IN_FLIGHT, number)


def count_again(tx: WriteTransaction, queue_id: int) -> None:
    """Count the messages in flight, after all that this transaction has changed."""
    tx.execute(tx.sql.COUNT_IN_FLIGHT, (queue_id,))


def settings_changed(
    tx: WriteTransaction, row: StoredQueue, before: QueueSettings, after: QueueSettings
) -> None:
    """Bring the state of a queue's limits in line with new settings; `row` is of before."""
    queue_id = row.id
    if stored_limits(tx, after) & ~row.limits & _IN_FLIGHT:
        count_again(tx, queue_id)
    if (before.rate, before.burst) != (after.rate, after.burst):
        state = state_of(tx, queue_id, int(after.limits))
        paid = with_limited_debt(state, tx.lease_now_ms)
        tx.execute(tx.sql.CHARGE, (*paid, 0, queue_id))
    if is_limited(before.retry_share) and not is_limited(after.retry_share):
        let_through(tx, queue_id, _ALL)
