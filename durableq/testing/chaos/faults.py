"""The faults: a table of kinds, a seeded plan, and the loop that injects them."""

from __future__ import annotations

import random
import re
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from enum import Enum, auto
from pathlib import Path
from typing import ClassVar, Final, NamedTuple

import psutil

from durableq.demo.processes import lives
from durableq.testing.chaos.ledger import UNANSWERED, Ledger, Line, Step, answer, last

#: How many workers may be killed while they start before another has got ready: a supervisor
#: rightly gives up on workers that die again and again and never get ready.
FALSE_STARTS: Final = 3
#: A supervisor's line about a worker.
_TOLD: Final = re.compile(rb"\(pid (\d+)\) (started|receives|died)")
#: The maximum number of stopped workers in a fleet of four: another must take over.
MOST_STOPPED: Final = 2
#: The time beyond its lease that a worker stays stopped if no other takes over.
PATIENCE_SECONDS: Final = 3.0
DYING_SECONDS: Final = 2.0
ANSWER_SECONDS: Final = 5.0


class Phase(Enum):
    """How far a fault has come."""

    #: The wait for a suitable worker.
    WAITING = auto()
    UNDERWAY = auto()
    HAPPENED = auto()


class Scene:
    """The processes and ledgers of a run, as a fault sees them.

    Args:
        workers: returns the fleet's living worker processes.
        said: the file that holds the lines of the fleet's supervisor, one for each event.
        folder: the folder of the ledgers.
        lease: of a message, in seconds.
        dice: who is struck.
    """

    def __init__(
        self,
        workers: Callable[[], list[psutil.Process]],
        said: Path,
        folder: Path,
        lease: float,
        rng: random.Random,
    ) -> None:
        self.folder = folder
        self.lease = lease
        self.rng = rng
        self.ledger = Ledger(folder)
        #: Whom a fault has in its hands: no other touches them. By process id.
        self.struck: dict[int, psutil.Process] = {}
        self._workers = workers
        self._said = said
        self._heard = 0
        self._here: list[psutil.Process] = []
        self._ready: set[int] = set()
        self._false_starts = 0
        self._untold: set[int] = set()

    def look(self) -> None:
        """Find out who works, once for all faults of a moment: it means asking for each process
        of the machine, and the fleet needs the processor more than we do.
        """
        self._here = self._workers()
        self._hear()

    def _hear(self) -> None:
        """Count false starts as the supervisor does, from its lines: a time would be a guess."""
        with suppress(FileNotFoundError), self._said.open("rb") as said:
            said.seek(self._heard)
            whole = said.read().rpartition(b"\n")[0]
            self._heard += len(whole)
            for number, event in _TOLD.findall(whole):
                self._hear_of(int(number), event)

    def _hear_of(self, pid: int, event: bytes) -> None:
        if event == b"receives":
            self._ready.add(pid)
            self._false_starts = 0
            return
        if event == b"died":
            self._untold.discard(pid)
            self._false_starts += pid not in self._ready
        self._ready.discard(pid)

    def victims(self) -> list[psutil.Process]:
        """Return the workers that may be struck: they live, and no other fault has them."""
        free = (worker for worker in self._here if worker.pid not in self.struck)
        return [worker for worker in free if lives(worker)]

    def handling(self, worker: psutil.Process, *steps: Step) -> Line | None:
        """Return the line of the message that a worker is at, if it is at one of these steps."""
        line = last(self.folder, worker.pid)
        return line if line is not None and line.step in (steps or UNANSWERED) else None

    def taken_over(self, held: Line) -> bool:
        """Return whether another worker is at a later receive of this message."""
        lines = (last(self.folder, worker.pid) for worker in self.victims())
        same = (line for line in lines if line is not None and line.message_id == held.message_id)
        return any(line.order > held.order for line in same)

    def mortal(self) -> list[psutil.Process]:
        """Return the workers that may be killed: not all while they start, or hope would die."""
        victims = self.victims()
        if self._false_starts + len(self._untold) < FALSE_STARTS:
            return victims
        return [victim for victim in victims if victim.pid in self._ready]

    def killed(self, victim: psutil.Process) -> None:
        """Remember a worker that died before it received, until its supervisor tells of it."""
        if victim.pid not in self._ready:
            self._untold.add(victim.pid)

    def note(self, kind: str, victim: psutil.Process, held: Line | None) -> None:
        """Write down that a fault has happened: to whom, and at which message."""
        at = (held.key, held.message_id, held.receipt, held.attempt) if held else ()
        self.ledger.note(kind, str(victim.pid), *at)


class Fault(ABC):
    """One fault: waits for a victim, strikes, and proves that it happened."""

    name: ClassVar[str]
    does: ClassVar[str]
    proof: ClassVar[str]

    @abstractmethod
    def advance(self, scene: Scene) -> Phase:
        """Go a step further, without waiting for anything."""


class Kill(Fault):
    """SIGKILL, at any moment of a worker's life: it starts, it is idle, it is at a message."""

    name = "kill"
    does = "a worker is killed with SIGKILL"
    proof = "the process was alive, and is dead after the signal"

    def advance(self, scene: Scene) -> Phase:
        """Kill a worker if there is one."""
        victims = scene.mortal()
        if not victims:
            return Phase.WAITING
        victim = self._chosen(scene, victims)
        try:
            victim.kill()
        except psutil.NoSuchProcess:
            return Phase.WAITING  # it ended by itself
        if not _comes_true(lambda: _status(victim) in {None, psutil.STATUS_ZOMBIE}):
            return Phase.WAITING
        scene.killed(victim)
        scene.note(self.name, victim, scene.handling(victim))
        return Phase.HAPPENED

    def _chosen(self, scene: Scene, victims: list[psutil.Process]) -> psutil.Process:
        """Return a random worker; half of the time one inside a handler, if there is one."""
        inside = [victim for victim in victims if scene.handling(victim)]
        return scene.rng.choice(inside if inside and scene.rng.random() < 0.5 else victims)


