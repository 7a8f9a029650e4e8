"""A whole chaos run: start the processes, inject the faults, let the queues drain, check."""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from durableq.admin.operations import audit
from durableq.client.app import URL_VARIABLE, DurableQ
from durableq.demo import reading
from durableq.demo.accounts import Plan
from durableq.demo.processes import Processes, ended_by_signals, scaled
from durableq.demo.show import QUEUES, is_over, place_of, prepare, progress_line
from durableq.demo.traffic import DUPLICATES
from durableq.model.errors import DatabaseUnreachable, DurableQError
from durableq.model.health import Level
from durableq.model.text import address
from durableq.store.core import Capability, QueueInfo
from durableq.testing.chaos import ledger, limited, limited_producer, recording
from durableq.testing.chaos.app import APP, SETTINGS
from durableq.testing.chaos.checker import ChaosCase, figures, violations
from durableq.testing.chaos.faults import Targets
from durableq.testing.chaos.injection import Injector, plan
from durableq.testing.chaos.limit_faults import Limits
from durableq.testing.chaos.limits_checker import LimitsCase
from durableq.testing.chaos.recording import Watch
from durableq.testing.chaos.server import Server
from durableq.testing.chaos.server_faults import RunsServer

WORKERS: Final = 4
LEDGERS: Final = "ledgers"
#: The processes that send to the queues with limits.
LIMITED: Final = tuple(f"produce-limited-{n}" for n in range(limited_producer.PRODUCERS))
#: Interval between two steps of the faults: shorter than a handler.
TICK_SECONDS: Final = 0.02
#: Interval between two lines of progress.
PROGRESS_SECONDS: Final = 1.0
#: Added to 1.5 times the planned seconds: the time in which faults may wait for a worker.
OVERTIME_SECONDS: Final = 180.0
#: Deadline for the first receive of each worker.
START_SECONDS: Final = 120.0
#: Deadline for draining without faults.
DRAIN_SECONDS: Final = 60.0
#: Added to that deadline for each message.
SECONDS_PER_MESSAGE: Final = 0.2

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Asked:
    """The settings of a run."""

    #: Determines the traffic, and the kinds and times of the faults.
    seed: int
    #: The number of faults of all kinds; about four in five are kills.
    kills: int
    messages: int
    #: The time over which faults and traffic are spread.
    seconds: float


@dataclass
class Account:
    """The result of a run."""

    asked: Asked
    #: The number of planned faults, by kind.
    faults_asked: Mapping[str, int]
    #: The number of proven faults, by kind.
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


def run(
    asked: Asked,
    url: str | None,
    progress: Progress,
    *,
    keep: bool = False,
    own_postgres: bool = False,
) -> Account:
    """Run the demo's processes under faults, and check the result. No process outlives the call.

    Args:
        asked: the settings.
        url: the database to use; None means a new file in a temporary directory.
        progress: called with lines of progress.
        keep: keep the database and the ledgers; they are also kept after a violation.
        own_postgres: use a PostgreSQL server that is started for the run, and killed too.

    Raises:
        Conflict: the database has had messages already.
        Unsupported: several processes cannot share the database of the URL.
    """
    with ended_by_signals():
        folder = Path(tempfile.mkdtemp(prefix="durableq-chaos-"))
        kept = keep
        server = None
        try:
            if own_postgres:
                server = Server("fsync=on")
                server.start()
                url = server.url
            database = url or str(folder / "chaos.db")
            found = _Run(asked, database, folder, progress, server).account()
            kept = keep or bool(found.violations)
            found.database = address(database) if kept or url else None
            if server is not None:
                found.database = str(server.data) if kept else None
            found.ledgers = str(folder / LEDGERS) if kept else None
            return found
        finally:
            if server is not None:
                server.stop(keep=kept)
            if not kept:
                shutil.rmtree(folder, ignore_errors=True)


