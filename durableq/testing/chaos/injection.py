"""The injection of faults: a table of kinds, and a seeded plan."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

import psutil

from durableq.testing.chaos.faults import Fault, Kill, Phase, Stop, Targets
from durableq.testing.chaos.limit_faults import KillHead, KillLastPlace, KillLastToken, Outage
from durableq.testing.chaos.limited import end_outage
from durableq.testing.chaos.server_faults import ServerFault


class Kind(NamedTuple):
    """The share of a kind of fault, and the time in which it is due."""

    fault: type[Fault]
    #: Its number in each five faults.
    share: int
    #: The part of the run, from its start, in which its faults are due.
    until: float


KINDS: Final[Mapping[str, Kind]] = {
    Kill.name: Kind(Kill, 4, 1.0),
    # A stop takes as long as a lease, and may have to be repeated while there are messages.
    Stop.name: Kind(Stop, 1, 0.5),
}


#: Each happens once in a run with faults, in the first half of its time.
ONCE: Final[Mapping[str, type[Fault]]] = {
    fault.name: fault for fault in (KillLastToken, KillLastPlace, KillHead, Outage)
}


class Planned(NamedTuple):
    """A fault, and the number of seconds after the start at which it is due."""

    due: float
    fault: Fault


def plan(
    number: int, seconds: float, rng: random.Random, of_server: Sequence[type[ServerFault]] = ()
) -> list[Planned]:
    """Return a number of faults of all kinds, by their shares, at random times.

    If there are any, each fault that happens once comes on top, and faults of a server.

    Args:
        number: of the faults of workers.
        seconds: the length of the run.
        rng: chooses the times.
        of_server: the kinds of faults that its server can have.
    """
    shares = [kind for kind in KINDS.values() for _ in range(kind.share)]
    kinds = [shares[at % len(shares)] for at in range(number)]
    found = [Planned(rng.uniform(0, kind.until * seconds), kind.fault()) for kind in kinds]
    if number:
        found += [Planned(rng.uniform(0, 0.5 * seconds), fault()) for fault in ONCE.values()]
    for fault in of_server if number else ():
        times = max(1, round(fault.share * number))
        found += [Planned(rng.uniform(0, seconds), fault()) for _ in range(times)]
    return sorted(found, key=lambda planned: planned.due)


class Injector:
    """Injects the faults of a plan, each when it is due or as soon after as there is a worker.

    Args:
        planned: the faults.
        targets: the workers.
    """

    def __init__(self, planned: list[Planned], targets: Targets) -> None:
        self._ahead = dict.fromkeys(sorted(planned, key=lambda one: one.due), Phase.WAITING)
        self._targets = targets
        self._started = time.monotonic()
        #: The number of planned faults, by kind.
        self.asked = Counter(fault.name for _, fault in planned)
        #: The number of injected faults, by kind.
        self.happened: Counter[str] = Counter()

    @property
    def is_over(self) -> bool:
        """Whether every fault has happened."""
        return not self._ahead

    @property
    def elapsed(self) -> float:
        """Seconds since the `with` block began."""
        return time.monotonic() - self._started

    def tick(self) -> None:
        """Advance each fault that is due; of a kind without a worker, only one."""
        self._targets.refresh()
        without_worker: set[str] = set()
        for planned, phase in list(self._ahead.items()):
            fault = planned.fault
            if planned.due > self.elapsed:
                break
            if phase is Phase.WAITING and fault.name in without_worker:
                continue
            self._ahead[planned] = fault.advance(self._targets)
            if self._ahead[planned] is Phase.WAITING:
                without_worker.add(fault.name)
            elif self._ahead[planned] is Phase.HAPPENED:
                del self._ahead[planned]
                self.happened[fault.name] += 1

    def __enter__(self) -> Injector:
        self._started = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        self._targets.ledger.close()

    def end(self) -> None:
        """Continue all stopped processes, as a stopped one handles no signal; end an outage."""
        end_outage(self._targets.folder)
        for victim in self._targets.stopped.values():
            with suppress(psutil.NoSuchProcess):
                victim.resume()
