"""Which messages are ready, and waiting for them."""

from __future__ import annotations

from collections.abc import Sequence

from durableq.engines.memory import breaker
from durableq.engines.memory.base import query
from durableq.engines.memory.flow import MemoryFlow
from durableq.engines.memory.tables import Row
from durableq.engines.memory.watch import MemoryWatch
from durableq.model.message import Ready, State


class MemoryWaiting(MemoryFlow):
    """Ready messages, the time until there are some, and watches."""

    def _ready(self, queue: str) -> list[Row]:
        """Return the ready messages of a queue, in the order of delivery."""
        ready = [row for row in self._tables.in_queue(queue) if row.state is State.READY]
        return sorted(ready, key=lambda row: (row.rank, int(row.id)))

    @query
    def ready_in_ms(self, queues: Sequence[str]) -> int | None:
        """Return the time until a receive on one of these may return a message."""
        waits = [
            self._ready_in_ms(name, row)
            for name in queues
            if not self._queue(name).settings.paused
            for row in self._tables.in_queue(name)
            if not row.held and row.state is not State.BLOCKED
        ]
        return min((one for one in waits if one is not None), default=None)

    @query
    def count_ready(self, queue: str, limit: int) -> Ready:
        """Count the messages that a receive may find ready, at most `limit`."""
        self._queue(queue)
        now_ms, lease_now_ms = self._clock.now_ms(), self._clock.lease_ms()
        waits = [now_ms - row.retained_from_ms for row in self._ready(queue)[:limit]]
        rows = self._tables.in_queue(queue)
        delayed = [row.delayed_until_ms for row in rows if row.state is State.DELAYED]
        waits += [now_ms - due_ms for due_ms in sorted(delayed)[:limit] if due_ms <= now_ms]
        ends = sorted(row.lease.until_ms for row in rows if row.lease)
        waits += [lease_now_ms - end_ms for end_ms in ends[:limit] if end_ms <= lease_now_ms]
        return Ready(min(limit, len(waits)), max(waits, default=0))

    def _ready_in_ms(self, queue: str, row: Row) -> int | None:
        """Return the time until a receive may lease a message, or end its lease."""
        if row.lease is not None:
            return self._lease_left_ms(row)
        message_ms: int | None = 0
        if row.over_budget:
            message_ms = self._retry_wait_ms(queue)
        elif row.state is State.DELAYED:
            message_ms = max(0, row.delayed_until_ms - self._clock.now_ms())
        if self._queue(queue).settings.breaker:
            ready = self._ready(queue)
            message_ms = breaker.wait_ms(self._tables, row, message_ms or 0, ready, self._now())
        allowed = self._allowance(queue, 1)
        if allowed.number or message_ms is None:
            return message_ms
        return None if allowed.wait_ms is None else max(message_ms, allowed.wait_ms)

    def watch(self) -> MemoryWatch:
        """Start watching for writes."""
        with self._lock:
            watch = MemoryWatch(on_close=self._forget_watch)
            self._watches.add(watch)
            return watch

    def _forget_watch(self, watch: MemoryWatch) -> None:
        with self._lock:
            self._watches.discard(watch)

    def close(self) -> None:
        """Do nothing: the messages live as long as this object."""
