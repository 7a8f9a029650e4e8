"""`python -m durableq.worker OPTIONS`: one worker, started by a supervisor.

OPTIONS is a JSON object of WorkerOptions. Workers are started by exec, never by fork, so that they
inherit no SQLite connection.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from durableq.client.app import DurableQ
from durableq.client.handlers import load
from durableq.model.errors import GONE_MEANWHILE, DatabaseMoved, DurableQError
from durableq.runtime import logs
from durableq.runtime.outage import MIGRATED, MOVED, TEMPORARY, cause_of, describe
from durableq.runtime.wakeup import WakeupEvent, wait_readable
from durableq.supervisor.scoreboard import Scoreboard
from durableq.worker import command
from durableq.worker.options import BLOCKED_AT_START, WorkerOptions
from durableq.worker.output import keep_output_apart
from durableq.worker.worker import Worker

log = logging.getLogger("durableq.worker")


def main() -> int:
    """Run one worker with the options in the first argument; return its exit code."""
    options = WorkerOptions.from_json(sys.argv[1])
    keep_output_apart(options)
    scoreboard = None if options.scoreboard < 0 else Scoreboard(options.scoreboard)
    # Ctrl-C and the end of a terminal reach the whole group; the supervisor asks by SIGTERM. Not
    # SIG_IGN, which programs that handlers start would inherit.
    for number in BLOCKED_AT_START:
        signal.signal(number, lambda _number, _frame: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, BLOCKED_AT_START)
    try:
        with _exiting_with_supervisor(options.lifeline):
            app, options = _application(options)
        worker = Worker(app, options, scoreboard)
        signal.signal(signal.SIGTERM, lambda _number, _frame: worker.stopping.set())
        os.register_at_fork(after_in_child=_restore_default_signals)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # the kernel's stop, without Python
        try:
            worker.run()
        finally:
            # Threads left by handlers may run on for a while, even without a supervisor.
            signal.setitimer(signal.ITIMER_REAL, 2 * options.grace_ms / 1000)
    except GONE_MEANWHILE as error:
        is_moved = isinstance(error, DatabaseMoved)
        log.warning("%s", error, extra=logs.facts("moved" if is_moved else "migrated"))
        return MOVED if is_moved else MIGRATED
    except DurableQError as error:
        cause = cause_of(error)
        if cause is None:
            log.error("%s", error)
            return 1
        log.warning("%s", describe(cause), extra=logs.facts("busy"))
        return TEMPORARY
    return 0


@contextmanager
def _exiting_with_supervisor(lifeline: int) -> Iterator[None]:
    """Exit if the supervisor dies during the block: an import may wait forever."""
    if lifeline < 0:
        yield
        return
    done = WakeupEvent()

    def watch() -> None:
        while not done.is_set:
            if wait_readable(60, done, lifeline) and wait_readable(0, lifeline):
                os._exit(1)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        done.close()


def _restore_default_signals() -> None:
    """Restore the default signal handlers in a process that a handler forked."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def _application(options: WorkerOptions) -> tuple[DurableQ, WorkerOptions]:
    if options.function:
        from durableq.contrib.awslambda import mapping  # what imports it is not started for others

        return mapping.application(options), options
    if not options.command:
        app = load(options.app, DurableQ)
        app.use(options.url)
        return app, options
    handler = command.Command(options.command, options.timeout_ms)
    app = command.application(options.queues, handler, options.url)
    return app, options.changed(timeout_ms=0)  # the command is stopped, not the worker


if __name__ == "__main__":
    sys.exit(main())
