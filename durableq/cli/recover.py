"""`durableq recover` and `dlq explain`: decisions by policies or rules about dead letters."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from durableq.cli import output
from durableq.cli.help import option
from durableq.cli.options import (
    Level,
    Logs,
    MessageId,
    Queues,
    Session,
    check_there,
    demo_hint,
)
from durableq.client.app import DurableQ
from durableq.model.decisions import Requeue, Retry
from durableq.model.errors import NotFound
from durableq.model.message import DeadLetter
from durableq.model.units import span
from durableq.runtime.logs import LogFormat, LogLevel, configure, json_line
from durableq.runtime.outage import wait_out
from durableq.runtime.signals import Handler, StopRequests, handling, has_terminal
from durableq.runtime.systemd import Systemd
from durableq.store.core import Capability

if TYPE_CHECKING:
    from durableq.model.decisions import Decision
    from durableq.recovery.circuit_breaker import BreakerChange
    from durableq.recovery.policies import PolicyDecision
    from durableq.recovery.process import Recovery, RecoveryResult
    from durableq.recovery.rules import Rule, Rules

log = logging.getLogger("durableq.recovery")

_RATE: Final = "Maximum number of messages to send back per second."
_SCHEMA: Final = "Print the JSON Schema of rules files, for editors, and exit."


def _print_schema(wanted: bool) -> None:
    if wanted:
        from durableq.recovery.rules_file import json_schema

        output.foreign_document(json_schema())
        raise typer.Exit


PolicyFile = Annotated[
    str | None,
    option("--policy FILE", "TOML file of rules, in place of the application's policies."),
]


def recover(
    session: Session,
    policy: PolicyFile = None,
    queue: Queues = None,
    rate: float | None = option("--rate N", _RATE, None, show_default="no limit"),
    once: bool = option("--once", "Stop when no dead letter is ready.", False),
    dry_run: bool = option("--dry-run", "Print the decisions, and change nothing.", False),
    log_format: Logs = LogFormat.TEXT,
    log_level: Level = LogLevel.INFO,
    schema: bool = option("--schema", _SCHEMA, False, is_eager=True, callback=_print_schema),
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

    systemd = Systemd()
    configure(log_format, "recovery", sys.stderr, log_level)
    loaded, rules = wait_out(lambda: _chosen_policies(session, policy), log)
    report = _Report(session.as_json, log_format)
    plain = log_format is LogFormat.TEXT and not session.as_json
    hint = demo_hint(session) if plain and policy is None else None
    if plain:
        session.announce(loaded.url)
    queues = tuple(queue or ())
    recovery = Recovery(
        loaded, queues=queues, rules=rules, rate=rate, on_change=report.change, systemd=systemd
    )
    if dry_run:
        report.plan(recovery, loaded.url, hint)
    else:
        with closing(systemd), loaded, _stopping(recovery.stopping.set, report.comment):
            wait_out(lambda: loaded.store, log)
            report.hint(hint)
            recovery.run(once=once, on_decision=report.decision)
    counts = ", ".join(f"{number} {name}" for name, number in sorted(report.decisions.items()))
    report.comment("decided", f"{'Would decide' if dry_run else 'Decided'}: {counts or 'nothing'}.")


def explain(session: Session, message_id: MessageId, policy: PolicyFile = None) -> None:
    """Show what recovery would decide about a dead letter.

    Names the rule or policy that decides, and why each rule before it does not match.

    Example: durableq dlq explain 17 --policy recovery.toml
    """
    from durableq.recovery import circuit_breaker
    from durableq.recovery.process import Recovery

    loaded, rules = _chosen_policies(session, policy)
    policies = Recovery(loaded, rules=rules).policies
    with dataclasses.replace(session, db=loaded.url, app=None).opened() as store:
        dead_letter = store.require(Capability.DEAD_LETTERS).dead_letter(message_id)
        if dead_letter is None:
            raise NotFound(f"There is no dead letter {message_id}.")
        decided = policies.decide(dead_letter)
        met = dead_letter.source_queue in policies.queues(store)
        breaker = circuit_breaker.words(store, dead_letter.source_queue)
    lines = list(_explained(dead_letter, decided, breaker))
    if not met:
        source = dead_letter.source_queue
        lines.append(f"Recovery would not meet it: nothing here is for queue {source!r}.")
    session.show(_explanation(dead_letter, decided, breaker) | {"met": met}, *lines)


def _chosen_policies(session: Session, policy: str | None) -> tuple[DurableQ, Rules | None]:
    """Return the application, and the rules of the file that decides in its place.

    Raises:
        Misuse: --policy and --app are both given.
        InvalidInput: the rules are invalid; nothing was opened.
        NotFound: the database does not exist.
    """
    if policy is None:
        return session.application()[1], None
    if session.app is not None:
        raise output.Misuse("Name --policy or --app, not both: one of them decides.")
    from durableq.recovery.rules_file import read

    rules = read(policy)
    check_there(session.url)
    return DurableQ(session.url), rules


class _Report:
    """Prints decisions and breaker changes, and counts the decisions."""

    def __init__(self, as_json: bool, log_format: LogFormat) -> None:
        self._as_json = as_json
        self._log_format = log_format
        self.decisions: Counter[str] = Counter()

    def decision(self, applied: RecoveryResult) -> None:
        self.decisions[_word(applied.decision)] += 1
        if self._as_json:
            output.json_line(_result_document(applied))
        else:
            output.line(_result_line(applied))

    def plan(self, recovery: Recovery, url: str, hint: str | None) -> None:
        from durableq.recovery import circuit_breaker

        with Session(url).opened(is_named=False) as store:
            self.hint(hint)
            for decision in recovery.plan(store):
                self.decision(decision)
            for name in recovery.policies.queues(store):
                if (text := circuit_breaker.words(store, name)) is not None:
                    self.comment("breaker", text)

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


def _stopping(
    stop: Callable[[], None], say: Callable[[str, str], None]
) -> AbstractContextManager[None]:
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

    handlers: dict[signal.Signals, Handler] = {signal.SIGTERM: on_stop, signal.SIGINT: on_stop}
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
        handlers[signal.SIGHUP] = on_hang_up
    return handling(handlers)


# ---- decisions as text and as JSON


def _word(decision: Decision) -> str:
    """Return the name of a decision: discard, retry, requeue or hold."""
    return type(decision).__name__.lower()


def _decision_document(decision: Decision) -> dict[str, Any]:
    name = _word(decision)
    described: dict[str, Any] = {
        "decision": name,
        "verdict": name,  # deprecated name, until 0.3
        "reason": decision.reason,
    }
    if isinstance(decision, (Retry, Requeue)):
        described["delay"] = decision.delay
    if isinstance(decision, Retry) and not isinstance(decision.body, bytes):
        described["body"] = decision.body
    return described


def _result_document(applied: RecoveryResult) -> dict[str, Any]:
    return {
        "event": "decision",
        "id": applied.dead_letter.id,
        "queue": applied.dead_letter.source_queue,
        "key": applied.dead_letter.key,
        **_decision_document(applied.decision),
        "by": applied.by,
        "outcome": applied.outcome.value if applied.outcome else None,
    }


def _result_line(applied: RecoveryResult) -> str:
    """Return a decision on one line; of a planned one also its policy."""
    decision, dead_letter = applied.decision, applied.dead_letter
    words = f"{_word(decision):<8} {dead_letter.id:>6} of {dead_letter.source_queue}"
    if decision.reason:
        words += f": {decision.reason}"
    if applied.outcome is None:
        words += f" [{applied.by}]"
    elif applied.outcome.refused:
        words += " (refused: another process or a person decided first)"
    return words


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


def _rule_document(rule: Rule) -> dict[str, Any]:
    return {"number": rule.number, "name": rule.name or None, "line": rule.line}


def _explanation(
    dead_letter: DeadLetter, decided: PolicyDecision, breaker: str | None
) -> dict[str, Any]:
    return {
        "id": dead_letter.id,
        "queue": dead_letter.source_queue,
        "held": dead_letter.message.held,
        **_decision_document(decided.decision),
        "by": decided.by,
        "rule": None if decided.rule is None else _rule_document(decided.rule),
        "passed_over": [_rule_document(rule) | {"why": why} for rule, why in decided.passed_over],
        "breaker": breaker,
    }


def _explained(
    dead_letter: DeadLetter, decided: PolicyDecision, breaker: str | None
) -> Iterator[str]:
    decision = decided.decision
    subject = f"dead letter {dead_letter.id} of {dead_letter.source_queue}"
    words = f"{_word(decision)} {subject}, by {decided.by}"
    yield words + (f": {decision.reason}" if decision.reason else "")
    sends_back = isinstance(decision, (Retry, Requeue))
    if isinstance(decision, (Retry, Requeue)) and decision.delay:
        yield f"It would be ready {span(decision.delay_ms)} later."
    if isinstance(decision, Retry):
        body = decision.body
        shown = f"{len(body)} bytes." if isinstance(body, bytes) else json.dumps(body)
        yield f"Its body would be {shown}"
    for rule, why in decided.passed_over:
        yield f"Not {rule.location}: {why}."
    if dead_letter.message.held:
        yield "It is held: recovery leaves it to a person."
    elif breaker is not None and sends_back:
        yield breaker
