"""The faults that meet the limits of queues: a holder of the last of one dies, a service is down.

`Limits` tells which messages in flight hold the last of a limit.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import ClassVar, Final

from durableq.model.flow.info import LimitsInfo
from durableq.testing.chaos.faults import Fault, Limit, Phase, Targets, killed
from durableq.testing.chaos.ledger import Step
from durableq.testing.chaos.limited import CALLS, STEPS, begin_outage, end_outage
from durableq.testing.chaos.recording import HALF_OPEN, Watch

#: The service is down for at least so long.
OUTAGE_SECONDS: Final = 2.0


class Limits:
    """The limits of the queues as they stand.

    Args:
        watch: reads the file.
        limits: returns the limits of a queue.
    """

    def __init__(self, watch: Watch, limits: Callable[[str], LimitsInfo]) -> None:
        self._watch = watch
        self._limits = limits

    def holders(self, limit: Limit) -> list[tuple[str, str]]:
        """Return the messages in flight, with their receipts, that hold the last of a limit."""
        if limit is Limit.HEAD:
            return [held[:2] for held in self._watch.holders(STEPS) if held.is_head]
        holders = [held[:2] for held in self._watch.holders(CALLS)]
        if limit is Limit.PROBE:
            return holders if self._watch.stand(CALLS).breaker == HALF_OPEN else []
        now = self._limits(CALLS)
        is_last = now.tokens == 0 if limit is Limit.TOKEN else now.in_flight == now.places
        return holders[:1] if is_last else []


class KillHolder(Fault):
    """SIGKILL of a worker whose handler has a message that holds the last of a limit."""

    limit: ClassVar[Limit]
    proof = "the file says so before, and its handler had not reached its end when it was dead"

    def advance(self, targets: Targets) -> Phase:
        """Kill a holder if there is one."""
        return Phase.HAPPENED if _kill_holder(targets, self) else Phase.WAITING


class KillLastToken(KillHolder):
    """A message took the last token of the rate."""

    name = "last_token"
    limit = Limit.TOKEN
    does = "a worker is killed with the message that took the last token"


class KillLastPlace(KillHolder):
    """A message has the last place in flight."""

    name = "last_place"
    limit = Limit.PLACE
    does = "a worker is killed with the message that has the last place in flight"


class KillHead(KillHolder):
    """A message is the head of a group, and others wait behind it."""

    name = "group_head"
    limit = Limit.HEAD
    does = "a worker is killed with the head of a group, while others wait behind it"


class Outage(KillHolder):
    """The service of the calls is down until a worker that holds a probe was killed.

    The circuit breaker must open, probe, lose that probe, and close when the service is back.
    """

    name = "outage"
    limit = Limit.PROBE
    does = "a service is down, and a worker is killed with a probe of the half-open breaker"

    def __init__(self) -> None:
        self._until = 0.0
        self._killed = False

    def advance(self, targets: Targets) -> Phase:
        """Begin the outage, kill a prober, end the outage."""
        if not self._until:
            begin_outage(targets.folder)
            self._until = time.monotonic() + OUTAGE_SECONDS
        self._killed = self._killed or _kill_holder(targets, self)
        if not self._killed or time.monotonic() < self._until:
            return Phase.UNDERWAY
        end_outage(targets.folder)
        return Phase.HAPPENED


def _kill_holder(targets: Targets, fault: KillHolder) -> bool:
    """Kill a worker whose handler holds the last of the limit; return whether that happened."""
    holders = targets.holders(fault.limit)
    for victim in targets.killable() if holders else ():
        held = targets.attempt(victim, Step.INVOKE)
        if held is None or (held.message_id, held.receipt) not in holders:
            continue
        if killed(victim):
            targets.note_kill(victim)
            if targets.attempt(victim, Step.INVOKE) == held:
                targets.record(fault.name, victim, held)
                return True
        return False
    return False
