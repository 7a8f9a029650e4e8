"""Limits inside a receive. Messages in flight are counted each time, not kept in a counter."""

from __future__ import annotations

from collections.abc import Sequence

from durableq.engines.memory import breaker
from durableq.engines.memory.base import MemoryBase
from durableq.engines.memory.tables import NOTHING_PAID, Row
from durableq.model.flow import retries
from durableq.model.flow.capacity import (
    Allowance,
    FlowState,
    allowance,
    charged,
    with_limited_debt,
)
from durableq.model.message import OVER_BUDGET_MS, Message, State
from durableq.model.settings import QueueSettings


class MemoryFlow(MemoryBase):
    """The limits of queues, evaluated by the rules in `durableq.model.flow`."""

    def _flow_state(self, queue: str) -> FlowState:
        settings, flow = self._queue(queue).settings, self._tables.flow.get(queue, NOTHING_PAID)
        rows = self._tables.in_queue(queue)
        return FlowState(
            settings.rate,
            settings.burst,
            settings.max_in_flight,
            settings.retry_share,
            settings.slow_start_ms,
            flow.tat_ns,
            flow.retry_credit,
            flow.delivered_at_ms,
            sum(row.state is State.IN_FLIGHT for row in rows),
            breaker.closed_at_ms(self._tables, queue),
        )

    def _allowance(self, queue: str, asked: int) -> Allowance:
        """Return the messages that a receive may lease now."""
        return allowance(self._flow_state(queue), asked, self._clock.lease_ms())

    def _charge(self, queue: str, messages: Sequence[Message]) -> None:
        """Pay for the messages that a receive has leased."""
        first = sum(message.receive_count == 1 for message in messages)
        state, now_ms = self._flow_state(queue), self._clock.lease_ms()
        self._tables.flow[queue] = charged(state, first, len(messages) - first, now_ms)

    def _hold_back(self, row: Row) -> None:
        """Let a retry wait that the retry budget does not cover."""
        due_ms = row.delayed_until_ms
        self._put(row, state=State.DELAYED, delayed_until_ms=OVER_BUDGET_MS, due_ms=due_ms)

    def _let_through(self, queue: str, number: int | None) -> None:
        """Make retries ready that the retry budget held back, the oldest first."""
        waiting = [row for row in self._tables.in_queue(queue) if row.over_budget]
        for row in waiting[:number]:
            self._put(row, state=State.READY, delayed_until_ms=row.due_ms, due_ms=None)

    def _retry_wait_ms(self, queue: str) -> int:
        state, now_ms = self._flow_state(queue), self._clock.lease_ms()
        return retries.wait_ms(state.retry_credit, state.delivered_at_ms, now_ms)

    def _settings_changed(self, queue: str, before: QueueSettings) -> None:
        """Bring the state of a queue's limits in line with its new settings."""
        after = self._queue(queue).settings
        if (before.rate, before.burst) != (after.rate, after.burst):
            paid = with_limited_debt(self._flow_state(queue), self._clock.lease_ms())
            self._tables.flow[queue] = paid
        was_limited = retries.is_limited(before.retry_share)
        if was_limited and not retries.is_limited(after.retry_share):
            self._let_through(queue, None)
