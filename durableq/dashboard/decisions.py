"""The actions on dead letters: decisions of a person about one, several, or all that match."""

from __future__ import annotations

import itertools
import json
from typing import Any
from urllib.parse import urlencode

from durableq.dashboard import redrives
from durableq.dashboard.errors import Refusal, refusal_of
from durableq.dashboard.letters import UNCHANGED, escaped, seen, wanted
from durableq.dashboard.visit import Done, Visit
from durableq.model import codec
from durableq.model.dead_letters import DeadLetterFilter
from durableq.model.decisions import Decision, Discard, Hold, Release, Requeue, Retry
from durableq.model.errors import DurableQError, InvalidBody
from durableq.model.message import DeadLetter
from durableq.model.text import shown, visible
from durableq.store.core import Capability


def redrive(visit: Visit) -> Done:
    """Send dead letters back to their queues, unchanged."""
    return _decide(visit, Requeue(visit.note or "redriven by hand", _delay(visit)), "Redriven")


def discard(visit: Visit) -> Done:
    """Remove dead letters for good."""
    return _decide(visit, Discard(visit.note or "discarded by hand"), "Discarded")


def hold(visit: Visit) -> Done:
    """Hold dead letters for a person."""
    return _decide(visit, Hold(visit.note or "held by hand"), "Held")


def release(visit: Visit) -> Done:
    """Let recovery decide again about dead letters that are held."""
    return _decide(visit, Release(visit.note or "released by hand"), "Released")


def retry(visit: Visit) -> Done:
    """Send a dead letter back with the body that a person has edited.

    Raises:
        Refusal: the text is not JSON, the dead letter is not as the person saw it or is leased, or
            fields are hidden. It has the form, so that the person's text is not lost.
    """
    try:
        return _retry(visit)
    except (Refusal, DurableQError) as error:
        refusal = refusal_of(error)
        refusal.form = {name: visible(value) for name, value in visit.form.items()}
        refusal.form["body"] = escaped(visit.form.get("body", ""))
        raise refusal from error


def _retry(visit: Visit) -> Done:
    if visit.redaction.is_on:  # the form would write the word in place of a hidden value
        raise Refusal(403, f"Bodies cannot be edited while fields are hidden. {UNCHANGED}")
    letter = _dead_letter(visit, visit.named("id"))
    if visit.form.get("seen") != seen(letter.message):
        raise Refusal(
            409,
            f"Dead letter {letter.id} has changed since you opened its page. {UNCHANGED}",
            "Copy your text, and open its page again.",
        )
    body = _edited(visit.form.get("body", ""))
    if codec.encode(body) == letter.message.body:
        raise Refusal(400, f"The body is as it was. {UNCHANGED}", "To retry it so, redrive it.")
    decision = Retry(body, visit.note or "edited by hand", _delay(visit))
    if not _apply(visit, [letter], decision):
        raise Refusal(
            409,
            f"A recovery process has leased dead letter {letter.id}. {UNCHANGED}",
            "Try again when it has decided.",
        )
    return Done(f"/messages/{letter.id}", f"Message {letter.id} is sent back with another body.")


def _edited(text: str) -> Any:
    """Return the value of an edited body.

    Raises:
        Refusal: it is not JSON.
    """
    try:
        return codec.read_json(text.encode())
    except InvalidBody as error:
        raise Refusal(400, f"{_place(text)}{error} {UNCHANGED}") from None


def _place(text: str) -> str:
    """Return the line of the first error in a text that is to be JSON."""
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return f"The body, line {error.lineno}: "
    except (ValueError, RecursionError):
        pass
    return "The body: "


def _delay(visit: Visit) -> float:
    return visit.number("delay") or 0


def _decide(visit: Visit, decision: Decision | Release, done: str) -> Done:
    """Apply a decision to the selected dead letters, or begin a redrive task for all that match.

    Raises:
        Refusal: none is selected, the decision cannot be made about all at once, or there is no
            such scope or reason.
    """
    match = wanted(visit.form.get)  # refused before anything is decided
    scope = visit.form.get("scope", "selected")
    if scope == "all":
        return _decide_all(visit, decision, match)
    if scope != "selected":
        raise Refusal(400, f"There is no scope {shown(scope)}. {UNCHANGED}", "Say selected or all.")
    found = [_dead_letter(visit, one) for one in dict.fromkeys(visit.ids)]
    if not found:
        raise Refusal(400, "No dead letter is selected.", "Go back, and select some.")
    chosen = found
    if isinstance(decision, Release):
        chosen = [letter for letter in found if letter.message.held]
        if not chosen:
            raise Refusal(409, f"None of them is held. {UNCHANGED}")
    decided = _apply(visit, chosen, decision)
    left = len(chosen) - len(decided)
    leased = f" {left} left, because a recovery process has leased them." if left else ""
    single = f"/messages/{found[0].id}" if "reason" not in visit.form else ""
    return Done(single or _back(visit), f"{done}: {len(decided):,}.{leased}")


def _apply(visit: Visit, letters: list[DeadLetter], decision: Decision | Release) -> list[str]:
    """Apply a decision to the dead letters that are not leased, and return their ids."""
    decided: list[str] = []
    for queue, found in itertools.groupby(letters, lambda letter: letter.message.queue):
        decided += visit.store.require(Capability.DEAD_LETTERS).decide_by_id(
            queue, [letter.id for letter in found], decision, actor=visit.actor
        )
    return decided


def _decide_all(visit: Visit, decision: Decision | Release, match: DeadLetterFilter) -> Done:
    if not isinstance(decision, Requeue | Discard):
        word = "held" if isinstance(decision, Hold) else "released"
        what = f"All that match cannot be {word} at once."
        raise Refusal(400, what, "Select them, page by page.")
    rate = visit.number("rate") if isinstance(decision, Requeue) else None
    task = visit.store.require(Capability.REDRIVE).start_redrive(
        match, decision, actor=visit.actor, rate=rate
    )
    redrives.carry_out(visit.dq, task)
    return Done("/dead-letters", f"Redrive task {task.id} decides about {task.total:,} letters.")


def _dead_letter(visit: Visit, message_id: str) -> DeadLetter:
    found = visit.store.require(Capability.DEAD_LETTERS).dead_letter(message_id)
    if found is None:
        raise Refusal(404, f"There is no dead letter {message_id} any more. {UNCHANGED}")
    return found


def _back(visit: Visit) -> str:
    names = ("queue", "reason", "group")
    return "/dead-letters?" + urlencode({name: visit.form.get(name, "") for name in names})
