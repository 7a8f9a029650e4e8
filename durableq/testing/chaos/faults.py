"""The faults of workers, and the workers that they are injected into.

`limit_faults` has those that meet the limits of a queue, `injection` the plan.
"""

from __future__ import annotations

import random
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from contextlib import suppress
from enum import Enum, auto
from pathlib import Path
from typing import ClassVar, Final, Protocol

import psutil

from durableq.demo.processes import lives
from durableq.testing.chaos.ledger import UNANSWERED, Ledger, Line, Step, answer, last

#: Maximum number of workers to kill while they start, before another is ready: a supervisor gives
#: up on workers that die again and again without getting ready.
FALSE_STARTS: Final = 3
#: A supervisor's line about a worker.
_WORKER_EVENT: Final = re.compile(rb"\(pid (\d+)\) (started|receives|died)")
#: Maximum number of stopped workers in a fleet of four: another must take over.
MAX_STOPPED: Final = 2
#: Maximum time beyond its lease that a worker stays stopped if no other takes over.
TAKEOVER_SECONDS: Final = 3.0
#: Maximum wait for the effect of a signal.
SIGNAL_SECONDS: Final = 2.0
#: Maximum wait for the answer of a continued worker.
ANSWER_SECONDS: Final = 5.0


class Limit(Enum):
    """A limit, by the last of it that a message in flight holds."""

    TOKEN = auto()
    PLACE = auto()
    PROBE = auto()
    HEAD = auto()


#: Returns the messages, with their receipts, that hold the last of a limit now.
Holders = Callable[[Limit], Collection[tuple[str, str]]]


class ServerFaults(Protocol):
    """The server of a run, and its faults."""

    def cut(self, rng: random.Random) -> int | None:
        """Cut a random connection; return its process, or None if there was none."""

    def crash(self) -> int | None:
        """Kill the server and start it again; return its process, None if it was not there."""

    def is_back(self) -> bool:
        """Return whether it answers, and was started after its crash."""


class Phase(Enum):
    """The progress of a fault."""

    #: It waits for a suitable worker.
    WAITING = auto()
    #: It was injected; the proof is missing.
    UNDERWAY = auto()
    #: It was injected, and there is proof.
    HAPPENED = auto()


class Targets:
    """The workers that faults are injected into, and their ledgers.

    Args:
        workers: returns the fleet's living worker processes.
        log: the log file of the fleet's supervisor, with a line for each event.
        folder: the folder of the ledgers.
        lease: the lease of a message, in seconds.
        rng: selects the workers.
        holders: returns the messages in flight that hold the last of a limit; see `limit_faults`.
        server: the server of the database, if it has one.
    """

    def __init__(
        self,
        workers: Callable[[], list[psutil.Process]],
        log: Path,
        folder: Path,
        lease: float,
        rng: random.Random,
        holders: Holders = lambda _: (),
        server: ServerFaults | None = None,
    ) -> None:
        self.holders = holders
        self.server = server
        self.folder = folder
        self.lease = lease
        self.rng = rng
        self.ledger = Ledger(folder)
        #: The workers that a fault has stopped, by process id; no other fault uses them.
        self.stopped: dict[int, psutil.Process] = {}
        self._workers = workers
        self._log = log
        # The number of bytes that were read of it.
        self._read_bytes = 0
        self._present: list[psutil.Process] = []
        self._ready: set[int] = set()
        self._false_starts = 0
        # Killed before they received; the supervisor has not logged it.
        self._unlogged: set[int] = set()

    def refresh(self) -> None:
        """List the workers, once for all faults of a moment, and read the log.

        Listing them reads about each process of the machine, which is dear while the fleet works.
        """
        self._present = self._workers()
        # False starts are counted from the lines of the supervisor, which counts them too.
        with suppress(FileNotFoundError), self._log.open("rb") as log:
            log.seek(self._read_bytes)
            whole = log.read().rpartition(b"\n")[0]
            self._read_bytes += len(whole)
            for number, event in _WORKER_EVENT.findall(whole):
                self._note_event(int(number), event)

    def _note_event(self, pid: int, event: bytes) -> None:
        if event == b"receives":
            self._ready.add(pid)
            self._false_starts = 0
            return
        if event == b"died":
            self._unlogged.discard(pid)
            self._false_starts += pid not in self._ready
        self._ready.discard(pid)

    @property
    def receivers(self) -> int:
        """The number of workers that receive, by the last refresh."""
        return len(self._ready)

    def available(self) -> list[psutil.Process]:
        """Return the living workers that no other fault has stopped."""
        free = (worker for worker in self._present if worker.pid not in self.stopped)
        return [worker for worker in free if lives(worker)]

    def attempt(self, worker: psutil.Process, *steps: Step) -> Line | None:
        """Return the line of a worker's current attempt, if it is at one of these steps."""
        line = last(self.folder, worker.pid)
        return line if line is not None and line.step in (steps or UNANSWERED) else None

    def taken_over(self, held: Line) -> bool:
        """Return whether another worker has a later receive of this message."""
        lines = (last(self.folder, worker.pid) for worker in self.available())
        same = (line for line in lines if line is not None and line.message_id == held.message_id)
        return any(line.order > held.order for line in same)

    def killable(self) -> list[psutil.Process]:
        """Return the workers that may be killed: after some false starts, only those ready."""
        victims = self.available()
        if self._false_starts + len(self._unlogged) < FALSE_STARTS:
            return victims
        return [victim for victim in victims if victim.pid in self._ready]

    def note_kill(self, victim: psutil.Process) -> None:
        """Count a worker that died before it received, until its supervisor has logged it."""
        if victim.pid not in self._ready:
            self._unlogged.add(victim.pid)

    def record(self, kind: str, victim: psutil.Process, held: Line | None) -> None:
        """Append a fault to the ledger, with its worker and the message of the worker."""
        at = (held.key, held.message_id, held.receipt, held.attempt) if held else ()
        self.ledger.note(kind, str(victim.pid), *at)


