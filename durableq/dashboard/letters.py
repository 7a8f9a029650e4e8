"""Dead letters as the pages and their actions see them: filters, and bodies to edit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Final

from durableq.dashboard.errors import Refusal
from durableq.model import codec
from durableq.model.dead_letters import DeadLetterFilter
from durableq.model.errors import InvalidBody
from durableq.model.message import Message, Reason
from durableq.model.text import shown

UNCHANGED: Final = "Nothing was changed."
#: A longer body is not put into a form.
MAX_EDITED_CHARS: Final = 256 << 10


def wanted(value: Callable[[str], str | None]) -> DeadLetterFilter:
    """Return the filter of a form or an address.

    Args:
        value: returns the text under a name, or nothing.

    Raises:
        Refusal: there is no such reason.
    """
    reason = value("reason")
    if reason and reason not in set(Reason):  # without it all would match
        known = f"The reasons are {', '.join(Reason)}."
        raise Refusal(400, f"There is no reason {shown(reason)}. {UNCHANGED}", known)
    return DeadLetterFilter(
        queue=value("queue") or None,
        reason=Reason(reason) if reason else None,
        fingerprint=value("group") or None,
    )


def seen(message: Message) -> str:
    """Return a mark of a dead letter as it is: one that was sent back meanwhile has another."""
    body = message.body
    stored = body if isinstance(body, bytes) else str(body).encode("utf-8", "surrogateescape")
    known = f"{message.id} {message.recovery_count} {message.enqueued_at_ms} "
    return hashlib.sha256(known.encode() + stored).hexdigest()[:32]


def editable(message: Message) -> str | None:
    """Return a body as JSON in lines, to be edited; None if it is no JSON, or too long."""
    if isinstance(message.body, bytes):
        return None
    try:
        value = codec.decode(message.body)
    except InvalidBody:
        return None
    text = json.dumps(value, ensure_ascii=False, indent=2)
    if len(text) > MAX_EDITED_CHARS:
        return None
    return escaped(text)


def escaped(text: str) -> str:
    r"""Return a text of JSON with escapes for the characters that act on a screen: \u202e.

    In a string of JSON an escape means the same; elsewhere such a character is wrong anyway.
    """
    text = text.replace("\r\n", "\n")
    if text.replace("\n", "").isprintable():
        return text
    return "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    if character in "\n\t" or character.isprintable():
        return character
    return json.dumps(character)[1:-1]
