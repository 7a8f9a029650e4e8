"""One worker process: receive, handle, settle; extend leases meanwhile; drain when asked.

Started by the supervisor as `python -m durableq.worker OPTIONS`, with a JSON object of
WorkerOptions: by exec, never by fork, so that no SQLite connection crosses into it.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import signal
import sys
import threading
from dataclasses import dataclass
from typing import Any, Final

from durableq.app import DurableQ
from durableq.delivery import Batch, Delivery, failure_of
from durableq.errors import (
    NOT_ITS_FAULT,
    PASSING,
    AppError,
    DurableQError,
    InvalidBody,
    StaleReceipt,
)
from durableq.handlers import Handler, load
from durableq.message import Failure, Outcome, Reason, Receipt, Received
from durableq.processes import this_process
from durableq.text import visible

log = logging.getLogger("durableq.worker")

IDLE_SECONDS: Final = (0.01, 0.1)
"""First and longest pause of a worker that finds nothing; each pause doubles."""
BUSY_PAUSE_SECONDS: Final = 1.0
"""Pause after the file was busy or the disk full for a whole wait."""


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """What a worker is told at its start."""

    app: str
    url: str
    name: str
    queues: tuple[str, ...] = ()
    """Which of the application's queues to work; empty means all that have a handler."""
    drain: bool = False
    """Stop when nothing is left, delayed messages included."""
    parent_pid: int = 0
    """The supervisor's; without it the worker drains and stops. 0: nobody to miss."""

    def to_json(self) -> str:
        """Return the options as the argument of `python -m durableq.worker`."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> WorkerOptions:
        """Read the options back."""
        values = json.loads(text)
        return cls(**values | {"queues": tuple(values["queues"])})


class Worker:
    """Receives from the queues of an application and calls their handlers, one at a time.

    Args:
        app: the application.
        options: which queues, and when to stop.

    Raises:
        AppError: a queue has no handler.
    """

    def __init__(self, app: DurableQ, options: WorkerOptions) -> None:
        self._app = app
        self._options = options
        self.handlers = chosen_handlers(app, options.queues)
        self.stopping = threading.Event()
        """Set it, from a signal handler too, to finish what is in hand and stop."""
        self._in_hand: dict[Receipt, Delivery] = {}
        self._name = f"{options.name}:{os.getpid()}"

    def run(self) -> None:
        """Work until told to stop, or, draining, until nothing is left."""
        store = self._app.store
        holder = store.register(this_process(self._name)).holder
        heartbeat = threading.Thread(target=self._extend_leases, name="heartbeat", daemon=True)
        heartbeat.start()
        try:
            self._loop(holder)
        finally:
            self.stopping.set()
            heartbeat.join()
            store.unregister(holder)

    def _loop(self, holder: int) -> None:
        pause, longest = IDLE_SECONDS
        while not self.stopping.is_set() and not self._orphaned():
            try:
                busy = [self._turn(handler, holder) for handler in self.handlers]
            except PASSING as error:
                log.warning("%s", error)
                self.stopping.wait(BUSY_PAUSE_SECONDS)
                continue
            if any(busy):
                pause = IDLE_SECONDS[0]
                continue
            if self._options.drain and self._drained():
                return
            self.stopping.wait(pause)
            pause = min(2 * pause, longest)

    def _turn(self, handler: Handler, holder: int) -> bool:
        """Receive from one queue and handle it all; return whether there was anything."""
        received = self._app.store.receive(handler.queue, handler.prefetch, holder=holder)
        deliveries = [Delivery(m, self._app.store, self._name) for m in received.messages]
        self._in_hand.update({delivery.receipt: delivery for delivery in deliveries})
        self._say_duplicates(received)
        try:
            readable = [delivery for delivery in deliveries if self._readable(delivery)]
            if handler.batch is not None:
                if readable:
                    self._handle_batch(handler, Batch(readable, self._app.store))
            else:
                for delivery in readable:
                    self._handle(handler, delivery)
        finally:
            self._give_back()
        return not received.idle

    def _handle(self, handler: Handler, delivery: Delivery) -> None:
        if self.stopping.is_set():
            return  # given back, uncounted
        try:
            result = handler.function(delivery)
            self._settle(delivery, result)
        except NOT_ITS_FAULT:
            raise
        except StaleReceipt as error:
            log.warning("%s", error)
            delivery.settled = True
        except BaseException as error:  # noqa: BLE001 - a handler may raise anything
            self._fail(delivery, error)

    def _settle(self, delivery: Delivery, result: Any) -> None:
        """Complete what the handler has not settled itself, and keep its result."""
        if not delivery.settled:
            delivery.complete(result)
        elif delivery.key is not None and result is not None and not delivery.transaction_result:
            delivery.attach_result(result)

    def _fail(self, delivery: Delivery, error: BaseException) -> None:
        if delivery.settled:
            log.warning(
                "message %s of %s: the handler raised after the message was settled, so it stays "
                "settled: %s: %s",
                delivery.id,
                delivery.queue,
                type(error).__qualname__,
                visible(str(error)),
            )
            return
        self._record_failure(delivery, failure_of(error))

    def _handle_batch(self, handler: Handler, batch: Batch) -> None:
        if self.stopping.is_set():
            return
        try:
            handler.function(batch)
        except NOT_ITS_FAULT:
            raise
        except StaleReceipt as error:
            log.warning("%s The others of its batch are given back.", error)
            return
        except BaseException as error:  # noqa: BLE001 - a handler may raise anything
            for delivery in batch:
                batch.fail(delivery, error)
        for delivery in batch.settle():
            log.warning("message %s of %s: its lease was lost", delivery.id, delivery.queue)

    def _readable(self, delivery: Delivery) -> bool:
        """Look at the body; send what cannot be read to the dead-letter queue, bytes kept."""
        try:
            _ = delivery.body
        except InvalidBody as error:
            failure = Failure(Reason.UNDECODABLE, "InvalidBody", str(error))
            self._record_failure(delivery, failure)
            return False
        return True

    def _record_failure(self, delivery: Delivery, failure: Failure) -> None:
        """Fail a message, or find that it is no longer ours: then there is nothing to do."""
        (outcome,) = self._app.store.fail([(delivery.receipt, failure)], actor=self._name)
        delivery.settled = True
        self._say_failed(delivery, failure, outcome)

    def _give_back(self) -> None:
        """Release, uncounted, what was received and not settled."""
        left = [receipt for receipt, d in self._in_hand.items() if not d.settled]
        self._in_hand.clear()
        if left:
            self._app.store.release(left)

    def _extend_leases(self) -> None:
        """Keep the leases of what is in hand alive: each third of the visibility timeout."""
        store = self._app.store
        names = [handler.queue for handler in self.handlers]
        timeout_ms = {name: store.queue(name).settings.visibility_timeout_ms for name in names}
        while not self.stopping.wait(min(timeout_ms.values()) / 3000):
            for name in names:
                self._extend(name, timeout_ms[name])

    def _extend(self, queue: str, timeout_ms: int) -> None:
        in_hand = dict(self._in_hand)
        held = [r for r, d in in_hand.items() if r.queue == queue and not d.settled]
        if not held:
            return
        try:
            outcomes = self._app.store.extend(held, timeout_ms)
        except DurableQError as error:
            log.warning("leases could not be extended: %s", error)
            return
        for receipt, outcome in zip(held, outcomes, strict=True):
            if outcome.refused and not in_hand[receipt].settled:
                log.warning("message %s: its lease was lost", receipt.message_id)

    def _drained(self) -> bool:
        """Whether nothing is left; from now on whatever comes is another run's."""
        store = self._app.store
        return all(store.queue(handler.queue).counts.present == 0 for handler in self.handlers)

    def _orphaned(self) -> bool:
        parent = self._options.parent_pid
        return parent != 0 and os.getppid() != parent

    def _say_duplicates(self, received: Received) -> None:
        for duplicate in received.duplicates:
            log.info(
                "message %s of %s: duplicate of key %s, skipped",
                duplicate.message_id,
                duplicate.queue,
                visible(duplicate.key),
            )

    def _say_failed(self, delivery: Delivery, failure: Failure, outcome: Outcome) -> None:
        what_next = {
            Outcome.RETRY: "will be retried",
            Outcome.BURIED: "moved to the dead-letter queue",
        }.get(outcome, "its lease was lost")
        log.warning(
            "message %s of %s failed at receive %s: %s: %s; %s",
            delivery.id,
            delivery.queue,
            delivery.receive_count,
            failure.error_type,
            visible(failure.error_message, 200),
            what_next,
        )


def chosen_handlers(app: DurableQ, queues: tuple[str, ...]) -> list[Handler]:
    """Return the handlers of these queues, or of all.

    Raises:
        AppError: the application has no handler, or none for a queue that was named.
    """
    if not app.handlers:
        raise AppError("The application holds no handler: decorate one with @dq.handler(QUEUE).")
    for queue in queues:
        if queue not in app.handlers:
            known = ", ".join(sorted(app.handlers))
            raise AppError(f"No handler for queue {queue!r} in the application; there is: {known}.")
    return [handler for name, handler in app.handlers.items() if not queues or name in queues]


def main() -> int:
    """Run one worker, as told by the JSON in the first argument; return its exit code."""
    options = WorkerOptions.from_json(sys.argv[1])
    logging.basicConfig(format=f"{options.name}: %(message)s", level=logging.WARNING)
    app = load(options.app, DurableQ)
    app.use(options.url)
    worker = Worker(app, options)

    def stop(_signal: int, _frame: object) -> None:
        worker.stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches us too; the supervisor tells us
    try:
        worker.run()
    except DurableQError as error:
        log.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