class Fault(ABC):
    """One fault: it waits for a worker, is injected, and proves that it happened."""

    name: ClassVar[str]
    does: ClassVar[str]
    proof: ClassVar[str]

    @abstractmethod
    def advance(self, targets: Targets) -> Phase:
        """Go one step further, without waiting."""


class Kill(Fault):
    """SIGKILL, at any moment: the worker starts, is idle, or handles a message."""

    name = "kill"
    does = "a worker is killed with SIGKILL"
    proof = "the process was alive, and is dead after the signal"

    def advance(self, targets: Targets) -> Phase:
        """Kill a worker if there is one."""
        victims = targets.killable()
        if not victims:
            return Phase.WAITING
        victim = self._chosen(targets, victims)
        if not killed(victim):
            return Phase.WAITING
        targets.note_kill(victim)
        targets.record(self.name, victim, targets.attempt(victim))
        return Phase.HAPPENED

    def _chosen(self, targets: Targets, victims: list[psutil.Process]) -> psutil.Process:
        """Return a random worker; half of the time one inside a handler, if there is one."""
        inside = [victim for victim in victims if targets.attempt(victim)]
        return targets.rng.choice(inside if inside and targets.rng.random() < 0.5 else victims)


class Stop(Fault):
    """SIGSTOP between the gateway's answer and the charge, SIGCONT when another has the message.

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

    def advance(self, targets: Targets) -> Phase:
        """Stop a worker, continue it, or read whether it was refused."""
        if self._victim is None or self._held is None:
            return self._inject(targets)
        if not self._continued:
            if not targets.taken_over(self._held) and time.monotonic() < self._until:
                return Phase.UNDERWAY
            with suppress(psutil.NoSuchProcess):
                self._victim.resume()
            self._continued, self._until = True, time.monotonic() + ANSWER_SECONDS
        answered = answer(targets.folder, self._held)
        if answered is None and _status(self._victim) and time.monotonic() < self._until:
            return Phase.UNDERWAY
        del targets.stopped[self._victim.pid]
        victim, self._victim = self._victim, None
        if answered is None or answered.step != Step.REFUSED:
            return Phase.WAITING
        targets.record(self.name, victim, self._held)
        return Phase.HAPPENED

    def _inject(self, targets: Targets) -> Phase:
        found = [
            (one, held)
            for one in targets.available()
            if (held := targets.attempt(one, Step.PASSED))
        ]
        if not found or len(targets.stopped) >= MAX_STOPPED:
            return Phase.WAITING
        victim, held = targets.rng.choice(found)
        with suppress(psutil.NoSuchProcess):
            victim.suspend()
            stands = _wait_until(lambda: _status(victim) == psutil.STATUS_STOPPED)
            if stands and targets.attempt(victim, Step.PASSED) == held:
                targets.stopped[victim.pid] = victim
                self._victim, self._held, self._continued = victim, held, False
                self._until = time.monotonic() + targets.lease + TAKEOVER_SECONDS
                return Phase.UNDERWAY
            victim.resume()
        return Phase.WAITING


def killed(victim: psutil.Process) -> bool:
    """Kill a process; return whether it was alive and is dead."""
    try:
        victim.kill()
    except psutil.NoSuchProcess:
        return False  # it ended by itself
    return _wait_until(lambda: _status(victim) in {None, psutil.STATUS_ZOMBIE})


def _status(process: psutil.Process) -> str | None:
    try:
        return str(process.status()) if process.is_running() else None
    except psutil.NoSuchProcess:
        return None


def _wait_until(fact: Callable[[], bool]) -> bool:
    """Wait for the effect of a signal, which the kernel may deliver late; False if it has none."""
    deadline = time.monotonic() + SIGNAL_SECONDS
    while not (is_true := fact()) and time.monotonic() < deadline:
        time.sleep(0.001)
    return is_true
