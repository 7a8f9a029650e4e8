"""What a worker is told at its start, and which handlers it is to run."""

from __future__ import annotations

import dataclasses
import json
import signal
from dataclasses import dataclass
from typing import Any, Final

from durableq.client.app import DurableQ
from durableq.client.handlers import Handler
from durableq.model.errors import AppError
from durableq.model.text import shown
from durableq.runtime.logs import LogFormat

SETTLE_WINDOW_MS: Final = 5
GRACE_MS: Final = 30_000
#: Signals that a supervisor blocks for a new worker, and that it unblocks once it ignores them.
#: SIGTERM stays deadly until the application is imported: an import may hang.
BLOCKED_AT_START: Final = frozenset({signal.SIGHUP, signal.SIGINT})


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """What a worker is told at its start."""

    #: `module:attribute`; empty with a command.
    app: str
    url: str
    name: str
    #: Which of the application's queues to work; empty means all that have a handler.
    queues: tuple[str, ...] = ()
    #: Run this for each message instead of an application's handlers.
    command: tuple[str, ...] = ()
    #: How many handlers run at a time; handlers that are coroutines do not count.
    threads: int = 1
    #: Stop when nothing is left, delayed messages included.
    drain: bool = False
    #: Stop after so many, to be replaced; 0: never.
    max_messages: int = 0
    #: How long a success may wait for others to share its commit.
    settle_window_ms: int = SETTLE_WINDOW_MS
    #: How long a handler may run; 0: for ever. The supervisor sees to it.
    timeout_ms: int = 0
    #: How long a worker whose supervisor has died may go on with what it has in hand.
    grace_ms: int = GRACE_MS
    #: How many workers were in its place before it.
    restarts: int = 0
    log_format: str = LogFormat.TEXT
    #: Descriptor of the memory shared with the supervisor; -1: there is none.
    scoreboard: int = -1
    #: Descriptor that ends when the supervisor does; -1: nobody to miss.
    lifeline: int = -1
    #: Read end of the pipe that is this worker's stdout and stderr; -1: they are not a pipe.
    output: int = -1
    #: Where the supervisor shows that output, and the worker without a supervisor.
    terminal: int = -1

    def changed(self, **changes: Any) -> WorkerOptions:
        """Return the same options but for these."""
        return dataclasses.replace(self, **changes)

    def to_json(self) -> str:
        """Return the options as the argument of `python -m durableq.worker`."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> WorkerOptions:
        """Read the options back."""
        values = json.loads(text)
        tuples = {name: tuple(values[name]) for name in ("queues", "command")}
        return cls(**values | tuples)


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
