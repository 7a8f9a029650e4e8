"""A whole chaos run: start, let the faults loose, let it drain, draw up the account."""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from durableq.client.app import URL_VARIABLE, DurableQ
from durableq.demo import reading
from durableq.demo.accounts import Plan
from durableq.demo.processes import Processes, ended_by_signals
from durableq.demo.show import is_over, path_of, prepare, queues_of, standing
from durableq.demo.traffic import DUPLICATES
from durableq.model.errors import DurableQError
from durableq.store.core import QueueInfo
from durableq.testing.chaos import ledger
from durableq.testing.chaos.app import APP, LEASE_SECONDS, SETTINGS
from durableq.testing.chaos.checker import ChaosCase, figures, violations
from durableq.testing.chaos.faults import Scene, Storm, plan

WORKERS: Final = 4
LEDGERS: Final = "ledgers"
#: How often the faults are looked after: a handler takes longer.
TICK_SECONDS: Final = 0.02
SAY_SECONDS: Final = 1.0
#: How much longer than half as long again the faults may take when no victim was to be had.
OVERTIME_SECONDS: Final = 10.0
QUIET_SECONDS: Final = 60.0
#: The time that each message adds to the deadline for draining.
SECONDS_PER_MESSAGE: Final = 0.2

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Asked:
    """The settings of a run."""

    #: Which traffic, and which faults when.
    seed: int
    #: Faults of all kinds; about four in five are kills.
    kills: int
    messages: int
    #: How long the faults go on; the traffic is spread over it.
    seconds: float


