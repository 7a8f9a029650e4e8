"""The supervisor: keeps a number of workers running, so that one's failure affects no other."""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Final, NamedTuple

from durableq.model.errors import PASSING, DurableQError
from durableq.runtime.logs import LogFormat
from durableq.runtime.outage import MIGRATED, MOVED, Outage, describe
from durableq.runtime.systemd import Systemd
from durableq.store.core import Store
from durableq.supervisor.histograms import FleetHistograms
from durableq.supervisor.output import Around, HandlerOutput
from durableq.supervisor.peers import DeadWorkers
from durableq.supervisor.reclaim import ExitReason, extend_leases, reclaim_messages
from durableq.supervisor.reload import Reload
from durableq.supervisor.scoreboard import Stage
from durableq.supervisor.service import FleetService
from durableq.supervisor.signals import Request, SupervisorSignals, adopts, reap
from durableq.supervisor.starting import FALSE_STARTS, StartWatch, has_other_cause, is_shortage
from durableq.supervisor.worker_process import WorkerProcess, describe_exit
from durableq.worker.options import WorkerOptions

#: Time for a worker to import its application.
START_SECONDS: Final = 60.0
#: Interval of checks of memory, and of dead workers without a supervisor.
CHECK_SECONDS: Final = 1.0
#: Interval of checks while a worker starts.
START_CHECK_SECONDS: Final = 0.1
#: Age at which a worker's earlier deaths are forgotten.
STEADY_SECONDS: Final = 10.0
#: Pause between two starts in a crash loop while other workers run; without any, the fleet ends.
CRASH_LOOP_PAUSE_SECONDS: Final = 60.0


class SupervisorEvent(NamedTuple):
    """An event of the fleet, with its sentence."""

    #: One word: started, ready, died, stopping …
    event: str
    text: str
    worker: str = ""
    pid: int = 0


