"""`durableq work`: a supervisor and its worker processes."""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import typer

from durableq.cli import output
from durableq.cli.help import option
from durableq.cli.options import (
    App,
    Db,
    Json,
    Logs,
    Procs,
    Queues,
    application,
    check_lasting,
    demo_hint,
    start,
)
from durableq.client.app import DurableQ
from durableq.model.errors import DurableQError, Unsupported
from durableq.model.units import to_ms
from durableq.runtime.logs import LogFormat, configure, json_line
from durableq.store.core import Capability

if TYPE_CHECKING:
    from durableq.supervisor.supervisor import SupervisorEvent
    from durableq.worker.options import WorkerOptions

log = logging.getLogger("durableq.supervisor")

#: The longest lease, too, is 12 hours.
MAX_SECONDS: Final = 12 * 3600.0
_UNITS: Final = {"": 0, "K": 10, "M": 20, "G": 30}
_SIZE: Final = re.compile(r"(\d{1,9})([KMG]?)(?:i?B)?", re.IGNORECASE)

LIMITS: Final = "Limits"

Threads = Annotated[
    int,
    option(placeholder="N", min=1, max=256, help="Concurrent handlers in each process."),
]
Drain = Annotated[bool, option("--drain", help="Stop when no message is left.")]
Exec = Annotated[
    str | None,
    option(
        "--exec",
        placeholder="COMMAND",
        help="Run this command for each message, its body on stdin, in place of an application: "
        "exit 0 completes, 65 rejects, others fail.",
    ),
]
Timeout = Annotated[
    float | None,
    option(
        placeholder="SECONDS",
        section=LIMITS,
        max=MAX_SECONDS,
        show_default="no limit",
        help="Stop a handler that runs longer.",
    ),
]
Grace = Annotated[
    float,
    option(
        placeholder="SECONDS",
        section=LIMITS,
        max=MAX_SECONDS,
        help="How long a stop waits for running handlers.",
    ),
]
StartTimeout = Annotated[
    float,
    option(
        placeholder="SECONDS",
        section=LIMITS,
        max=MAX_SECONDS,
        help="Stop a worker whose import of the application takes longer.",
    ),
]
MaxRss = Annotated[
    str | None,
    option(
        placeholder="SIZE",
        section=LIMITS,
        show_default="no limit",
        help="Replace a worker that uses more memory: 500M, 2G.",
    ),
]
MaxMessages = Annotated[
    int | None,
    option(
        placeholder="N",
        section=LIMITS,
        min=1,
        show_default="no limit",
        help="Replace a worker after N messages.",
    ),
]
SettleWindow = Annotated[
    float,
    option(
        placeholder="MS",
        section=LIMITS,
        min=0,
        max=1000,
        help="How long a success may wait to share a commit, in milliseconds.",
    ),
]


