"""One queue's dead letters at a recovery process: leased a few at a time, and decided about."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

from durableq.errors import InvalidInput
from durableq.latch import Latch
from durableq.message import DeadLetter, Outcome, Receipt
from durableq.recovery.breaker import Phase, State
from durableq.recovery.gate import Gate
from durableq.recovery.leases import Leases
from durableq.recovery.policies import Judgment, Policies
from durableq.recovery.rate import Rate
from durableq.settings import dead_letter_name
from durableq.store import Store
from durableq.transient import Outage, persist
from durableq.verdict import Hold, Requeue, Retry, Verdict

T = TypeVar("T")

LETTERS_AT_ONCE: Final = 10
MOST_PUT_OFF: Final = 1_000
"""While the breaker lets nothing back, so many letters are looked through for others."""
REST_SECONDS: Final = 1.0
"""After that, new letters are looked through at most this often."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict on a letter, and what came of it."""

    letter: DeadLetter
    verdict: Verdict
    outcome: Outcome | None
    """None when it was only planned."""
    by: str = ""
    """Whose verdict it is: a rule with its line, or a Python policy."""


class Office(NamedTuple):
    """What all desks of a process share."""

    store: Store
    policies: Policies
    leases: Leases
    rate: Rate
    stopping: Latch
    holder: int
    actor: str
    on_decision: Callable[[Decision], None]
    outage: Outage
    once: bool = False
    """Whether the process ends when no letter is ready that may be decided about now."""

    def persist(self, call: Callable[[], T]) -> T | None:
        """Make a call until the file is not busy; None if it was stopped before."""
        return persist(call, self.stopping, self.outage)


class _Stand(NamedTuple):
    """How the breaker stood when it let a letter not pass."""

    phase: Phase
    since_ms: int
    probes: int

    @classmethod
    def of(cls, state: State) -> _Stand:
        return cls(state.phase, state.since_ms, len(state.probes))


class Desk:
    """One queue at a recovery process.

    Args:
        office: what it shares.
        queue: whose letters.
        gate: asked before one is sent back.
    """

    def __init__(self, office: Office, queue: str, gate: Gate) -> None:
        self._office = office
        self._letters = dead_letter_name(queue)
        self._gate = gate
        self._put_off: list[Receipt] = []
        """Leased while the others behind them are looked through, then given back untouched."""
        self._stand = _Stand(Phase.CLOSED, 0, 0)
        self._moved_in = 0
        self._rests_since: float | None = None
        self.decided = 0

    @property
    def letters(self) -> str:
        """The name of the dead-letter queue."""
        return self._letters

    def rests(self) -> bool:
        """Return whether there is nothing to do until the breaker allows, or new letters come."""
        if self._rests_since is None:
            return False
        state = self._gate.look()
        rested = time.monotonic() >= self._rests_since + REST_SECONDS
        if (_Stand.of(state) != self._stand and state.phase is not Phase.OPEN) or (
            rested and self._count_moved_in() != self._moved_in
        ):
            self._rests_since = None
        return self._rests_since is not None

    def rest_seconds(self, most: float) -> float:
        """Return when a rest should be looked at again."""
        left_ms = self._gate.left_ms()
        return min(most, left_ms / 1000) if self._rests_since is not None and left_ms else most

    def turn(self) -> int:
        """Look at a few letters; return their number, or 0 if none was ready."""
        if self.rests():
            return 0
        if not self._put_off and self._gate.state.phase is not Phase.CLOSED:
            self._moved_in = self._count_moved_in()
        letters = self._receive() if self._may_put_off else None
        if letters is None:
            self._begin_rest()
            return 0
        self._gate.look([letter for letter, _ in letters])
        for letter, receipt in letters:
            if self._office.stopping.is_set:
                break
            if self._office.leases.begin(receipt):
                self._decide(letter, receipt)
        return max(len(letters), 1)

    @property
    def _may_put_off(self) -> bool:
        """Whether more letters are looked through for others: with `once`, all of them."""
        return self._office.once or len(self._put_off) < MOST_PUT_OFF

    def _receive(self) -> list[tuple[DeadLetter, Receipt]] | None:
        """Lease a few letters; None if none is ready, an empty list if others may be."""
        store, leases = self._office.store, self._office.leases
        with leases.settled():
            if store.ready_in_ms([self._letters]) != 0:  # to receive is to write
                return None
        limit = self._office.rate.at_once(LETTERS_AT_ONCE)
        received = store.receive(self._letters, limit, holder=self._office.holder)
        if received.idle:
            return None
        leases.take(received.messages)
        letters = []
        for message in received.messages:
            letter = store.dead_letter(message.id)
            if letter is not None and message.receipt is not None:
                letters.append((letter, message.receipt))
            elif message.receipt is not None:
                leases.let_go([message.receipt])  # decided by a person, or purged, since
        return letters

    def _decide(self, letter: DeadLetter, receipt: Receipt) -> None:
        office = self._office
        judgment = office.policies.judge(letter)
        if isinstance(judgment.verdict, (Retry, Requeue)) and not self._may_send(letter):
            if not office.stopping.is_set:
                self._put_off.append(receipt)
                self._stand = _Stand.of(self._gate.state)
            return
        decision = office.persist(lambda: self._apply(letter, receipt, judgment))
        if decision is not None:
            office.leases.let_go([receipt])
            self.decided += 1
            office.on_decision(decision)

    def _may_send(self, letter: DeadLetter) -> bool:
        """Wait for a turn, and ask the breaker; False also if it was stopped meanwhile."""
        return (
            self._gate.would_admit(letter)
            and self._office.rate.wait(self._office.stopping)
            and bool(self._office.persist(lambda: self._gate.admit(letter)))
        )

    def _apply(self, letter: DeadLetter, receipt: Receipt, judgment: Judgment) -> Decision:
        verdict, (store, actor) = judgment.verdict, (self._office.store, self._office.actor)
        try:
            (outcome,) = store.decide([(receipt, verdict)], actor=actor)
        except InvalidInput as error:  # a changed body over the queue's limit
            verdict = Hold(f"the policy's verdict cannot be applied: {error}")
            (outcome,) = store.decide([(receipt, verdict)], actor=actor)
        return Decision(letter, verdict, outcome, judgment.by)

    def _begin_rest(self) -> None:
        """Nothing is left to look through: what was put off goes back, and waits."""
        if not self._put_off:
            return
        self._office.leases.give_back(self._put_off)
        self._put_off = []
        self._rests_since = time.monotonic()

    def _count_moved_in(self) -> int:
        return self._office.store.queue(self._letters).totals.moved_in
