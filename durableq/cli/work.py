"""`durableq work`: a supervisor and its worker processes."""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import typer

from durableq.cli import output
from durableq.cli.functions import EventSource
from durableq.cli.help import option
from durableq.cli.live_line import LiveLine, is_possible
from durableq.cli.options import (
    Level,
    Logs,
    Procs,
    Queues,
    Session,
    demo_hint,
    source_queues,
)
from durableq.client.app import DurableQ
from durableq.model.errors import DurableQError, Unsupported
from durableq.model.units import to_ms
from durableq.runtime.logs import LogFormat, LogLevel, configure, json_line, text_line
from durableq.runtime.outage import wait_out
from durableq.runtime.systemd import Systemd
from durableq.store.core import Capability, Store

if TYPE_CHECKING:
    from durableq.cli.drain import Report
    from durableq.supervisor.histograms import FleetHistograms
    from durableq.supervisor.output import Around
    from durableq.supervisor.supervisor import Supervisor, SupervisorEvent
    from durableq.worker.options import WorkerOptions

log = logging.getLogger("durableq.supervisor")

#: The longest lease, too, is 12 hours.
MAX_SECONDS: Final = 12 * 3600.0
_THREADS: Final = "Concurrent handlers in each process."
_EXEC: Final = (
    "Run this command for each message, its body on stdin, in place of an application: "
    "exit 0 completes, 65 rejects, 69 is unavailable, others fail."
)
#: Events of a fleet that an operator looks at.
_WARNINGS: Final = {
    *("died", "not_started", "crash_loop", "not_renewed", "overdue", "timeout", "too_large"),
    *("unreturned", "unextended", "busy", "migrated", "moved"),
}
_UNITS: Final = {"": 0, "K": 10, "M": 20, "G": 30}
_SIZE: Final = re.compile(r"(\d{1,9})([KMG]?)(?:i?B)?", re.IGNORECASE)


def _limit(shown: str, text: str, default: Any = None, **more: Any) -> Any:
    if default is None:
        more["show_default"] = "no limit"
    return option(shown, text, default, "Limits", **more)


@dataclass(frozen=True)
class Limits:
    """Options that limit handlers, worker processes and their starts and ends."""

    timeout: float | None = _limit(
        "--timeout SECONDS", "Stop a handler that runs longer.", max=MAX_SECONDS
    )
    grace: float = _limit(
        "--grace SECONDS", "How long a stop waits for running handlers.", 30, max=MAX_SECONDS
    )
    start_timeout: float = _limit(
        "--start-timeout SECONDS",
        "Stop a worker whose import of the application takes longer.",
        60,
        max=MAX_SECONDS,
    )
    max_rss: str | None = _limit(
        "--max-rss SIZE", "Replace a worker that uses more memory: 500M, 2G."
    )
    max_messages: int | None = _limit(
        "--max-messages N", "Replace a worker after N messages.", min=1
    )
    settle_window: float = _limit(
        "--settle-window MS",
        "How long a success may wait to share a commit, in milliseconds.",
        5,
        min=0,
        max=1000,
    )

    def check(self) -> None:
        """Refuse a time that is none, before anything is imported."""
        _above_zero(self.start_timeout, "--start-timeout")
        if self.timeout is not None:
            _above_zero(self.timeout, "--timeout")

    def supervisor(
        self, options: WorkerOptions, procs: int, store: Store, **watched: Any
    ) -> Supervisor:
        """Return the supervisor of a fleet, with its watchers."""
        from durableq.supervisor.supervisor import Supervisor

        return Supervisor(
            options,
            procs,
            store,
            max_rss_bytes=_max_rss(self.max_rss),
            start_seconds=self.start_timeout,
            **watched,
        )

    def applied(self, options: WorkerOptions) -> WorkerOptions:
        """Return the options of a worker with these limits."""
        timeout = self.timeout
        return options.changed(
            timeout_ms=options.timeout_ms if timeout is None else _above_zero(timeout, "--timeout"),
            grace_ms=_above_zero(self.grace, "--grace"),
            max_messages=self.max_messages or 0,
            settle_window_ms=round(self.settle_window),
        )


@dataclass(frozen=True)
class Watching:
    """Options that say how a fleet reports."""

    log_format: Logs = LogFormat.TEXT
    log_level: Level = LogLevel.INFO
    metrics: str | None = option(
        "--metrics HOST:PORT",
        "Serve histograms of handlers and waits to Prometheus.",
        None,
        show_default="off",
    )


def work(
    session: Session,
    procs: Procs = 1,
    threads: int = option("--threads N", _THREADS, 1, min=1, max=256),
    queue: Queues = None,
    command: str | None = option("--exec COMMAND", _EXEC, None),
    drain: bool = option("--drain", "Stop when no message is left, delayed ones included.", False),
    *,
    source: EventSource,
    watching: Watching,
    limits: Limits,
) -> None:
    """Run worker processes that receive messages and call handlers.

    The fleet runs until SIGTERM or Ctrl-C, which let running handlers finish; a second one, at
    least a second later, stops them at once. SIGHUP replaces the workers one by one. A worker that
    dies is replaced, and its messages are ready again at once.

    With --drain the fleet also waits for delayed messages, and for those of paused queues. The
    progress is shown, in one line of a terminal, otherwise as a log line every ten seconds; at the
    end a line counts the messages that completed, failed and died.

    Exit codes: 0 if all handlers finished, 130 or 143 if some were stopped, 1 if no worker starts.

    Example: durableq work --procs 4 --app shop:dq
    """
    log_format, log_level = watching.log_format, watching.log_level
    limits.check()
    source.check()
    systemd = Systemd()
    line = _line(log_format, log_level) if drain else None
    configure(log_format, "supervisor", sys.stderr if line is None else line, log_level)
    report = _reporter(log_format, log_level, line, as_json=session.as_json)

    def load() -> tuple[WorkerOptions, DurableQ]:
        with _not_longer_than(limits.start_timeout, log_format):
            if source.function is None:
                return _worker(session, command, tuple(queue or ()))
            return source.worker(session, queue or (), limits.timeout, threads, command)

    options, loaded = wait_out(load, log)
    with closing(systemd), loaded, _histograms(watching.metrics, report) as histograms:
        forms = {"log_format": log_format.value, "log_level": log_level.value}
        options = limits.applied(options).changed(threads=threads, drain=drain, **forms)
        is_plain = log_format is LogFormat.TEXT and not session.as_json and options.app
        hint = demo_hint(session) if is_plain else None
        store = wait_out(lambda: _store(loaded, options), log)
        watched = {"on_event": report, "histograms": histograms, "around": _above(line)}
        fleet = limits.supervisor(options, procs, store, systemd=systemd, **watched)
        if log_format is LogFormat.TEXT:
            session.announce(loaded.url)
        if hint is not None:
            output.say(hint)
        raise typer.Exit(_run(fleet, options, loaded, report, line))