def work(
    procs: Procs = 1,
    threads: Threads = 1,
    app: App = None,
    queue: Queues = None,
    command: Exec = None,
    drain: Drain = False,
    timeout: Timeout = None,
    grace: Grace = 30,
    start_timeout: StartTimeout = 60,
    max_rss: MaxRss = None,
    max_messages: MaxMessages = None,
    settle_window: SettleWindow = 5,
    log_format: Logs = LogFormat.TEXT,
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Run worker processes that receive messages and call handlers.

    The fleet runs until SIGTERM or Ctrl-C, which let running handlers finish; a second one, at
    least a second later, stops them at once. SIGHUP replaces the workers one by one. A worker that
    dies is replaced, and its messages are ready again at once.

    Exit codes: 0 if all handlers finished, 130 or 143 if some were stopped, 1 if no worker starts.

    Example: durableq work --procs 4 --app shop:dq
    """
    start_seconds = _above_zero(start_timeout, "--start-timeout") / 1000
    configure(log_format, "supervisor", sys.stderr)

    def load() -> tuple[WorkerOptions, DurableQ]:
        with _not_longer_than(start_seconds, log_format):
            return _worker(app, command, tuple(queue or ()), db)

    options, loaded = start(load, log)
    options = options.changed(
        threads=threads,
        drain=drain,
        timeout_ms=0 if timeout is None else _above_zero(timeout, "--timeout"),
        grace_ms=_above_zero(grace, "--grace"),
        max_messages=max_messages or 0,
        settle_window_ms=round(settle_window),
        log_format=log_format.value,
    )
    fleet = _Options(procs, _max_rss(max_rss), start_seconds)
    plain = log_format is LogFormat.TEXT and not as_json
    hint = demo_hint(app) if plain and command is None else None
    code = _run(loaded, options, fleet, _sayer(log_format, as_json=as_json), hint)
    raise typer.Exit(code)


COMMANDS: Final = (work,)


class _Options(NamedTuple):
    """Options of the supervisor."""

    procs: int
    max_rss_bytes: int
    start_seconds: float


def _run(
    loaded: DurableQ,
    options: WorkerOptions,
    chosen: _Options,
    say: Callable[[SupervisorEvent], None],
    hint: str | None,
) -> int:
    """Run a fleet on the application's file; return the exit code."""
    from durableq.supervisor.supervisor import Supervisor

    with loaded:
        store = start(lambda: loaded.store, log)
        fleet = Supervisor(
            options,
            chosen.procs,
            store,
            on_event=say,
            max_rss_bytes=chosen.max_rss_bytes,
            start_seconds=chosen.start_seconds,
        )
        if hint is not None:
            output.say(hint)
        return fleet.run()


@contextmanager
def _not_longer_than(seconds: float, log_format: LogFormat) -> Iterator[None]:
    """End the process with 1 if the block, which imports the application, takes longer.

    A thread ends it: an import may never return, and may catch an exception.
    """

    def end() -> None:
        text = (
            f"The application was not imported within {seconds:g} s. Look at its imports, "
            "or allow more time with --start-timeout."
        )
        if log_format is LogFormat.JSON:
            output.say(json_line("start_timeout", text, process="supervisor", level="error"))
        else:
            output.error(text)
        os._exit(output.FAILED)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _worker(
    app: str | None, command: str | None, queues: tuple[str, ...], db: str | None
) -> tuple[WorkerOptions, DurableQ]:
    """Return the options of each worker and the application, checked before anything starts."""
    from durableq.worker.options import WorkerOptions, chosen_handlers

    if command is None:
        spec, loaded = application(app, db)
        chosen_handlers(loaded, queues)
        return WorkerOptions(app=spec, url=loaded.url, name="worker", queues=queues), loaded
    if app is not None:
        raise output.Misuse("--exec runs a command for each message, --app functions: choose one.")
    from durableq.worker.command import parse

    arguments = parse(command)
    loaded = DurableQ(db)
    check_lasting(loaded.url)
    named = (loaded.store.require(Capability.INSPECT).queue(name).name for name in queues)
    queues = tuple(dict.fromkeys(named)) or _every_queue(loaded)
    return WorkerOptions("", loaded.url, "worker", queues, arguments), loaded


def _every_queue(loaded: DurableQ) -> tuple[str, ...]:
    names = [
        info.name
        for info in loaded.store.require(Capability.INSPECT).queues()
        if info.dead_letter_queue is not None
    ]
    if not names:
        raise output.Misuse(
            f"{loaded.url} has no queue yet, so there is nothing to run a command for. Create "
            "one with `durableq queue create NAME`."
        )
    return tuple(names)


def _sayer(log_format: LogFormat, *, as_json: bool) -> Callable[[SupervisorEvent], None]:
    """Return the function that prints an event of the fleet, as commentary or as JSON."""

    def say(event: SupervisorEvent) -> None:
        with suppress(OSError, DurableQError):  # a closed output does not end the fleet
            if as_json:
                output.json_line(event._asdict())
            elif log_format is LogFormat.JSON:
                known: dict[str, Any] = {"worker": event.worker, "pid": event.pid}
                output.say(json_line(event.event, event.text, process="supervisor", **known))
            else:
                output.say(event.text)

    return say


def _above_zero(seconds: float, option: str) -> int:
    if not seconds > 0:
        raise output.Misuse(f"{option} is a number of seconds above 0, got {seconds:g}.")
    return max(1, to_ms(seconds, option))


def _max_rss(text: str | None) -> int:
    """Return a size such as 500M in bytes; 0 for None."""
    from durableq.supervisor.liveness import sees_others

    if text is None:
        return 0
    found = _SIZE.fullmatch(text.strip())
    if not found or not int(found[1]):
        raise output.Misuse(f"--max-rss is a size such as 500M or 2G, got {text!r}.")
    if not sees_others():
        raise Unsupported(
            "--max-rss needs a /proc that shows the processes of this container, and the one here "
            "is of another: mount it (mount -t proc proc /proc)."
        )
    return int(found[1]) << _UNITS[found[2].upper()]