class Stop(Fault):
    """SIGSTOP between the gateway's yes and the charge, SIGCONT when another has the message.

    The handler goes on and uses a receipt that is no longer valid. If no other worker took over,
    or the handler was quicker, the fault is injected again.
    """

    name = "stop"
    does = "a worker is stopped inside a handler past its lease, then continued"
    proof = "its ledger says that its stale receipt was refused"

    def __init__(self) -> None:
        self._victim: psutil.Process | None = None
        self._held: Line | None = None
        self._until = 0.0
        self._continued = False

    def advance(self, scene: Scene) -> Phase:
        """Stop a worker, continue it, or look whether it was refused."""
        if self._victim is None or self._held is None:
            return self._strike(scene)
        if not self._continued:
            if not scene.taken_over(self._held) and time.monotonic() < self._until:
                return Phase.UNDERWAY
            with suppress(psutil.NoSuchProcess):
                self._victim.resume()
            self._continued, self._until = True, time.monotonic() + ANSWER_SECONDS
        answered = answer(scene.folder, self._held)
        if answered is None and _status(self._victim) and time.monotonic() < self._until:
            return Phase.UNDERWAY
        del scene.struck[self._victim.pid]
        victim, self._victim = self._victim, None
        if answered is None or answered.step != Step.REFUSED:
            return Phase.WAITING
        scene.note(self.name, victim, self._held)
        return Phase.HAPPENED

    def _strike(self, scene: Scene) -> Phase:
        found = [
            (one, held) for one in scene.victims() if (held := scene.handling(one, Step.PASSED))
        ]
        if not found or len(scene.struck) >= MOST_STOPPED:
            return Phase.WAITING
        victim, held = scene.rng.choice(found)
        with suppress(psutil.NoSuchProcess):
            victim.suspend()
            stands = _comes_true(lambda: _status(victim) == psutil.STATUS_STOPPED)
            if stands and scene.handling(victim, Step.PASSED) == held:
                scene.struck[victim.pid] = victim
                self._victim, self._held, self._continued = victim, held, False
                self._until = time.monotonic() + scene.lease + PATIENCE_SECONDS
                return Phase.UNDERWAY
            victim.resume()
        return Phase.WAITING


class Kind(NamedTuple):
    """How often and how long a kind of fault strikes."""

    fault: type[Fault]
    #: So many of each five faults.
    share: int
    #: Which part of the time its faults are due in.
    until: float


KINDS: Final[Mapping[str, Kind]] = {
    Kill.name: Kind(Kill, 4, 1.0),
    # A stop takes its lease's time, and may have to strike again while there are messages.
    Stop.name: Kind(Stop, 1, 0.5),
}


class Planned(NamedTuple):
    """A fault, and when it is due: seconds after the start."""

    due: float
    fault: Fault


def plan(number: int, seconds: float, rng: random.Random) -> list[Planned]:
    """Return so many faults of all kinds, by their shares, spread over some seconds at random."""
    shares = [kind for kind in KINDS.values() for _ in range(kind.share)]
    kinds = [shares[at % len(shares)] for at in range(number)]
    return sorted(
        (Planned(rng.uniform(0, kind.until * seconds), kind.fault()) for kind in kinds),
        key=lambda planned: planned.due,
    )


class Storm:
    """Lets the faults of a plan loose, each when it is due or as soon after as it can happen.

    Args:
        planned: the faults.
        scene: where.
    """

    def __init__(self, planned: list[Planned], scene: Scene) -> None:
        self._ahead = dict.fromkeys(sorted(planned, key=lambda one: one.due), Phase.WAITING)
        self._scene = scene
        self._started = time.monotonic()
        #: Faults by kind.
        self.asked = Counter(fault.name for _, fault in planned)
        #: Faults by kind.
        self.happened: Counter[str] = Counter()

    @property
    def is_over(self) -> bool:
        """Whether every fault has happened."""
        return not self._ahead

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def tick(self) -> None:
        """Let every fault that is due go a step; one without a victim speaks for its kind."""
        self._scene.look()
        in_vain: set[str] = set()
        for planned, phase in list(self._ahead.items()):
            fault = planned.fault
            if planned.due > self.elapsed:
                break
            if phase is Phase.WAITING and fault.name in in_vain:
                continue
            self._ahead[planned] = fault.advance(self._scene)
            if self._ahead[planned] is Phase.WAITING:
                in_vain.add(fault.name)
            elif self._ahead[planned] is Phase.HAPPENED:
                del self._ahead[planned]
                self.happened[fault.name] += 1

    def __enter__(self) -> Storm:
        return self

    def __exit__(self, *_: object) -> None:
        self.calm()

    def calm(self) -> None:
        """Continue all stopped processes: a stopped one handles no signal."""
        for victim in self._scene.struck.values():
            with suppress(psutil.NoSuchProcess):
                victim.resume()


def _status(process: psutil.Process) -> str | None:
    try:
        return str(process.status()) if process.is_running() else None
    except psutil.NoSuchProcess:
        return None


def _comes_true(fact: Callable[[], bool]) -> bool:
    """Wait for the effect of a signal: the kernel may be a moment late."""
    deadline = time.monotonic() + DYING_SECONDS
    while not (true := fact()) and time.monotonic() < deadline:
        time.sleep(0.001)
    return true
