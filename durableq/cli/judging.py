"""Verdicts before they are made and after: which policy they are of, as words and as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from durableq.app import DurableQ
from durableq.cli import output
from durableq.cli.inspect import MessageId
from durableq.cli.options import (
    App,
    Db,
    Json,
    application,
    check_lasting,
    check_there,
    given,
    opened,
)
from durableq.errors import NotFound
from durableq.message import DeadLetter
from durableq.store import Monitor
from durableq.units import span
from durableq.verdict import Requeue, Retry, Verdict

if TYPE_CHECKING:
    from durableq.recovery.policies import Judgment
    from durableq.recovery.process import Decision
    from durableq.recovery.rules import Rule, Rules

PolicyFile = Annotated[
    str | None,
    typer.Option(
        "--policy",
        metavar="FILE",
        callback=given,
        help="A TOML file of rules, instead of an application's policies: not with --app.",
    ),
]


def explain(
    message_id: MessageId,
    policy: PolicyFile = None,
    app: App = None,
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Say what recovery would decide about a dead letter: which rule, and why none before it.

    Example: durableq dlq explain 17 --policy recovery.toml
    """
    from durableq.recovery.process import Recovery

    loaded, rules = chosen_policies(policy, app, db)
    policies = Recovery(loaded, rules=rules).policies
    with opened(loaded.url) as store:
        letter = store.dead_letter(message_id)
        if letter is None:
            raise NotFound(f"There is no dead letter {message_id}.")
        judgment = policies.judge(letter)
        met = letter.source_queue in policies.queues(store)
        breaker = breaker_words(store, letter.source_queue)
    if as_json:
        output.document(_explanation(letter, judgment, breaker) | {"met": met})
        return
    for text in _explained(letter, judgment, breaker):
        output.line(text)
    if not met:
        output.line(
            f"Recovery would not meet it: nothing here is for queue {letter.source_queue!r}."
        )


COMMANDS: Final = (explain,)


def chosen_policies(
    policy: str | None, app: str | None, db: str | None
) -> tuple[DurableQ, Rules | None]:
    """Return the application, and the rules if a file of them decides in its place.

    Raises:
        Misuse: both were named.
        InvalidInput: the rules cannot be meant; nothing was opened.
        NotFound: there is no database for the rules.
    """
    if policy is None:
        return application(app, db)[1], None
    if app is not None:
        raise output.Misuse("Name --policy or --app, not both: one of them decides.")
    from durableq.recovery.reading import read

    rules = read(policy)
    plain = DurableQ(db)
    check_lasting(plain.url)
    check_there(plain.url)
    return plain, rules


def decision_document(decision: Decision) -> dict[str, Any]:
    """Return a decision as JSON."""
    return {
        "event": "decision",
        "id": decision.letter.id,
        "queue": decision.letter.source_queue,
        "key": decision.letter.key,
        **_verdict_document(decision.verdict),
        "by": decision.by,
        "outcome": decision.outcome.value if decision.outcome else None,
    }


def decision_words(decision: Decision) -> str:
    """Return a decision in a line; of one that is only planned also whose it is."""
    verdict, letter = decision.verdict, decision.letter
    words = f"{word(verdict):<8} {letter.id:>6} of {letter.source_queue}"
    if verdict.reason:
        words += f": {verdict.reason}"
    if decision.outcome is None:
        words += f" [{decision.by}]"
    elif decision.outcome.refused:
        words += " (refused: somebody else had decided)"
    return words


def word(verdict: Verdict) -> str:
    """Return a verdict's name: discard, retry, requeue or hold."""
    return type(verdict).__name__.lower()


def breaker_words(monitor: Monitor, queue: str) -> str | None:
    """Return in words why nothing is sent back to a queue, or only a little; None if all is."""
    from durableq.recovery import breaker

    state = breaker.read(monitor, queue)
    if state is None or state.phase is breaker.Phase.CLOSED:
        return None
    if state.phase is breaker.Phase.HALF_OPEN:
        return f"The breaker of {queue} is half-open: only probes are sent back."
    return (
        f"The breaker of {queue} is open: {state.died} of {state.judged} messages that recovery "
        "sent back died again; nothing is sent back until it probes."
    )


def _verdict_document(verdict: Verdict) -> dict[str, Any]:
    described: dict[str, Any] = {"verdict": word(verdict), "reason": verdict.reason}
    if isinstance(verdict, (Retry, Requeue)):
        described["delay"] = verdict.delay
    if isinstance(verdict, Retry) and not isinstance(verdict.body, bytes):
        described["body"] = verdict.body
    return described


def _rule_document(rule: Rule) -> dict[str, Any]:
    return {"number": rule.number, "name": rule.name or None, "line": rule.line}


def _explanation(letter: DeadLetter, judgment: Judgment, breaker: str | None) -> dict[str, Any]:
    return {
        "id": letter.id,
        "queue": letter.source_queue,
        "held": letter.message.held,
        **_verdict_document(judgment.verdict),
        "by": judgment.by,
        "rule": None if judgment.rule is None else _rule_document(judgment.rule),
        "passed_over": [_rule_document(rule) | {"why": why} for rule, why in judgment.passed_over],
        "breaker": breaker,
    }


def _explained(letter: DeadLetter, judgment: Judgment, breaker: str | None) -> list[str]:
    verdict = judgment.verdict
    words = f"{word(verdict)} letter {letter.id} of {letter.source_queue}, by {judgment.by}"
    told = [words + (f": {verdict.reason}" if verdict.reason else "")]
    sends_back = isinstance(verdict, (Retry, Requeue))
    if isinstance(verdict, (Retry, Requeue)) and verdict.delay:
        told.append(f"It would be ready {span(verdict.delay_ms)} later.")
    if isinstance(verdict, Retry):
        told.append(f"Its body would be {_body_words(verdict.body)}")
    told += [f"Not {rule.place}: {why}." for rule, why in judgment.passed_over]
    if letter.message.held:
        told.append("It is held: recovery leaves it to a person.")
    elif breaker is not None and sends_back:
        told.append(breaker)
    return told


def _body_words(body: Any) -> str:
    return f"{len(body)} bytes." if isinstance(body, bytes) else json.dumps(body)
