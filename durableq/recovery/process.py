"""The process that applies verdicts: receive a letter under a lease, decide, in one transaction.

Several of them are safe side by side: a letter is leased by one at a time, and a verdict is
fenced by the receipt.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from durableq.app import DurableQ
from durableq.errors import PASSING, AppError, InvalidInput
from durableq.latch import Latch
from durableq.message import DeadLetter, Outcome, Receipt
from durableq.processes import this_process
from durableq.recovery.policy import judge
from durableq.settings import dead_letter_name
from durableq.verdict import Hold, Verdict

log = logging.getLogger("durableq.recovery")

LETTERS_AT_ONCE: Final = 10
PAGE: Final = 100
IDLE_SECONDS: Final = 0.2
BUSY_PAUSE_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict on a letter, and what came of it."""

    letter: DeadLetter
    verdict: Verdict
    outcome: Outcome | None
    """None when it was only planned."""


class Recovery:
    """Recovers the dead letters of an application's queues.

    Args:
        app: the application with the policies.
        queues: which source queues; empty means all that have a policy.

    Raises:
        AppError: there is no policy, or none for a queue that was named.
    """

    def __init__(self, app: DurableQ, *, queues: tuple[str, ...] = ()) -> None:
        if not app.policies:
            raise AppError(
                "The application holds no recovery policy: decorate one with @dq.recovery(QUEUE)."
            )
        for queue in queues:
            if queue not in app.policies:
                known = ", ".join(sorted(app.policies))
                raise AppError(f"No recovery policy for queue {queue!r}; there is: {known}.")
        self._app = app
        self._queues = queues or tuple(app.policies)
        self._name = f"recovery:{os.getpid()}"
        self.stopping = Latch()
        """Set it, from a signal handler too, to finish the letter in hand and stop."""

    def plan(self) -> Iterator[Decision]:
        """Return what would be decided now. Nothing is leased, nothing is written."""
        store = self._app.store
        for queue in self._queues:
            after: str | None = None
            while page := store.peek(dead_letter_name(queue), PAGE, after):
                after = page[-1].id
                for message in page:
                    letter = store.dead_letter(message.id)
                    if letter is not None and not message.held:
                        yield Decision(letter, self._judge(letter), None)

    def run(self, *, once: bool, on_decision: Callable[[Decision], None]) -> int:
        """Decide about dead letters until told to stop; return how many were decided.

        Args:
            once: stop when no letter is ready.
            on_decision: called after each verdict was committed, or refused.
        """
        store = self._app.store
        holder = store.register(this_process(self._name)).holder
        decided = 0
        try:
            while not self.stopping.is_set:
                try:
                    now = sum(self._turn(queue, holder, on_decision) for queue in self._queues)
                except PASSING as error:
                    log.warning("%s", error)
                    self.stopping.wait(BUSY_PAUSE_SECONDS)
                    continue
                decided += now
                if not now:
                    if once:
                        break
                    self.stopping.wait(IDLE_SECONDS)
        finally:
            store.unregister(holder)
        return decided

    def _turn(self, queue: str, holder: int, on_decision: Callable[[Decision], None]) -> int:
        """Decide about a few letters of one queue; return how many."""
        store = self._app.store
        received = store.receive(dead_letter_name(queue), LETTERS_AT_ONCE, holder=holder)
        decided = 0
        for message in received.messages:
            letter = store.dead_letter(message.id)
            if letter is None or message.receipt is None:
                continue  # decided by a person, or purged, since
            if self.stopping.is_set:
                store.release([message.receipt])
                continue
            on_decision(self._decide(letter, message.receipt))
            decided += 1
        return decided

    def _decide(self, letter: DeadLetter, receipt: Receipt) -> Decision:
        verdict = self._judge(letter)
        try:
            (outcome,) = self._app.store.decide([(receipt, verdict)], actor=self._name)
        except InvalidInput as error:  # a changed body over the queue's limit
            verdict = Hold(f"the policy's verdict cannot be applied: {error}")
            (outcome,) = self._app.store.decide([(receipt, verdict)], actor=self._name)
        return Decision(letter, verdict, outcome)

    def _judge(self, letter: DeadLetter) -> Verdict:
        return judge(letter, self._app.policies[letter.source_queue])