class _Run:
    """One run, with the state that its parts share."""

    def __init__(
        self,
        asked: Asked,
        database: str,
        folder: Path,
        progress: Progress,
        server: Server | None,
    ) -> None:
        self._asked = asked
        self._database = reading.alone(database)
        self._server = server
        #: The application name of its processes' connections.
        self._name = f"durableq-{folder.name}"
        self._folder = folder
        self._ledgers = folder / LEDGERS
        self._progress = progress
        self._next_line_at = 0.0
        self._interruptions: list[str] = []
        self._queues: list[QueueInfo] = []

    def account(self) -> Account:
        """Run, and check the file afterwards."""
        self._ledgers.mkdir()
        self._progress(f"All in {address(self._database)}, and ledgers in {self._ledgers}")
        with DurableQ(self._database) as shop:
            prepare(shop, "A chaos run", SETTINGS, in_every_queue=True)
            limited.declare(shop)
            recording.prepare(shop, checks_indexes=self._server is not None)
            place = place_of(shop)
            with closing(Watch(place)) as watch:
                injector = self._run(shop, watch)
            audited = [
                finding.what for finding in audit(shop.store) if finding.level is not Level.OK
            ]
        lines = ledger.read(self._ledgers)
        case = ChaosCase.of(
            Plan.of(self._asked.messages, DUPLICATES, self._asked.seed).orders,
            lines,
            reading.read(place, QUEUES),
            asked=injector.asked,
            happened=injector.happened,
            interruptions=self._interruptions,
            limits=LimitsCase(
                recording.read(place), lines, watch.stands, audited, injector.happened
            ),
        )
        return Account(
            self._asked, injector.asked, injector.happened, figures(case), violations(case)
        )

    def _run(self, shop: DurableQ, watch: Watch) -> Injector:
        """Run the processes until every message has ended; return the injector of the faults."""
        environment = {
            URL_VARIABLE: reading.alone(self._database, self._name),
            ledger.FOLDER_VARIABLE: str(self._ledgers),
        }
        server = None
        if reading.on_server(self._database):
            server = RunsServer(watch.reader, self._name, self._server)
        rng = random.Random(self._asked.seed)
        with Processes(self._folder, environment, self._interrupted) as processes:
            targets = Targets(
                lambda: processes.children("work"),
                processes.log("work"),
                self._ledgers,
                limited.LEASE_SECONDS,
                rng,
                Limits(watch, lambda name: _queue(shop, name).limits).holders,
                server,
            )
            kinds = server.kinds if server else ()
            injector = Injector(plan(self._asked.kills, self._asked.seconds, rng, kinds), targets)
            try:
                self._start(processes, targets)
                with injector:
                    self._inject(processes, injector, shop, watch)
                    self._drain(processes, injector, shop, watch)
            except DurableQError as error:
                self._interrupted(str(error))
        return injector

    def _start(self, processes: Processes, targets: Targets) -> None:
        """Start fleet and recovery, and the producers once every worker receives.

        On a busy machine a worker takes longer to start than the faults and the traffic last.

        Raises:
            DurableQError: a process ended, or some workers do not receive in time.
        """
        processes.start("work", "--procs", str(WORKERS), "--app", APP)
        processes.start("recover", "--app", APP)
        allowed = scaled(START_SECONDS)
        deadline = time.monotonic() + allowed
        while targets.receivers < WORKERS:
            processes.expect_running("work")
            processes.expect_running("recover")
            if time.monotonic() > deadline:
                raise DurableQError(
                    f"{targets.receivers} of {WORKERS} workers received within {allowed:.0f} s."
                )
            time.sleep(TICK_SECONDS)
            targets.refresh()
        words = (self._asked.messages, self._asked.seed, self._asked.seconds)
        processes.start("produce", *map(str, words), module="durableq.testing.chaos.producer")
        for number, name in enumerate(LIMITED):
            module = "durableq.testing.chaos.limited_producer"
            processes.start(name, str(number), module=module)

    def _inject(
        self, processes: Processes, injector: Injector, shop: DurableQ, watch: Watch
    ) -> None:
        """Inject the faults for the planned time; longer if some still wait for a worker.

        The queues with limits get messages until the orders have ended, so a fault finds some.
        """
        seconds = self._asked.seconds
        longest = 1.5 * seconds + OVERTIME_SECONDS
        while injector.elapsed < seconds or not (injector.is_over or injector.elapsed > longest):
            _expect_all(processes)
            with suppress(DatabaseUnreachable):  # it was killed, and is not back yet
                watch.look()
                injector.tick()
                if self._is_due():
                    self._queues = _queues(shop)
                    self._report(f"chaos {injector.elapsed:.0f} of {seconds:g} s", injector)
            time.sleep(TICK_SECONDS)

    def _drain(
        self, processes: Processes, injector: Injector, shop: DurableQ, watch: Watch
    ) -> None:
        """Wait, without faults, until no message is left."""
        injector.end()
        allowed = scaled(DRAIN_SECONDS + SECONDS_PER_MESSAGE * self._asked.messages)
        deadline = time.monotonic() + allowed
        while not self._is_drained(processes, shop):
            watch.look()
            if time.monotonic() > deadline:
                self._interrupted(f"It did not drain within {allowed:.0f} seconds of quiet.")
                return
            if self._is_due():
                self._report("quiet", injector)
            time.sleep(5 * TICK_SECONDS)
        watch.look()

    def _is_drained(self, processes: Processes, shop: DurableQ) -> bool:
        """Check that fleet and recovery run; return whether every message has ended."""
        produced = _expect_all(processes)
        before, self._queues = self._queues, _queues(shop)
        orders = slice(len(QUEUES))
        if processes.ended("produce") and is_over(before[orders], self._queues[orders]):
            limited_producer.stop(self._ledgers)
        return produced and is_over(before, self._queues)

    def _interrupted(self, sentence: str) -> None:
        """Report a failure of the run, and keep it as a violation."""
        self._progress(sentence)
        self._interruptions.append(sentence)

    def _is_due(self) -> bool:
        """Return whether to write a line of progress now."""
        now = time.monotonic()
        if now < self._next_line_at:
            return False
        self._next_line_at = now + PROGRESS_SECONDS
        return True

    def _report(self, phase: str, injector: Injector) -> None:
        faults = " | ".join(
            f"{name} {injector.happened[name]}/{number}" for name, number in injector.asked.items()
        )
        orders, dead, *others = self._queues
        line = progress_line(orders, dead, self._asked.messages)
        waiting = [f"{each.name} {each.counts.present}" for each in others if each.counters.sent]
        self._progress(" | ".join(filter(None, (phase, faults, line, *waiting))))


def _expect_all(processes: Processes) -> bool:
    """Check that fleet and recovery run; return whether all producers have ended."""
    processes.expect_running("work")
    processes.expect_running("recover")
    ended = [processes.ended(name) for name in ("produce", *LIMITED)]
    return all(ended)


def _queue(shop: DurableQ, name: str) -> QueueInfo:
    return shop.store.require(Capability.INSPECT).queue(name)


def _queues(shop: DurableQ) -> list[QueueInfo]:
    return [_queue(shop, name) for name in (*QUEUES, *limited.QUEUES)]
