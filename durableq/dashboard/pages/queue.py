"""A queue: its numbers, limits, messages and settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlencode

from durableq.admin import limits
from durableq.admin.readers import Readers
from durableq.cli import rendering
from durableq.dashboard.visit import Visit
from durableq.model.info import QueueInfo
from durableq.model.message import Message
from durableq.store.core import Capability

#: Messages in a page.
PAGE: Final = 50


def values(visit: Visit) -> dict[str, Any]:
    """Return the values of the page."""
    inspect = visit.store.require(Capability.INSPECT)
    info = inspect.queue(visit.named("name"))
    dead = inspect.queue(info.dead_letter_queue) if info.dead_letter_queue else None
    readers = Readers(visit.store.require(Capability.FLEET).workers())
    neglect = readers.neglect(info)
    messages = inspect.peek(info.name, PAGE + 1, visit.query("after") or None)
    return {
        "messages": messages[:PAGE],
        "next_address": _next(info.name, messages),
        "queue": info,
        "numbers": _numbers(info, dead),
        "neglect": f"{neglect[:1].upper()}{neglect[1:]}",
        "limits": list(limits.words(info)),
        "settings": rendering.setting_words(info.settings),
    }


def _next(name: str, messages: Sequence[Message]) -> str:
    if len(messages) <= PAGE:
        return ""
    return f"/queues/{name}?" + urlencode({"after": messages[PAGE - 1].id})


def _numbers(info: QueueInfo, dead: QueueInfo | None) -> list[tuple[str, int, str]]:
    """Return each number with its label and its colour."""
    counts, total = info.counts, info.counters
    found = [
        ("Ready", counts.ready, ""),
        ("Delayed", counts.delayed, ""),
        ("In flight", counts.in_flight, ""),
        ("Blocked", counts.blocked, ""),
    ]
    if dead is not None:
        total += dead.counters
        found += [("Dead", dead.counts.present, "bad"), ("Held", dead.counts.held, "warn")]
    else:
        found.append(("Held", counts.held, "warn"))
    return [*found, ("Sent", total.sent, ""), ("Completed", total.completed, "")]
