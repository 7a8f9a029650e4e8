"""Recovery decisions, as words and as JSON, and `durableq dlq explain`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Final

from durableq.cli import output
from durableq.cli.help import option
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
from durableq.client.app import DurableQ
from durableq.model.decisions import Decision, Requeue, Retry
from durableq.model.errors import NotFound
from durableq.model.message import DeadLetter
from durableq.model.units import span
from durableq.store.core import Capability, Store

if TYPE_CHECKING:
    from durableq.recovery.policies import PolicyDecision
    from durableq.recovery.process import RecoveryResult
    from durableq.recovery.rules import Rule, Rules

PolicyFile = Annotated[
    str | None,
    option(
        "--policy",
        placeholder="FILE",
        callback=given,
        help="TOML file of rules, in place of the application's policies.",
    ),
]


def explain(
    message_id: MessageId,
    policy: PolicyFile = None,
    app: App = None,
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Show what recovery would decide about a dead letter.

    Names the rule or policy that decides, and why each rule before it does not match.

    Example: durableq dlq explain 17 --policy recovery.toml
    """
    from durableq.recovery.process import Recovery

    loaded, rules = chosen_policies(policy, app, db)
    policies = Recovery(loaded, rules=rules).policies
    with opened(loaded.url) as store:
        dead_letter = store.require(Capability.DEAD_LETTERS).dead_letter(message_id)
        if dead_letter is None:
            raise NotFound(f"There is no dead letter {message_id}.")
        decided = policies.decide(dead_letter)
        met = dead_letter.source_queue in policies.queues(store)
        circuit_breaker = breaker_words(store, dead_letter.source_queue)
    if as_json:
        output.document(_explanation(dead_letter, decided, circuit_breaker) | {"met": met})
        return
    for text in _explained(dead_letter, decided, circuit_breaker):
        output.line(text)
    if not met:
        output.line(
            f"Recovery would not meet it: nothing here is for queue {dead_letter.source_queue!r}."
        )


COMMANDS: Final = (explain,)


def chosen_policies(
    policy: str | None, app: str | None, db: str | None
) -> tuple[DurableQ, Rules | None]:
    """Return the application, and the rules of the file that decides in its place.

    Raises:
        Misuse: --policy and --app are both given.
        InvalidInput: the rules are invalid; nothing was opened.
        NotFound: the database does not exist.
    """
    if policy is None:
        return application(app, db)[1], None
    if app is not None:
        raise output.Misuse("Name --policy or --app, not both: one of them decides.")
    from durableq.recovery.rules_file import read

    rules = read(policy)
    plain = DurableQ(db)
    check_lasting(plain.url)
    check_there(plain.url)
    return plain, rules


def decision_document(applied: RecoveryResult) -> dict[str, Any]:
    """Return a decision as JSON."""
    return {
        "event": "decision",
        "id": applied.dead_letter.id,
        "queue": applied.dead_letter.source_queue,
        "key": applied.dead_letter.key,
        **_decision_document(applied.decision),
        "by": applied.by,
        "outcome": applied.outcome.value if applied.outcome else None,
    }


def decision_words(applied: RecoveryResult) -> str:
    """Return a decision on one line; of a planned one also its policy."""
    decision, dead_letter = applied.decision, applied.dead_letter
    words = f"{word(decision):<8} {dead_letter.id:>6} of {dead_letter.source_queue}"
    if decision.reason:
        words += f": {decision.reason}"
    if applied.outcome is None:
        words += f" [{applied.by}]"
    elif applied.outcome.refused:
        words += " (refused: another process or a person decided first)"
    return words


def word(decision: Decision) -> str:
    """Return the name of a decision: discard, retry, requeue or hold."""
    return type(decision).__name__.lower()


def breaker_words(monitor: Store, queue: str) -> str | None:
    """Return the state of a queue's circuit breaker in words; None if it is closed."""
    from durableq.recovery import circuit_breaker

    state = circuit_breaker.read(monitor, queue)
    if state is None or state.phase is circuit_breaker.Phase.CLOSED:
        return None
    if state.phase is circuit_breaker.Phase.HALF_OPEN:
        return f"The breaker of {queue} is half-open: only probes are sent back."
    return (
        f"The breaker of {queue} is open: {state.died} of {state.judged} messages that recovery "
        "sent back died again; nothing is sent back until it probes."
    )


def _decision_document(decision: Decision) -> dict[str, Any]:
    name = word(decision)
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


def _rule_document(rule: Rule) -> dict[str, Any]:
    return {"number": rule.number, "name": rule.name or None, "line": rule.line}


def _explanation(
    dead_letter: DeadLetter, decided: PolicyDecision, circuit_breaker: str | None
) -> dict[str, Any]:
    return {
        "id": dead_letter.id,
        "queue": dead_letter.source_queue,
        "held": dead_letter.message.held,
        **_decision_document(decided.decision),
        "by": decided.by,
        "rule": None if decided.rule is None else _rule_document(decided.rule),
        "passed_over": [_rule_document(rule) | {"why": why} for rule, why in decided.passed_over],
        "breaker": circuit_breaker,
    }


def _explained(
    dead_letter: DeadLetter, decided: PolicyDecision, circuit_breaker: str | None
) -> list[str]:
    decision = decided.decision
    subject = f"dead letter {dead_letter.id} of {dead_letter.source_queue}"
    words = f"{word(decision)} {subject}, by {decided.by}"
    lines = [words + (f": {decision.reason}" if decision.reason else "")]
    sends_back = isinstance(decision, (Retry, Requeue))
    if isinstance(decision, (Retry, Requeue)) and decision.delay:
        lines.append(f"It would be ready {span(decision.delay_ms)} later.")
    if isinstance(decision, Retry):
        lines.append(f"Its body would be {_body_words(decision.body)}")
    lines += [f"Not {rule.location}: {why}." for rule, why in decided.passed_over]
    if dead_letter.message.held:
        lines.append("It is held: recovery leaves it to a person.")
    elif circuit_breaker is not None and sends_back:
        lines.append(circuit_breaker)
    return lines


def _body_words(body: Any) -> str:
    return f"{len(body)} bytes." if isinstance(body, bytes) else json.dumps(body)