@dataclass
class Account:
    """The end of a run."""

    asked: Asked
    #: By kind.
    faults_asked: Mapping[str, int]
    #: By kind, each with its proof.
    faults_happened: Mapping[str, int]
    #: Numbers of messages, by name.
    figures: dict[str, int]
    #: A sentence each; none means that every invariant holds.
    violations: list[str]
    #: The path of the file, if it was kept.
    database: str | None = None
    #: The folder of the ledgers, if they were kept.
    ledgers: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the account for JSON."""
        return {
            "ok": not self.violations,
            "seed": self.asked.seed,
            "asked": {
                "messages": self.asked.messages,
                "seconds": self.asked.seconds,
                "faults": dict(self.faults_asked),
            },
            "faults": {name: self.faults_happened.get(name, 0) for name in self.faults_asked},
            "accounts": dict(self.figures),
            "violations": list(self.violations),
            "database": self.database,
            "ledgers": self.ledgers,
        }


def run(asked: Asked, url: str | None, say: Say, *, keep: bool = False) -> Account:
    """Run the demo's processes under faults, and return the account. No process outlives the call.

    Args:
        asked: how many faults on how much traffic.
        url: the file to use; None means a new one in a temporary directory.
        say: told how things stand.
        keep: leave the file and the ledgers; they also stay when something was violated.

    Raises:
        Conflict: the file has had messages already.
        Unsupported: the URL names nothing that several processes can share.
    """
    with ended_by_signals():
        folder = Path(tempfile.mkdtemp(prefix="durableq-chaos-"))
        kept = keep
        try:
            database = url or str(folder / "chaos.db")
            found = _Run(asked, database, folder, say).account()
            kept = keep or bool(found.violations)
            found.database = database if kept or url else None
            found.ledgers = str(folder / LEDGERS) if kept else None
            return found
        finally:
            if not kept:
                shutil.rmtree(folder, ignore_errors=True)


class _Run:
    """One run, with the state that its parts share."""

    def __init__(self, asked: Asked, database: str, folder: Path, say: Say) -> None:
        self._asked = asked
        self._database = database
        self._folder = folder
        self._ledgers = folder / LEDGERS
        self._tell = say
        self._told = 0.0
        self._interruptions: list[str] = []

    def account(self) -> Account:
        """Run, and check the file afterwards."""
        self._ledgers.mkdir()
        self._tell(f"One file, {self._database}, and ledgers in {self._ledgers}")
        with DurableQ(self._database) as shop:
            prepare(shop, "A chaos run", SETTINGS, in_every_queue=True)
            path = path_of(shop)
            asked, happened = self._unleash(shop)
        case = ChaosCase.of(
            Plan.of(self._asked.messages, DUPLICATES, self._asked.seed).orders,
            ledger.read(self._ledgers),
            reading.read(path),
            asked=asked,
            happened=happened,
            interruptions=self._interruptions,
        )
        return Account(self._asked, asked, happened, figures(case), violations(case))

    def _unleash(self, shop: DurableQ) -> tuple[dict[str, int], dict[str, int]]:
        """Run the processes until all has drained; return the faults asked for and happened."""
        environment = {URL_VARIABLE: self._database, ledger.FOLDER_VARIABLE: str(self._ledgers)}
        rng = random.Random(self._asked.seed)
        with Processes(self._folder, environment, self._interrupted) as processes:
            scene = Scene(
                lambda: processes.children("work"),
                processes.log("work"),
                self._ledgers,
                LEASE_SECONDS,
                rng,
            )
            with Storm(plan(self._asked.kills, self._asked.seconds, rng), scene) as storm:
                self._start(processes)
                try:
                    self._rage(processes, storm, shop)
                    self._drain(processes, storm, shop)
                except DurableQError as error:
                    self._interrupted(str(error))
                return dict(storm.asked), dict(storm.happened)

    def _start(self, processes: Processes) -> None:
        processes.start("work", "--procs", str(WORKERS), "--app", APP)
        processes.start("recover", "--app", APP)
        words = (self._asked.messages, self._asked.seed, self._asked.seconds)
        processes.start("produce", *map(str, words), module="durableq.testing.chaos.producer")

    def _rage(self, processes: Processes, storm: Storm, shop: DurableQ) -> None:
        """Let the faults loose, for as long as was asked; longer if some had no victim yet."""
        seconds = self._asked.seconds
        longest = 1.5 * seconds + OVERTIME_SECONDS
        while storm.elapsed < seconds or (not storm.is_over and storm.elapsed < longest):
            _expect_all(processes)
            storm.tick()
            if self._is_time_to_tell():
                self._say(
                    f"chaos {storm.elapsed:.0f} of {seconds:g} s", storm, queues_of(shop.store)
                )
            time.sleep(TICK_SECONDS)

    def _drain(self, processes: Processes, storm: Storm, shop: DurableQ) -> None:
        """Wait, without faults, until nothing is left."""
        storm.calm()
        allowed = QUIET_SECONDS + SECONDS_PER_MESSAGE * self._asked.messages
        deadline = time.monotonic() + allowed
        before: list[QueueInfo] = []
        while time.monotonic() < deadline:
            produced = _expect_all(processes)
            now = queues_of(shop.store)
            if self._is_time_to_tell():
                self._say("quiet", storm, now)
            if produced and is_over(before, now):
                return
            before = now
            time.sleep(5 * TICK_SECONDS)
        self._interrupted(f"It did not drain within {allowed:g} seconds of quiet.")

    def _interrupted(self, sentence: str) -> None:
        """Tell of something that should not have happened, and keep it for the account."""
        self._tell(sentence)
        self._interruptions.append(sentence)

    def _is_time_to_tell(self) -> bool:
        now = time.monotonic()
        if now - self._told < SAY_SECONDS:
            return False
        self._told = now
        return True

    def _say(self, phase: str, storm: Storm, queues: list[QueueInfo]) -> None:
        faults = " | ".join(
            f"{name} {storm.happened[name]}/{number}" for name, number in storm.asked.items()
        )
        stands = standing(queues[0], queues[1], self._asked.messages)
        self._tell(" | ".join(filter(None, (phase, faults, stands))))


def _expect_all(processes: Processes) -> bool:
    """Make sure that fleet and recovery run; return whether the producer is through."""
    processes.expect_running("work")
    processes.expect_running("recover")
    return processes.ended("produce")
