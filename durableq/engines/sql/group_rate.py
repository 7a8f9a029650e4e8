"""The rate of each group inside a receive: a token for each message that is leased."""

from __future__ import annotations

from collections import Counter

from durableq.engines.sql.columns import LEASE_EPOCH_MS
from durableq.engines.sql.groups import counts_of, settings_of
from durableq.engines.sql.transactions import WriteTransaction
from durableq.model.flow.groups import charged, tokens, wait_ms


class GroupTokens:
    """The tokens that one receive takes.

    Args:
        tx: its transaction.
        queue_id: the queue.
    """

    def __init__(self, tx: WriteTransaction, queue_id: int) -> None:
        self._tx, self._queue_id = tx, queue_id
        self._settings = settings_of(tx, queue_id)
        self._lease_ms = tx.lease_now_ms - LEASE_EPOCH_MS
        #: Theoretical arrival times before this receive.
        self._tats: dict[str, int] = {}
        self._taken: Counter[str] = Counter()

    def take(self, name: str, most: int = 1) -> int:
        """Take up to `most` tokens of a group; return their number."""
        number = min(most, self.left(name))
        self._taken[name] += number
        return number

    def until_ms(self, name: str) -> int:
        """Return the time of a group's next token."""
        tat_ns = charged(self._tats[name], self._settings, self._lease_ms, self._taken[name])
        return self._tx.now_ms + wait_ms(tat_ns, self._settings, self._lease_ms)

    def pay(self) -> None:
        """Store what was taken. A message that was taken, but not leased, is paid for too."""
        for name, number in self._taken.items():
            if number:
                tat_ns = charged(self._tats[name], self._settings, self._lease_ms, number)
                self._tx.execute(self._tx.sql.PAY_TOKENS, (tat_ns, self._queue_id, name))

    def left(self, name: str) -> int:
        """Return the tokens of a group that are left."""
        if name not in self._tats:
            self._tats[name] = counts_of(self._tx, self._queue_id, name).tat_ns
        return tokens(self._tats[name], self._settings, self._lease_ms) - self._taken[name]
