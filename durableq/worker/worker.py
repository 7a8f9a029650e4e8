"""The worker: executors, completer and lease keeper around the messages in flight."""

from __future__ import annotations

import dataclasses
import logging
import os
import threading

from durableq.client.app import DurableQ
from durableq.client.handlers import Handler
from durableq.model.errors import PASSING
from durableq.runtime import logs
from durableq.runtime.outage import Outage, describe, logged, persist
from durableq.runtime.wakeup import WakeupEvent
from durableq.store.core import Capability
from durableq.supervisor.liveness import reclaim_dead_workers, this_process
from durableq.supervisor.scoreboard import Scoreboard, Stage
from durableq.worker.command import Command
from durableq.worker.completer import Completer
from durableq.worker.execution import Execution
from durableq.worker.executors import AsyncExecutor, Executor, ThreadExecutor
from durableq.worker.fetcher import AdaptivePrefetch, Fetcher
from durableq.worker.in_flight import InFlight
from durableq.worker.lease_keeper import LeaseKeeper
from durableq.worker.options import WorkerOptions, chosen_handlers

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
        self._app = app
        self._options = options
        self._scoreboard = scoreboard or Scoreboard()
        self._in_flight = InFlight(self._scoreboard)
        self._prefetch = AdaptivePrefetch()
        self._error: BaseException | None = None
        self.name = f"{options.name}:{os.getpid()}"
        self.handlers = chosen_handlers(app, options.queues)
        for handler in self.handlers:
            if isinstance(handler.function, Command):
                handler.function.on_start = self._in_flight.set_process_group
        #: Set it to drain and stop; a signal handler may.
        self.stopping = WakeupEvent()

    def run(self) -> Stage:
        """Work until `stopping` is set or the options end the worker; return the reason.

        Raises:
            DurableQError: the file can no longer be used.
        """
        self._scoreboard.reach(Stage.OPENING)
        lease_keeper = persist(self._register, self.stopping, Outage(logged(log)))
        if lease_keeper is None:  # stopped while it waited
            if self._scoreboard.owner_id:
                self._unregister()
            return self._end(Stage.STOPPED)
        store, owner_id = self._app.store, self._scoreboard.owner_id
        completer = self._completer()
        execution = Execution(
            store, self._in_flight, completer, self.stopping, self._prefetch, self._options
        )
        for part in (lease_keeper, completer):
            part.start()
        try:
            drained = self._run_executors(owner_id, execution)
        finally:
            self.stopping.set()
            completer.close()
            lease_keeper.close()
            self._unregister()
        if self._error is not None:
            raise self._error
        stage = Stage.DRAINED if drained else Stage.STOPPED
        return self._end(Stage.USED_UP if self._is_used_up() else stage)

    def _register(self) -> LeaseKeeper:
        """Open the file and register this worker; may be repeated after a transient error."""
        store = self._app.store
        if not self._scoreboard.owner_id:
            if self._options.lifeline < 0:  # a supervisor judges dead workers with more knowledge
                reclaim_dead_workers(store)
            me = dataclasses.replace(
                this_process(self.name),
                restarts=self._options.restarts,
                queues=tuple(handler.queue for handler in self.handlers),
            )
            self._scoreboard.register(store.require(Capability.FLEET).register(me).owner_id)
        return self._lease_keeper(self._scoreboard.owner_id)

    def _unregister(self) -> None:
        try:
            self._app.store.require(Capability.FLEET).unregister(self._scoreboard.owner_id)
        except PASSING as error:
            text = "this worker stays listed until another process notices its end: %s"
            log.warning(text, describe(error), extra=logs.facts("unregistered_later"))

    def _end(self, stage: Stage) -> Stage:
        self._scoreboard.reach(stage)
        return stage

    def _mark_ready(self) -> None:
        if self._scoreboard.stage is Stage.OPENING:
            self._scoreboard.reach(Stage.READY)

    def _run_executors(self, owner_id: int, execution: Execution) -> bool:
        """Run all executors to their end; return whether the queues were drained."""
        functions = [handler for handler in self.handlers if not handler.is_async]
        coroutines = [handler for handler in self.handlers if handler.is_async]
        fetchers: list[Fetcher] = []
        executors: list[Executor] = []
        if functions:
            fetchers.append(self._fetcher(functions, owner_id))
            executors += [
                ThreadExecutor(fetchers[-1], execution, self.stopping.wait)
                for _ in range(self._options.threads)
            ]
        if coroutines:
            fetchers.append(self._fetcher(coroutines, owner_id))
            executors.append(AsyncExecutor(fetchers[-1], execution, self.give_up))
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

    def _run(self, executor: Executor) -> None:
        try:
            executor.run()
        except BaseException as error:  # noqa: BLE001 - the worker ends by it, not this thread
            self.give_up(error)

    def give_up(self, error: BaseException) -> None:
        """Stop the worker because of an error; running handlers finish."""
        self._error = self._error or error
        self.stopping.set()

    def _is_used_up(self) -> bool:
        most = self._options.max_messages
        return 0 < most <= self._in_flight.started

    def _fetcher(self, handlers: list[Handler], owner_id: int) -> Fetcher:
        return Fetcher(
            self._app.store,
            handlers,
            self._in_flight,
            owner_id=owner_id,
            actor=self.name,
            stopping=self.stopping,
            prefetch=self._prefetch,
            drain=self._options.drain,
            on_receive=self._mark_ready,
        )

    def _completer(self) -> Completer:
        return Completer(
            self._app.store,
            self._in_flight,
            self.stopping,
            self._scoreboard,
            actor=self.name,
            window_ms=self._options.settle_window_ms,
            give_up=self.give_up,
        )

    def _lease_keeper(self, owner_id: int) -> LeaseKeeper:
        store = self._app.store
        settings = [store.settings(handler.queue) for handler in self.handlers]
        lifeline = self._options.lifeline
        return LeaseKeeper(
            store,
            self._in_flight,
            self._scoreboard,
            owner_id,
            shortest_ms=min(each.visibility_timeout_ms for each in settings),
            stopping=self.stopping,
            lifeline=None if lifeline < 0 else lifeline,
            grace_ms=self._options.grace_ms,
            give_up=self.give_up,
        )
