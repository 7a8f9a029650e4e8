"""The worker: executors, completer and lease keeper around the messages in flight."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time

from durableq.client import tracing
from durableq.client.app import DurableQ
from durableq.model.errors import PASSING
from durableq.runtime import logs
from durableq.runtime.outage import Outage, describe, logged, persist
from durableq.store.core import Capability
from durableq.supervisor.liveness import this_process
from durableq.supervisor.peers import reclaim_dead_workers
from durableq.supervisor.scoreboard import Scoreboard, Stage
from durableq.worker.command import Command
from durableq.worker.completer import Completer
from durableq.worker.execution import Execution
from durableq.worker.executors import AsyncExecutor, ThreadExecutor
from durableq.worker.fetcher import Fetcher
from durableq.worker.lease_keeper import LeaseKeeper
from durableq.worker.options import WorkerOptions, check_handlers, chosen_handlers
from durableq.worker.scheduler import Scheduler
from durableq.worker.state import WorkerState

log = logging.getLogger("durableq.worker")


class Worker:
    """Receives from the queues of an application and calls their handlers.

    Functions run on `options.threads` threads, coroutines together on one event loop.

    Args:
        app: the application.
        options: queues, concurrency, and when to stop.
        scoreboard: memory shared with the supervisor; None without one.

    Raises:
        AppError: a queue has no handler.
    """

    def __init__(
        self, app: DurableQ, options: WorkerOptions, scoreboard: Scoreboard | None = None
    ) -> None:
        self._options = options
        self._began_at = time.monotonic()
        self._scoreboard = scoreboard or Scoreboard()
        self._state = WorkerState(app, options, self._scoreboard)
        self.name = self._state.name
        self.handlers = chosen_handlers(app, options.queues)
        for handler in self.handlers:
            if isinstance(handler.function, Command):
                handler.function.on_start = self._state.in_flight.set_process_group
        #: Set it to drain and stop; a signal handler may.
        self.stopping = self._state.stopping

    def run(self) -> Stage:
        """Work until `stopping` is set or the options end the worker; return the reason.

        To be called once.

        Raises:
            DurableQError: the file can no longer be used.
        """
        try:
            return self._work()
        finally:
            self._state.close()

    def _work(self) -> Stage:
        self._scoreboard.reach(Stage.OPENING)
        lease_keeper = persist(self._register, self.stopping, Outage(logged(log)))
        if lease_keeper is None:  # stopped while it waited
            if self._scoreboard.owner_id:
                self._unregister()
            return self._end(Stage.STOPPED)
        completer = Completer(self._state)
        names = self._state.schedules
        schedulers = [Scheduler(self._state, names)] if names else []
        parts: list[LeaseKeeper | Completer | Scheduler] = [lease_keeper, completer, *schedulers]
        for part in parts:
            part.start()
        try:
            drained = self._run_executors(completer)
        finally:
            self.stopping.set()
            for scheduler in schedulers:
                scheduler.close()
            completer.close()
            lease_keeper.close()
            self._unregister()
            self._log_summary()
        if self._state.error is not None:
            raise self._state.error
        stage = Stage.DRAINED if drained else Stage.STOPPED
        return self._end(Stage.USED_UP if self._state.is_used_up else stage)

    def _register(self) -> LeaseKeeper:
        """Open the file and register this worker; may be repeated after a transient error."""
        store = self._state.store
        if Capability.TRANSACTIONS in store.capabilities:
            store.require(Capability.TRANSACTIONS).prepare_transactions()
        if not self._scoreboard.owner_id:
            if self._options.lifeline < 0:  # a supervisor judges dead workers with more knowledge
                reclaim_dead_workers(store)
            me = dataclasses.replace(
                this_process(self.name),
                restarts=self._options.restarts,
                queues=tuple(handler.queue for handler in self.handlers),
                schedules=self._state.schedules,
            )
            self._scoreboard.register(store.require(Capability.FLEET).register(me).owner_id)
        settings = check_handlers(store, self.handlers)
        return LeaseKeeper(self._state, min(each.visibility_timeout_ms for each in settings))

    def _unregister(self) -> None:
        try:
            fleet = self._state.store.require(Capability.FLEET)
            fleet.unregister(self._scoreboard.owner_id)
        except PASSING as error:
            text = "this worker stays listed until another process notices its end: %s"
            log.warning(text, describe(error), extra=logs.facts("unregistered_later"))

    def _log_summary(self) -> None:
        """Log in one line what this worker has done."""
        of, seconds = self._state.in_flight, time.monotonic() - self._began_at
        facts = logs.facts(
            "summary", handled=of.handled, failed=of.failed, seconds=round(seconds, 3)
        )
        text = "%s handled, %s failed, in %.1f s"
        log.info(text, of.handled, of.failed, seconds, extra=facts)

    def _end(self, stage: Stage) -> Stage:
        self._scoreboard.reach(stage)
        return stage

    def _run_executors(self, completer: Completer) -> bool:
        """Run all executors to their end; return whether the queues were drained."""
        execution = Execution(self._state, completer)
        handlers = self.handlers
        if tracing.active is not None:
            handlers = [*map(tracing.active.traced, handlers)]
        functions = [handler for handler in handlers if not handler.is_async]
        coroutines = [handler for handler in handlers if handler.is_async]
        fetchers: list[Fetcher] = []
        executors: list[ThreadExecutor | AsyncExecutor] = []
        if functions:
            fetchers.append(Fetcher(self._state, functions, completer))
            executors += [
                ThreadExecutor(self._state, fetchers[-1], execution)
                for _ in range(self._options.threads)
            ]
        if coroutines:
            fetchers.append(Fetcher(self._state, coroutines, completer))
            executors.append(AsyncExecutor(self._state, fetchers[-1], execution))
        first, *others = executors
        threads = [threading.Thread(target=self._run, args=[executor]) for executor in others]
        for thread in threads:
            thread.start()
        self._run(first)  # on the main thread: a single handler runs as in any program
        for thread in threads:
            thread.join()
        for fetcher in fetchers:
            fetcher.close()
        return all(fetcher.drained for fetcher in fetchers)

    def _run(self, executor: ThreadExecutor | AsyncExecutor) -> None:
        try:
            executor.run()
        except BaseException as error:  # noqa: BLE001 - the worker ends by it, not this thread
            self._state.give_up(error)
