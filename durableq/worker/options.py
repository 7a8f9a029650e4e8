"""The options of a worker, and the choice of its handlers."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from durableq.client.app import DurableQ
from durableq.client.handlers import Handler
from durableq.model.errors import AppError
from durableq.model.settings import QueueSettings
from durableq.model.text import address, shown
from durableq.runtime.logs import LogFormat, LogLevel
from durableq.store.core import Store

SETTLE_WINDOW_MS: Final = 5
GRACE_MS: Final = 30_000
#: Variable with the URL of a worker, whose arguments everybody on the machine may read.
_URL_VARIABLE: Final = "DURABLEQ_WORKER_URL"
#: Signals that a supervisor blocks for a new worker, which unblocks them once it ignores them.
#: SIGTERM stays deadly until the application is imported: an import may hang.
BLOCKED_AT_START: Final = frozenset({signal.SIGHUP, signal.SIGINT})


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """Options of one worker process."""

    #: `module:attribute`; empty with a command.
    app: str
    url: str
    name: str
    #: Queues to work; empty for all that have a handler.
    queues: tuple[str, ...] = ()
    #: Run this for each message instead of an application's handlers.
    command: tuple[str, ...] = ()
    #: Invoke this Lambda function, `module:attribute`, instead; with the next three options.
    function: str = ""
    batch_size: int = 0
    batch_window_ms: int = 0
    #: Whether the function's answer names the messages that failed.
    report_failures: bool = False
    #: Number of handlers that run at a time, without coroutines.
    threads: int = 1
    #: Stop when nothing is left, delayed messages included.
    drain: bool = False
    #: Number of messages after which the worker stops, to be replaced; 0 for no limit.
    max_messages: int = 0
    #: Time that a result may wait for others to share its commit.
    settle_window_ms: int = SETTLE_WINDOW_MS
    #: Time limit of a handler, enforced by the supervisor; 0 for no limit.
    timeout_ms: int = 0
    #: Time that a worker whose supervisor has died has for its running handlers.
    grace_ms: int = GRACE_MS
    #: Number of workers that this one and its predecessors replaced.
    restarts: int = 0
    log_format: str = LogFormat.TEXT
    log_level: str = LogLevel.INFO
    #: Descriptor of the memory shared with the supervisor; -1 for none.
    scoreboard: int = -1
    #: Descriptor of the memory for its histograms; -1 for none.
    histograms: int = -1
    #: Descriptor that ends with the supervisor; -1 for no supervisor.
    lifeline: int = -1
    #: Read end of the pipe that is this worker's stdout and stderr; -1: they are not a pipe.
    output: int = -1
    #: Where the supervisor shows that output, and the worker without a supervisor.
    terminal: int = -1

    def changed(self, **changes: Any) -> WorkerOptions:
        """Return a copy with changed options."""
        return dataclasses.replace(self, **changes)

    def to_json(self) -> str:
        """Return the options as the argument of `python -m durableq.worker`, without passwords."""
        return json.dumps(dataclasses.asdict(self) | {"url": address(self.url)})

    @property
    def environment(self) -> dict[str, str] | None:
        """The environment of its process, with the URL if that has a password; None: this one's."""
        return None if address(self.url) == self.url else {**os.environ, _URL_VARIABLE: self.url}

    @classmethod
    def from_json(cls, text: str) -> WorkerOptions:
        """Read the options back; programs that handlers start do not inherit the password."""
        values = json.loads(text)
        tuples: dict[str, Any] = {name: tuple(values[name]) for name in ("queues", "command")}
        return cls(**values | tuples | {"url": os.environ.pop(_URL_VARIABLE, values["url"])})


def check_in_flight(handler: Handler, settings: QueueSettings) -> None:
    """Check that a handler's messages may be in flight together.

    Raises:
        AppError: they are more than the queue's limit, so that one worker would hold every place.
    """
    most, taken = settings.max_in_flight, handler.prefetch or 1
    if most and taken > most:
        option = "prefetch" if handler.batch is None else "batch"
        raise AppError(
            f"The handler of queue {handler.queue!r} takes {taken} messages at a time ({option}), "
            f"more than the {most} that may be in flight (max_in_flight). Lower the one, or raise "
            f"the other: durableq queue set {handler.queue} --max-in-flight {taken}."
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
            raise AppError(
                f"No handler for queue {shown(queue)} in the application; there is: {known}."
            )
    return [handler for name, handler in app.handlers.items() if not queues or name in queues]


def check_handlers(store: Store, handlers: Sequence[Handler]) -> list[QueueSettings]:
    """Check handlers against the settings of their queues, and return those.

    Raises:
        AppError: a handler takes more messages than may be in flight.
        InvalidInput: its window is longer than a third of the lease.
    """
    settings = [store.settings(handler.queue) for handler in handlers]
    for handler, of_queue in zip(handlers, settings, strict=True):
        check_in_flight(handler, of_queue)
        if handler.gathering is not None:
            handler.gathering.check(handler.queue, of_queue)
    return settings
