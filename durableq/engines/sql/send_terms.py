"""The settings of a queue that give a message its expiry and its rank: at send and at redrive."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from durableq.engines.sql.transactions import WriteTransaction
from durableq.model.flow import rank
from durableq.model.message import FOREVER_MS
from durableq.model.settings import Limits

#: The limits with which the terms are others than those of a queue without limits.
WITH_TERMS: Final = int(Limits.EXPIRY | Limits.AGING | Limits.GROUPS)
#: Those in which ranks are times.
RANKED_BY_TIME: Final = int(Limits.AGING | Limits.GROUPS)
_READ: Final = int(Limits.EXPIRY | Limits.AGING)


_RANK, _PRIORITY, _DUE = 3, 4, 7


class SendTerms(NamedTuple):
    """The terms of new messages of a queue. A time of 0 is off."""

    expires_in_ms: int = 0
    aging_ms: int = 0
    has_groups: bool = False

    def ranked(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the values of a message, for sql.INSERT or sql.INSERT_FLOW, with its rank."""
        return *row[:_RANK], self._rank(row[_PRIORITY], row[_DUE]), *row[_RANK + 1 :]

    def _rank(self, priority: int, due_ms: int) -> int:
        return rank.rank(priority, due_ms, has_groups=self.has_groups, aging_ms=self.aging_ms)

    def of_redriven(self, due_ms: int) -> dict[str, int]:
        """Return the values of sql.REDRIVE for a message that is due at a time.

        The time that its sender gave it has ended with its death.
        """
        return {
            "expires_at_ms": due_ms + self.expires_in_ms if self.expires_in_ms else FOREVER_MS,
            "base": self._rank(0, due_ms),
            "weight": rank.weight(has_groups=self.has_groups, aging_ms=self.aging_ms),
        }


NO_TERMS: Final = SendTerms()


def send_terms(tx: WriteTransaction, queue_id: int, limits: int) -> SendTerms:
    """Return the terms of a queue with these limits; without a query if there are none."""
    has_groups = bool(limits & Limits.GROUPS)
    if not limits & _READ:
        return SendTerms(has_groups=has_groups)
    expires_in_ms, aging_ms = tx.execute(tx.sql.AT_SEND, (queue_id,)).fetchone()
    return SendTerms(expires_in_ms, aging_ms, has_groups)
