"""Circuit breakers of queues, looked at and changed by hand."""

from __future__ import annotations

from durableq.engines.sql import breaker
from durableq.engines.sql.dead_letters import histories
from durableq.engines.sql.queries import find_queue
from durableq.engines.sql.transactions import Operations, StoredQueue, Transaction
from durableq.model.flow.queue_breaker import At, QueueBreaker, by_hand
from durableq.model.info import BreakerInfo, no_breaker
from durableq.model.settings import Limits


class SQLBreakers(Operations):
    """The circuit breakers of the capability of control, in SQL."""

    def breaker(self, queue: str) -> BreakerInfo:
        """Return the circuit breaker of a queue."""
        with self._database.read() as tx:
            row = find_queue(tx, queue)
            return _info(tx, row, breaker.find(tx, row.id).state)

    def set_breaker(
        self, queue: str, *, is_open: bool, open_ms: int | None = None, actor: str = ""
    ) -> BreakerInfo:
        """Open or close the circuit breaker of a queue."""
        with self._database.write() as tx:
            row = tx.queue(queue)
            if not row.limits & Limits.BREAKER:
                raise no_breaker(queue)
            while True:
                stored = breaker.find(tx, row.id)
                at = At(tx.lease_now_ms, stored.completed, tx.rng())
                after = by_hand(stored.state, at, stored, actor, open_ms, is_open=is_open)
                if breaker.save(tx, row.id, stored.state, after, actor):
                    return _info(tx, row, after)


def _info(tx: Transaction, row: StoredQueue, state: QueueBreaker) -> BreakerInfo:
    transitions = histories(tx, [-row.id]).get(-row.id, [])
    is_on = bool(row.limits & Limits.BREAKER)
    info = BreakerInfo.of(row.name, state, tx.lease_now_ms, transitions, is_on=is_on)
    return tx.shown(info)
