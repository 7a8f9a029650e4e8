"""Tokens of a rate that a process pays for ahead of its receives.

To pay is to write the state of the limits, a page that a receive does not write otherwise. A
process that leases many messages pays for some of the next ones too, and takes them without writing
anything. It must take them within a few milliseconds, and pays as one who takes all of them at the
end of that time: the theoretical arrival time is at least that end, plus an interval for each
token. So a window of any length has no more tokens than burst + rate x window, wherever in it they
are taken. Tokens that are not taken, because the process has nothing to lease or is killed, are
lost: at most half of those that it would take in `MOST_MS` at its pace, and never more than the
rate has in that time.
"""

from __future__ import annotations

from typing import Final

from durableq.model.flow import rate

#: The longest time for which tokens are paid ahead.
MOST_MS: Final = 10
#: The least number of tokens that is worth it.
LEAST: Final = 4
_NS_PER_MS: Final = 1_000_000


class Prepaid:
    """The tokens that one connection has paid for ahead, on one queue. None to begin with."""

    __slots__ = ("_from_ms", "_left", "_since_ms", "_taken", "_until_ms", "of")

    def __init__(self) -> None:
        #: The queue's id, its rate and its burst, as they were paid for.
        self.of: tuple[int, float, int] | None = None
        self._left = 0
        self._from_ms = self._until_ms = 0
        #: The tokens taken since the last payment, which tell the pace.
        self._taken = 0
        self._since_ms = 0

    def covers(self, number: int, now_ms: int) -> bool:
        """Return whether so many tokens may be taken now, if rate and burst are the same."""
        return number <= self._left and self._from_ms <= now_ms <= self._until_ms

    def left(self, of: tuple[int, float, int], now_ms: int) -> int:
        """Return the number of tokens that may be taken now.

        Args:
            of: the id of the queue, its rate and its burst, as they are now.
            now_ms: the lease clock.
        """
        if of != self.of or not self._from_ms <= now_ms <= self._until_ms:
            return 0
        return self._left

    def take(self, number: int) -> None:
        """Take tokens, at most those that are left."""
        self._left -= number
        self._taken += number

    def pay(
        self,
        of: tuple[int, float, int],
        number: int,
        tat_ns: int,
        now_ms: int,
        pace: tuple[int, int],
    ) -> int:
        """Pay for messages that were leased, and for some of the next; take what is left first.

        Args:
            of: as for `left`.
            number: the leased messages, at most what is left and available.
            tat_ns: the theoretical arrival time.
            now_ms: the lease clock.
            pace: the price of a token in nanoseconds, and the burst.

        Returns:
            The theoretical arrival time to store.
        """
        left = self.left(of, now_ms)
        prepaid = min(number, left)
        self.take(prepaid)
        due = number - prepaid
        hold_ms, ahead = (0, 0) if left > prepaid else self._ahead(due, tat_ns, now_ms, pace)
        self.of, self._left = of, left - prepaid + ahead
        if ahead:
            self._from_ms, self._until_ms = now_ms, now_ms + hold_ms
        self._taken, self._since_ms = due, now_ms
        return rate.charge(tat_ns, now_ms + hold_ms, pace[0], due + ahead)

    def _ahead(self, due: int, tat_ns: int, now_ms: int, pace: tuple[int, int]) -> tuple[int, int]:
        """Return for how many ms, and how many tokens, to pay ahead after a number that is due."""
        interval_ns, burst = pace
        hold_ms = min(MOST_MS, burst * interval_ns // (10 * _NS_PER_MS))
        passed_ms = now_ms - self._since_ms
        if not hold_ms or not 0 <= passed_ms <= 4 * MOST_MS:
            return 0, 0
        expected = self._taken * hold_ms // max(1, passed_ms) // 2
        begins_ns = max(tat_ns, (now_ms + hold_ms + 1) * _NS_PER_MS)
        room = (now_ms * _NS_PER_MS + burst * interval_ns - begins_ns) // interval_ns - due
        ahead = min(expected, hold_ms * _NS_PER_MS // interval_ns, room)
        return (hold_ms, ahead) if ahead >= LEAST else (0, 0)