class Supervisor:
    """Runs N workers until they have drained, or a signal asks to stop.

    Args:
        options: options of each worker.
        procs: number of workers.
        store: reclaims the messages of dead workers.
        on_event: called for each start, death and stop.
        max_rss_bytes: memory beyond which a receiving worker is replaced; 0 for no limit.
        start_seconds: time limit of the import of the application.
        histograms: the workers' histograms; None without metrics.
        around: makes a context for each write of workers' output to stderr.
        systemd: is told what the fleet does; None without it.
    """

    def __init__(
        self,
        options: WorkerOptions,
        procs: int,
        store: Store,
        *,
        on_event: Callable[[SupervisorEvent], None],
        max_rss_bytes: int = 0,
        start_seconds: float = START_SECONDS,
        histograms: FleetHistograms | None = None,
        around: Around = nullcontext,
        systemd: Systemd | None = None,
    ) -> None:
        self._options = options
        self._around = around
        self._store = store
        self._on_event = on_event
        self._max_rss_bytes = max_rss_bytes
        self._workers = [
            WorkerProcess(options.changed(name=f"worker-{number}"), histograms)
            for number in range(1, procs + 1)
        ]
        self._signals = SupervisorSignals()
        self._reload = Reload(self._workers, options.grace_ms / 1000)
        self._service = FleetService(systemd or Systemd({}), options.grace_ms / 1000)
        self._starts = StartWatch(store, start_seconds, self._emit)
        self._adopts = adopts()
        self._false_starts = 0
        self._check_at = 0.0
        self._dead_workers = DeadWorkers(self._check_soon)
        self._is_hurried = False
        self._to_reclaim: deque[tuple[int, Callable[[], int]]] = deque()
        self._outage = Outage(self._emit)
        self._code = 0
        self._is_migrated = False

    def run(self) -> int:
        """Run the fleet; return the exit code.

        SIGTERM and SIGINT let workers finish running handlers within the grace period; a second
        signal, a second or more later, stops them at once. SIGHUP replaces them one by one.

        Returns:
            0: all workers finished. 128 + the signal's number: some were killed, and their
            messages reclaimed. 1: they cannot be started, or the database was migrated or moved.
        """
        # Each worker has the other end: it is closed when this process ends, even by SIGKILL.
        lifeline, ours = os.pipe()
        self._output = HandlerOutput(LogFormat(self._options.log_format), self._around)
        try:
            with self._signals.listening():
                return self._watch(lifeline)
        finally:
            for worker in filter(lambda worker: worker.is_running, self._all_workers()):
                worker.kill(ExitReason.CUT_SHORT)
                self._check(worker, lifeline)
            self._starts.reload_begins()
            self._output.close()
            os.close(ours)
            os.close(lifeline)
            self._signals.woken.close()

    def _watch(self, lifeline: int) -> int:
        while True:
            self._signals.woken.clear()
            for worker in self._all_workers():
                self._check(worker, lifeline)
            if self._adopts:
                workers = {worker.pid for worker in self._all_workers() if worker.is_running}
                reap(workers.__contains__)
            self._handle_signals()
            self._service.step(self._workers, self._reload.is_running, self._is_stopping)
            self._reload.step()
            self._answer_for_workers()
            self._check_periodically()
            if all(worker.has_ended for worker in self._all_workers()):
                return self._code
            self._signals.woken.wait(self._seconds_until_check())

    def _all_workers(self) -> list[WorkerProcess]:
        return [*self._workers, *self._reload.extra]

    @property
    def _is_stopping(self) -> bool:
        return self._signals.stopping is not None

    # ---- one worker

    def _check(self, worker: WorkerProcess, lifeline: int) -> None:
        code = worker.exit_code()
        if code is not None:
            self._starts.forget(worker)
            self._handle_exit(worker, code)
        elif worker.is_running:
            self._enforce_limits(worker)
        elif worker.start_at is not None and worker.start_at <= time.monotonic():
            self._start(worker, lifeline)

    def _start(self, worker: WorkerProcess, lifeline: int) -> None:
        try:
            worker.start(lifeline, self._output)
        except OSError as error:  # no memory, process or descriptor is available
            worker.wait_longer()
            self._emit("not_started", f"{worker.name} cannot be started: {error}", worker)
            if not is_shortage(error):
                self._count_false_start(worker, str(error))
            return
        self._emit("started", f"{worker} started", worker)

    def _handle_exit(self, worker: WorkerProcess, code: int) -> None:
        """Reclaim the messages of an ended worker, and decide whether it is replaced."""
        # A stop may reach another worker that is exiting for the same reason: the signal kills it.
        is_same_stop = self._is_migrated and code == -signal.SIGTERM
        if worker in self._workers and (code in {MIGRATED, MOVED} or is_same_stop):
            self._stop_after_migration(worker, is_moved=code == MOVED)
            return
        stage = worker.scoreboard.stage
        asked = worker.kill_at is not None
        # A worker that ended on request before its first receive had no messages.
        obeyed = (asked or worker.exit_reason is ExitReason.CUT_SHORT) and stage < Stage.READY
        if asked and not obeyed and code == -signal.SIGTERM:
            # A handler reset the signal to its default: no message fails.
            worker.exit_reason = ExitReason.CUT_SHORT
            self._record_cut_short()
        if obeyed or (stage.ended and (code == 0 or worker.exit_reason is ExitReason.CUT_SHORT)):
            if obeyed:
                worker.exit_reason = ExitReason.CUT_SHORT
                self._reclaim(worker, describe_exit(code))
            again = worker.returning or stage is not Stage.DRAINED
            worker.start_at = time.monotonic() if again and self._is_replaced(worker) else None
            how = "stopped" if obeyed else stage.name.lower().replace("_", " ")
            self._output.wait_until_shown()
            self._emit("ended", f"{worker} ended: {how}", worker)
            return
        had_calls = any(worker.scoreboard.calls())
        cause = describe_exit(code)
        if worker.exit_reason is ExitReason.START_TIMEOUT:
            cause = "its application was not imported in time"
        self._reclaim(worker, cause)
        if not self._is_replaced(worker):
            worker.start_at = None
            self._emit("died", f"{worker} died: {cause}", worker)
            return
        self._restart(worker, code, cause, had_calls=had_calls)

    def _stop_after_migration(self, worker: WorkerProcess, *, is_moved: bool) -> None:
        """Stop the fleet: neither its workers nor this process can write the database any more."""
        worker.start_at = None
        self._output.wait_until_shown()
        done = "moved" if is_moved else "migrated"
        text = f"{worker} ended: the database was {done}"
        self._emit("ended", text, worker)
        if self._is_stopping:
            return
        self._code = 1
        self._is_migrated = True
        how = "on the new address" if is_moved else "with the durableq that migrated the database"
        self._emit(done, f"the fleet stops; start it again {how}")
        self._signals.stop()

    def _is_replaced(self, worker: WorkerProcess) -> bool:
        """Return whether an ended worker is to be replaced."""
        is_leaving = worker.is_dismissed or self._reload.is_leaving(worker)
        return not self._is_stopping and not is_leaving

    def _restart(self, worker: WorkerProcess, code: int, cause: str, *, had_calls: bool) -> None:
        """Schedule the replacement of a worker that died; count it if it never received."""
        steady = time.monotonic() - worker.started_at > STEADY_SECONDS
        counts = worker.exit_reason in {ExitReason.DEATH, ExitReason.START_TIMEOUT}
        starting = worker.scoreboard.stage < Stage.READY
        if not counts or had_calls or (steady and not starting):
            worker.pause = 0.0  # its message has failed, or it is the first death
        worker.wait_longer()
        is_false_start = starting and counts and not has_other_cause(worker, code)
        what_now = "" if is_false_start and worker not in self._workers else "; restarting"
        self._output.wait_until_shown()  # its own output comes first
        self._emit("died", f"{worker} died: {cause}{what_now}", worker)
        if is_false_start:
            self._count_false_start(worker, cause)

    def _count_false_start(self, worker: WorkerProcess, cause: str) -> None:
        if self._reload.fails_with(worker):
            text = (
                f"reload failed: {worker.name} with the new code does not start ({cause}); the "
                "workers that run go on with the code that they have. Mend it, then send SIGHUP"
            )
            self._emit("not_renewed", text, worker)
            self._starts.reload_failed()
            if worker not in self._workers:
                return
        self._false_starts += 1
        if self._false_starts < FALSE_STARTS:
            return
        running = sum(worker.is_running for worker in self._workers)
        again = time.monotonic() + CRASH_LOOP_PAUSE_SECONDS if running else None
        for worker in self._workers:
            if not worker.is_running and not worker.has_ended:
                worker.start_at = again
        self._code = self._code if running else 1
        what_now = (
            f"{running} go on, the next start is in {CRASH_LOOP_PAUSE_SECONDS:g} s"
            if running
            else "no more are started, the fleet ends"
        )
        self._emit(
            "crash_loop",
            f"crash loop: {self._false_starts} workers in a row died before they could receive "
            f"(the last: {cause}); {what_now}. What they said is above; mend it, then send SIGHUP "
            "or start again",
        )

    def _reclaim(self, worker: WorkerProcess, cause: str) -> None:
        actor, ended_ns = f"{worker.name}:{worker.pid}", time.monotonic_ns()
        reason = worker.exit_reason
        reclaim = partial(
            reclaim_messages, self._store, worker.scoreboard, actor, reason, cause, ended_ns
        )
        self._to_reclaim.append((worker.scoreboard.owner_id, reclaim))
        try:
            self._reclaim_all()
        except DurableQError as error:
            text = f"messages of {worker} are reclaimed later: "
            self._emit("unreturned", text + describe(error), worker)

    def _reclaim_all(self) -> None:
        """Reclaim the messages of ended workers; after PASSING, the next call tries again."""
        while self._to_reclaim:
            owner_id, reclaim = self._to_reclaim[0]
            try:
                reclaim()
                if owner_id:
                    self._dead_workers.watch_for_late(owner_id)
            except PASSING:
                raise
            except DurableQError:
                self._to_reclaim.popleft()
                raise
            self._to_reclaim.popleft()

    def _enforce_limits(self, worker: WorkerProcess) -> None:
        self._starts.check(worker)
        if worker.became_ready():
            self._false_starts = 0
            self._emit("ready", f"{worker} receives", worker)
        if worker.scoreboard.stage.ended and worker.kill_at is None:  # but its threads may run on
            worker.kill_at = time.monotonic() + self._options.grace_ms / 1000
            worker.returning = worker.scoreboard.stage is not Stage.DRAINED
        if worker.is_overdue() and worker.is_starting:  # it imports, or waits for the file
            self._cut_short(worker)
        elif worker.is_overdue():
            seconds = self._options.grace_ms / 1000
            self._emit("overdue", f"{worker} did not finish within {seconds:g} s: stopped", worker)
            self._cut_short(worker)
        elif self._options.timeout_ms and (overdue := list(worker.overdue())):
            busy = ", ".join(
                f"message {one.message_id}" if one.message_id else "a batch" for one in overdue
            )
            seconds = self._options.timeout_ms / 1000
            text = f"{worker} was busy with {busy} for more than {seconds:g} s: stopped"
            self._emit("timeout", text, worker)
            worker.kill(ExitReason.TIMEOUT)
        elif worker.is_silent:
            self._extend_leases_of(worker)

    def _cut_short(self, worker: WorkerProcess) -> None:
        if not worker.is_starting:  # otherwise nothing was leased to it
            self._record_cut_short()
        worker.kill(ExitReason.CUT_SHORT)

    def _record_cut_short(self) -> None:
        number = self._signals.stopping
        if number is not None:
            self._code = 128 + number

    def _extend_leases_of(self, worker: WorkerProcess) -> None:
        """Extend the leases of a worker whose handler blocks the interpreter."""
        try:
            extend_leases(self._store, worker.scoreboard.owner_id)
        except DurableQError as error:
            text = f"leases of {worker.name} could not be extended: {describe(error)}"
            self._emit("unextended", text, worker)

    # ---- all of them

    def _handle_signals(self) -> None:
        """Act on the signals since the last call."""
        request = self._signals.take()
        if request is Request.STOP:
            self._stop()
        elif request is Request.STOP_AT_ONCE:
            self._stop_at_once()
        elif request is Request.GO_ON:
            self._emit("terminal_gone", "the terminal has gone; under nohup, the fleet goes on")
        elif request is Request.RELOAD:
            self._emit("renewing", "restarting workers one by one")
            self._false_starts = 0
            self._starts.reload_begins()
            self._reload.begin()

    def _stop(self) -> None:
        self._emit("stopping", "stopping: workers finish their running handlers")
        self._reload.cancel()
        for worker in self._all_workers():
            worker.start_at = None
            worker.drain(self._options.grace_ms / 1000)

    def _stop_at_once(self) -> None:
        self._emit("stopping_at_once", "stopping at once")
        for worker in self._all_workers():
            worker.start_at = None
            if worker.is_running:
                self._cut_short(worker)

    def _answer_for_workers(self) -> None:
        """Let others know that this process takes back the messages of its workers."""
        if self._to_reclaim:  # also those of the ended ones
            return
        boards = (one.scoreboard for one in self._all_workers() if one.is_running)
        self._dead_workers.answer_for(
            self._store, [board.owner_id for board in boards if board.owner_id]
        )

    def _check_soon(self) -> None:
        """Check for dead workers at once; another thread may ask for it."""
        self._is_hurried = True
        self._signals.woken.set()

    def _check_periodically(self) -> None:
        """Check memory and dead workers without a supervisor, once per interval."""
        if time.monotonic() < self._check_at and not self._is_hurried:
            return
        self._is_hurried = False
        self._check_at = time.monotonic() + CHECK_SECONDS
        try:
            self._reclaim_all()
            again = self._dead_workers.reclaim(self._store)
            if again is not None:
                self._check_at = time.monotonic() + min(again, CHECK_SECONDS)
            self._outage.end()
        except PASSING as error:
            self._outage.report(error, "unreturned", "messages of dead workers are reclaimed later")
        except DurableQError as error:
            text = f"messages of dead workers are reclaimed later: {describe(error)}"
            self._emit("unreturned", text)
        self._dismiss()
        for worker in self._workers if self._max_rss_bytes else ():
            # A start often needs more for a while; a worker killed in it would never receive.
            rss = worker.rss_bytes() if worker.is_running and worker.is_ready else 0
            if rss > self._max_rss_bytes and worker.kill_at is None:
                text = f"{worker} uses {rss >> 20} MiB: it is replaced"
                self._emit("too_large", text, worker)
                worker.drain(self._options.grace_ms / 1000, returning=True)

    def _dismiss(self) -> None:
        """Drain the workers that were asked to end."""
        for worker in self._all_workers():
            asked = worker.is_running and worker.scoreboard.owner_id in self._dead_workers.draining
            if asked and not worker.is_dismissed:
                worker.is_dismissed = True
                text = f"{worker} was asked to end: it finishes its messages and is not replaced"
                self._emit("dismissed", text, worker)
                worker.drain(self._options.grace_ms / 1000)

    def _seconds_until_check(self) -> float:
        """Return the time until the next check that is due without a signal."""
        now = time.monotonic()
        times = [self._check_at - now]
        for worker in self._all_workers():
            at = worker.kill_at if worker.is_running else worker.start_at
            if at is not None:
                times.append(at - now)
            if worker.is_running and worker.is_ready:
                times.append(worker.scoreboard.beat_interval_ms / 2000)
            elif worker.is_running:
                times.append(START_CHECK_SECONDS)
        if self._options.timeout_ms:
            times.append(max(self._options.timeout_ms / 20_000, START_CHECK_SECONDS / 5))
        return max(0.0, min(times))

    def _emit(self, event: str, text: str, worker: WorkerProcess | None = None) -> None:
        name, pid = ("", 0) if worker is None else (worker.name, worker.pid)
        self._on_event(SupervisorEvent(event, text, name, pid))
