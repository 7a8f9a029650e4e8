"""The options of `durableq work --lambda`, and the worker that they describe."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from durableq.cli import output
from durableq.cli.help import option
from durableq.cli.options import Session, source_queues
from durableq.client.app import DurableQ
from durableq.model.units import to_ms
from durableq.runtime import logs
from durableq.store.core import Capability

if TYPE_CHECKING:
    from durableq.worker.options import WorkerOptions

log = logging.getLogger("durableq.supervisor")

#: Bounds of AWS.
MAX_BATCH: Final = 10_000
MAX_WINDOW_SECONDS: Final = 300
MAX_TIMEOUT_SECONDS: Final = 900


def _option(shown: str, text: str, default: Any = None, **more: Any) -> Any:
    return option(shown, text, default, "AWS Lambda", **more)


@dataclass(frozen=True)
class EventSource:
    """Options of a Lambda function that is fed from queues."""

    function: str | None = _option(
        "--lambda MODULE:HANDLER",
        "Invoke this Lambda function with events like those of SQS, in place of an application.",
    )
    batch_size: int | None = _option(
        "--batch-size N",
        "Most messages of an event; over 10 needs a window.",
        min=1,
        max=MAX_BATCH,
        show_default="10",
    )
    batch_window: float | None = _option(
        "--batch-window SECONDS",
        "How long to gather the messages of an event.",
        min=0,
        max=MAX_WINDOW_SECONDS,
        show_default="0",
    )
    report_failures: bool = _option(
        "--report-batch-item-failures",
        "Read the function's answer: only the messages that it names fail.",
        False,
    )

    def check(self) -> None:
        """Refuse options that have no effect without --lambda."""
        given = {
            "--batch-size": self.batch_size is not None,
            "--batch-window": self.batch_window is not None,
            "--report-batch-item-failures": self.report_failures,
        }
        if self.function is None and any(given.values()):
            name = next(name for name, is_given in given.items() if is_given)
            raise output.Misuse(f"{name} is for a Lambda function: give --lambda too.")

    def worker(
        self,
        session: Session,
        queues: Sequence[str],
        timeout: float | None,
        threads: int,
        command: str | None,
    ) -> tuple[WorkerOptions, DurableQ]:
        """Return the options of each worker and the application, checked before anything starts.

        Args:
            session: of the command.
            queues: those that --queue names; none means all.
            timeout: --timeout, or None.
            threads: --threads.
            command: --exec.
        """
        self._refuse(session, timeout, threads, command)
        from durableq.contrib.awslambda import context, mapping
        from durableq.worker.options import WorkerOptions

        options = WorkerOptions(
            app="",
            url=session.url,
            name="worker",
            function=self.function or "",
            batch_size=self.batch_size or mapping.PLAIN_BATCH,
            batch_window_ms=to_ms(self.batch_window or 0, "--batch-window"),
            report_failures=self.report_failures,
            timeout_ms=context.DEFAULT_TIMEOUT_MS
            if timeout is None
            else to_ms(timeout, "--timeout"),
        )
        with ExitStack() as stack:  # a retry after an outage opens the file anew
            with DurableQ(session.url) as read:
                options = options.changed(queues=_queues(read, queues))
                for queue in options.queues:
                    advice = mapping.check(queue, read.store.settings(queue), options)
                    if advice is not None:
                        log.warning("%s", advice, extra=logs.facts("visibility", queue=queue))
            app = stack.enter_context(mapping.application(options))
            stack.pop_all()
        return options, app

    def _refuse(
        self, session: Session, timeout: float | None, threads: int, command: str | None
    ) -> None:
        if session.app is not None or command is not None:
            other = "--app" if command is None else "--exec"
            raise output.Misuse(f"--lambda and {other} each say what to run: choose one.")
        if threads != 1:
            raise output.Misuse(
                "An environment of Lambda runs one invocation at a time, so --threads does not go "
                "with --lambda: use --procs."
            )
        if timeout is not None and timeout > MAX_TIMEOUT_SECONDS:
            raise output.Misuse(
                f"--timeout of a Lambda function is at most {MAX_TIMEOUT_SECONDS} s, "
                f"got {timeout:g}."
            )


def _queues(read: DurableQ, names: Sequence[str]) -> tuple[str, ...]:
    inspect = read.store.require(Capability.INSPECT)
    queues = tuple(
        dict.fromkeys([inspect.queue(name).name for name in names] or source_queues(read.store))
    )
    if not queues:
        raise output.Misuse(
            f"{read.address} has no queue yet, so there is nothing to feed a function from. "
            "Create one with `durableq queue create NAME`."
        )
    return queues