def _run(
    fleet: Supervisor,
    options: WorkerOptions,
    loaded: DurableQ,
    report: Report,
    line: LiveLine | None,
) -> int:
    """Run a fleet to its end, showing its progress if it drains queues; return the exit code."""
    if not options.drain:
        return fleet.run()
    from durableq.cli.drain import run

    return run(fleet.run, loaded.store, _queues(loaded, options), report, line)


def _line(log_format: LogFormat, log_level: LogLevel) -> LiveLine | None:
    """Return the line for the progress; None where log lines have it, or it is not wanted."""
    is_wanted = log_format is LogFormat.TEXT and log_level in {LogLevel.DEBUG, LogLevel.INFO}
    return LiveLine() if is_wanted and is_possible() else None


def _above(line: LiveLine | None) -> Around:
    """Return what makes the context for output above the line, if there is one."""
    return nullcontext if line is None else line.above


def _queues(loaded: DurableQ, options: WorkerOptions) -> list[str]:
    """Return the names of the queues that a fleet receives from."""
    from durableq.worker.options import chosen_handlers

    if options.command:
        return list(options.queues)
    return [handler.queue for handler in chosen_handlers(loaded, options.queues)]


@contextmanager
def _histograms(
    address: str | None, report: Callable[[SupervisorEvent], None]
) -> Iterator[FleetHistograms | None]:
    """Serve the histograms of a fleet during the block; yield None without an address.

    Raises:
        Unsupported: prometheus-client is not installed.
    """
    if address is None:
        yield None
        return
    from durableq.metrics import library

    library()
    from durableq.metrics.fleet import FleetMetrics
    from durableq.metrics.serving import MetricsServer, parse_address
    from durableq.supervisor.histograms import FleetHistograms
    from durableq.supervisor.supervisor import SupervisorEvent

    histograms = FleetHistograms()
    server = MetricsServer(FleetMetrics(histograms), *parse_address(address, "--metrics"))
    with server.running():
        report(SupervisorEvent("metrics", f"metrics of this fleet are at {server.url}"))
        yield histograms


def _store(loaded: DurableQ, options: WorkerOptions) -> Store:
    """Return the store of an application whose handlers fit the settings of their queues."""
    from durableq.worker.options import check_handlers, chosen_handlers

    store = loaded.store
    if not options.command:
        check_handlers(store, chosen_handlers(loaded, options.queues))
    return store


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
    session: Session, command: str | None, queues: tuple[str, ...]
) -> tuple[WorkerOptions, DurableQ]:
    """Return the options of each worker and the application, checked before anything starts."""
    from durableq.worker.options import WorkerOptions, chosen_handlers

    if command is None:
        spec, loaded = session.application()
        chosen_handlers(loaded, queues)
        return WorkerOptions(app=spec, url=loaded.url, name="worker", queues=queues), loaded
    if session.app is not None:
        raise output.Misuse("--exec runs a command for each message, --app functions: choose one.")
    from durableq.worker.command import parse

    arguments = parse(command)
    with ExitStack() as stack:  # a retry after an outage opens the file anew
        loaded = stack.enter_context(DurableQ(session.url))
        named = [loaded.store.require(Capability.INSPECT).queue(name).name for name in queues]
        queues = tuple(dict.fromkeys(named or source_queues(loaded.store)))
        if not queues:
            raise output.Misuse(
                f"{loaded.address} has no queue yet, so there is nothing to run a command for. "
                "Create one with `durableq queue create NAME`."
            )
        stack.pop_all()
    return WorkerOptions("", loaded.url, "worker", queues, arguments), loaded


def _reporter(
    log_format: LogFormat, log_level: LogLevel, line: LiveLine | None, *, as_json: bool
) -> Report:
    """Return the function that prints an event of the fleet, as a log line or as JSON data."""
    shown = [*LogLevel][[*LogLevel].index(log_level) :]
    around = _above(line)

    def report(event: SupervisorEvent, **facts: Any) -> None:
        if line is not None and event.event == "ended":
            line.end()  # the next look shows it again, if other workers go on
        with suppress(OSError, DurableQError), around():  # a closed output does not end the fleet
            if as_json:
                output.json_line(event._asdict() | facts)
                return
            level = LogLevel.WARNING if event.event in _WARNINGS else LogLevel.INFO
            if level not in shown:
                return
            if log_format is LogFormat.JSON:
                known = {"worker": event.worker, "pid": event.pid, "level": level, **facts}
                output.say(json_line(event.event, event.text, process="supervisor", **known))
            else:
                output.say_sentence(text_line(event.text, process="supervisor", level=level))

    return report


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
