"""The parts of a worker, put together: lanes, settler and heartbeat around what is in hand."""

from __future__ import annotations

import dataclasses
import logging
import os
import threading
from typing import Final

from durableq import logs
from durableq.app import DurableQ
from durableq.board import Board, Stage
from durableq.command import Command
from durableq.errors import PASSING
from durableq.handlers import Handler
from durableq.latch import Latch
from durableq.processes import give_back_of_the_dead, this_process
from durableq.transient import Outage, condition, logged, persist
from durableq.worker.handling import Handling
from durableq.worker.heartbeat import Heartbeat
from durableq.worker.in_hand import InHand
from durableq.worker.intake import Intake
from durableq.worker.lanes import CoroutineLane, FunctionLane, Lane
from durableq.worker.options import WorkerOptions, chosen_handlers
from durableq.worker.pace import Pace
from durableq.worker.settler import Settler

log = logging.getLogger("durableq.worker")

MAX_THREADS: Final = 256


class Worker:
    """Receives from the queues of an application and calls their handlers.

    Functions are handled `options.threads` at a time, coroutines together on one event loop.

    Args:
        app: the application.
        options: which queues, how, and when to stop.
        board: where the supervisor sees what this worker does; None: nobody looks.

    Raises:
        AppError: a queue has no handler.
    """

    def __init__(self, app: DurableQ, options: WorkerOptions, board: Board | None = None) -> None:
        self._app = app
        self._options = options
        self._board = board or Board()
        self._in_hand = InHand(self._board)
        self._pace = Pace()
        self._error: BaseException | None = None
        self.name = f"{options.name}:{os.getpid()}"
        self.handlers = chosen_handlers(app, options.queues)
        for handler in self.handlers:
            if isinstance(handler.function, Command):
                handler.function.on_start = self._in_hand.runs
        self.stopping = Latch()
        """Set it, from a signal handler too, to finish what is in hand and stop."""

    def run(self) -> Stage:
        """Work until told to stop, or until the options say so; return which it was.

        Raises:
            DurableQError: the file can no longer be used.
        """
        self._board.reach(Stage.OPENING)
        heartbeat = persist(self._register, self.stopping, Outage(logged(log)))
        if heartbeat is None:  # told to stop while it waited
            if self._board.holder:
                self._unregister()
            return self._end(Stage.STOPPED)
        store, holder = self._app.store, self._board.holder
        settler = self._settler()
        handling = Handling(store, self._in_hand, settler, self.stopping, self._pace, self._options)
        for part in (heartbeat, settler):
            part.start()
        try:
            drained = self._run_lanes(holder, handling)
        finally:
            self.stopping.set()
            settler.close()
            heartbeat.close()
            self._unregister()
        if self._error is not None:
            raise self._error
        stage = Stage.DRAINED if drained else Stage.STOPPED
        return self._end(Stage.USED_UP if self._is_used_up() else stage)

    def _register(self) -> Heartbeat:
        """Open the file and enter this worker; may be repeated after a transient error."""
        store = self._app.store
        if not self._board.holder:
            if self._options.lifeline < 0:  # a supervisor looks after the dead with more care
                give_back_of_the_dead(store)
            me = dataclasses.replace(
                this_process(self.name),
                restarts=self._options.restarts,
                queues=tuple(handler.queue for handler in self.handlers),
            )
            self._board.register(store.register(me).holder)
        return self._heartbeat(self._board.holder)

    def _unregister(self) -> None:
        try:
            self._app.store.unregister(self._board.holder)
        except PASSING as error:
            text = "this worker stays listed until another process notices its end: %s"
            log.warning(text, condition(error), extra=logs.facts("unregistered_later"))

    def _end(self, stage: Stage) -> Stage:
        self._board.reach(stage)
        return stage

    def _note_receive(self) -> None:
        if self._board.stage is Stage.OPENING:
            self._board.reach(Stage.READY)

    def _run_lanes(self, holder: int, handling: Handling) -> bool:
        """Run all lanes to their end; return whether nothing was left."""
        functions = [handler for handler in self.handlers if not handler.is_async]
        coroutines = [handler for handler in self.handlers if handler.is_async]
        intakes: list[Intake] = []
        lanes: list[Lane] = []
        if functions:
            intakes.append(self._intake(functions, holder))
            lanes += [
                FunctionLane(intakes[-1], handling, self.stopping.wait)
                for _ in range(self._options.threads)
            ]
        if coroutines:
            intakes.append(self._intake(coroutines, holder))
            lanes.append(CoroutineLane(intakes[-1], handling, self.give_up))
        first, *others = lanes
        threads = [threading.Thread(target=self._run, args=[lane]) for lane in others]
        for thread in threads:
            thread.start()
        self._run(first)  # here, on the main thread: a lone handler meets nothing unusual
        for thread in threads:
            thread.join()
        for intake in intakes:
            intake.close()
        return all(intake.drained for intake in intakes)

    def _run(self, lane: Lane) -> None:
        try:
            lane.run()
        except BaseException as error:  # noqa: BLE001 - the worker ends by it, not this thread
            self.give_up(error)

    def give_up(self, error: BaseException) -> None:
        """End the worker because of an error, what is in hand finished as far as it can be."""
        self._error = self._error or error
        self.stopping.set()

    def _is_used_up(self) -> bool:
        most = self._options.max_messages
        return 0 < most <= self._in_hand.begun

    def _intake(self, handlers: list[Handler], holder: int) -> Intake:
        return Intake(
            self._app.store,
            handlers,
            self._in_hand,
            holder=holder,
            actor=self.name,
            stopping=self.stopping,
            pace=self._pace,
            drain=self._options.drain,
            on_receive=self._note_receive,
        )

    def _settler(self) -> Settler:
        return Settler(
            self._app.store,
            self._in_hand,
            self.stopping,
            self._board,
            actor=self.name,
            window_ms=self._options.settle_window_ms,
            give_up=self.give_up,
        )

    def _heartbeat(self, holder: int) -> Heartbeat:
        store = self._app.store
        settings = [store.settings(handler.queue) for handler in self.handlers]
        lifeline = self._options.lifeline
        return Heartbeat(
            store,
            self._in_hand,
            self._board,
            holder,
            shortest_ms=min(each.visibility_timeout_ms for each in settings),
            stopping=self.stopping,
            lifeline=None if lifeline < 0 else lifeline,
            grace_ms=self._options.grace_ms,
            give_up=self.give_up,
        )
