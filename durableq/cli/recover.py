"""`durableq recover`: apply policies or rules to dead letters until stopped."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from durableq.cli import output
from durableq.cli.decisions import (
    PolicyFile,
    breaker_words,
    chosen_policies,
    decision_document,
    decision_words,
    word,
)
from durableq.cli.help import option
from durableq.cli.options import App, Db, Json, Logs, Queues, demo_hint, opened, start
from durableq.runtime import startup
from durableq.runtime.logs import LogFormat, configure, json_line
from durableq.runtime.signals import StopRequests, has_terminal

if TYPE_CHECKING:
    from durableq.recovery.circuit_breaker import BreakerChange
    from durableq.recovery.process import Recovery, RecoveryResult

log = logging.getLogger("durableq.recovery")

Once = Annotated[bool, option("--once", help="Stop when no dead letter is ready.")]
DryRun = Annotated[bool, option("--dry-run", help="Print the decisions, and change nothing.")]
PerSecond = Annotated[
    float | None,
    option(
        "--rate",
        placeholder="N",
        show_default="no limit",
        help="Maximum number of messages to send back per second.",
    ),
]


def _print_schema(wanted: bool) -> None:
    if wanted:
        from durableq.recovery.rules_file import json_schema

        output.document(json_schema())
        raise typer.Exit


Schema = Annotated[
    bool,
    option(
        "--schema",
        is_eager=True,
        callback=_print_schema,
        help="Print the JSON Schema of rules files, for editors, and exit.",
    ),
]


def recover(
    policy: PolicyFile = None,
    app: App = None,
    queue: Queues = None,
    rate: PerSecond = None,
    once: Once = False,
    dry_run: DryRun = False,
    log_format: Logs = LogFormat.TEXT,
    db: Db = None,
    as_json: Json = False,
    schema: Schema = False,
) -> None:
    """Decide about dead letters by policies or rules, until stopped.

    Each dead letter is discarded, retried with a changed body, requeued unchanged, or held for a
    person; its history keeps the decision and the reason. While messages that were sent back keep
    failing, the queue's circuit breaker is open: nothing is sent back, then a few probes.

    Example: durableq recover --policy recovery.toml --dry-run
    """
    if dry_run and rate is not None:
        raise output.Misuse("--rate limits messages sent back, and --dry-run sends none: drop one.")
    from durableq.recovery.process import Recovery

    configure(log_format, "recovery", sys.stderr)
    loaded, rules = start(lambda: chosen_policies(policy, app, db), log)
    said = _Said(as_json, log_format)
    plain = log_format is LogFormat.TEXT and not as_json
    hint = demo_hint(app) if plain and policy is None else None
    recovery = Recovery(
        loaded, queues=tuple(queue or ()), rules=rules, rate=rate, on_change=said.change
    )
    if dry_run:
        said.plan(recovery, loaded.url, hint)
    else:
        with loaded, _stopping(recovery.stopping.set, said.comment):
            start(lambda: loaded.store, log)
            said.hint(hint)
            recovery.run(once=once, on_decision=said.decision)
    counts = ", ".join(f"{number} {name}" for name, number in sorted(said.decisions.items()))
    said.comment("decided", f"{'Would decide' if dry_run else 'Decided'}: {counts or 'nothing'}.")


COMMANDS: Final = (recover,)


class _Said:
    """Prints decisions and breaker changes, and counts the decisions."""

    def __init__(self, as_json: bool, log_format: LogFormat) -> None:
        self._as_json = as_json
        self._log_format = log_format
        self.decisions: Counter[str] = Counter()

    def decision(self, decision: RecoveryResult) -> None:
        self.decisions[word(decision.decision)] += 1
        if self._as_json:
            output.json_line(decision_document(decision))
        else:
            output.line(decision_words(decision))

    def plan(self, recovery: Recovery, url: str, hint: str | None) -> None:
        with opened(url) as store:
            self.hint(hint)
            for decision in recovery.plan(store):
                self.decision(decision)
            for name in recovery.policies.queues(store):
                if (words := breaker_words(store, name)) is not None:
                    self.comment("breaker", words)

    def hint(self, text: str | None) -> None:
        if text is not None:
            output.say(text)

    def change(self, change: BreakerChange) -> None:
        if self._as_json:
            output.json_line(_change_document(change))
        else:
            self.comment("breaker", f"durableq: {change.text}.", queue=change.queue)

    def comment(self, event: str, text: str, **known: Any) -> None:
        if self._log_format is LogFormat.JSON:
            text = json_line(event, text, process="recovery", **known)
        output.say(text)


def _change_document(change: BreakerChange) -> dict[str, Any]:
    state = change.state
    return {
        "event": "breaker",
        "queue": change.queue,
        "before": change.before.value,
        "phase": state.phase.value,
        "since_ms": state.since_ms,
        "trips": state.trips,
        "died": state.died,
        "judged": state.judged,
        "cool_down_ms": change.cool_down_ms if state.phase.value == "open" else None,
        "text": change.text,
    }


@contextmanager
def _stopping(stop: Callable[[], None], say: Callable[[str, str], None]) -> Iterator[None]:
    """Stop on the first SIGTERM or SIGINT; let a second one end the process.

    The kernel handles the second one, so that no policy can catch it, as it could catch
    KeyboardInterrupt. SIGHUP stops only if the terminal is gone.
    """
    requests = StopRequests()
    terminal = has_terminal()

    def on_stop(number: int, _frame: object) -> None:
        requests.note(number)
        stop()
        if requests.count > 1:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def on_hang_up(number: int, frame: object) -> None:
        if terminal and not has_terminal():
            on_stop(number, frame)
        else:
            say("not_reloaded", "SIGHUP does not load policies anew: stop recover and start it.")

    handlers: dict[signal.Signals, Callable[[int, object], None]] = {
        signal.SIGTERM: on_stop,
        signal.SIGINT: on_stop,
        signal.SIGHUP: on_hang_up,
    }
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # nohup
        del handlers[signal.SIGHUP]
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    startup.finish()
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
