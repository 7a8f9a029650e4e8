"""Processes that only sleep, for faults to be injected into."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import psutil

from durableq.demo.processes import lives
from durableq.testing.chaos.faults import FALSE_STARTS, Fault, Kill, Limit, Phase, Targets
from durableq.testing.chaos.ledger import Line, Step


class Supervisor:
    """Processes that faults can be injected into."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []
        self.log = folder / "work.log"
        #: The messages, with their receipts, that hold the last of a limit.
        self.holders: dict[Limit, list[tuple[str, str]]] = {}
        rng, holders = random.Random(1), lambda limit: self.holders.get(limit, [])
        self.targets = Targets(self.living, self.log, folder, 0.0, rng, holders)

    def start(self, number: int = 1) -> None:
        command = [sys.executable, "-c", "import signal; signal.pause()"]
        self.processes += [subprocess.Popen(command) for _ in range(number)]

    def living(self) -> list[psutil.Process]:
        found = [psutil.Process(one.pid) for one in self.processes if one.returncode is None]
        return [process for process in found if lives(process)]

    def advance(self, fault: Fault) -> Phase:
        self.targets.refresh()
        return fault.advance(self.targets)

    def say(self, event: str, *pids: int) -> None:
        """Append lines of the supervisor about workers to its log."""
        with self.log.open("a") as log:
            log.writelines(f"worker-1 (pid {pid}) {event}\n" for pid in pids)

    def kill_some(self) -> set[int]:
        """Kill as many as may be false starts, and return their pids; no other may be killed."""
        before = {process.pid for process in self.living()}
        for _ in range(FALSE_STARTS):
            assert self.advance(Kill()) is Phase.HAPPENED
        assert self.advance(Kill()) is Phase.WAITING
        return before - {process.pid for process in self.living()}

    def note(self, pid: int, step: Step, attempt: str = "0.1") -> None:
        """Append a line about message 7 to a worker's ledger."""
        line = Line(1, pid, "charge", step, "k", "7", f"receipt-{attempt}", attempt)
        with (self.folder / f"{pid}.ledger").open("a") as ledger:
            ledger.write(" ".join(map(str, line)) + "\n")

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        self.targets.ledger.close()
