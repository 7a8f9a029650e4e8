"""A queue: its numbers, limits, messages and settings."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote, urlencode

from starlette.responses import RedirectResponse, Response

from durableq.admin import limits, progress
from durableq.admin.readers import Readers
from durableq.admin.status import QueueView
from durableq.cli import rendering
from durableq.dashboard import charts
from durableq.dashboard.errors import Refusal
from durableq.dashboard.guard import root_of
from durableq.dashboard.visit import Visit
from durableq.model.info import QueueInfo, Search
from durableq.model.message import State
from durableq.model.settings import SETTINGS, Kind
from durableq.model.units import is_whole_span, span
from durableq.store.capabilities import Inspect
from durableq.store.core import Capability

#: Messages in a page.
PAGE: Final = 50
#: A time from here on has another unit than seconds too.
LONG_MS: Final = 120_000
SEARCHES: Final = ("text", "key", "id")
STATES: Final = [state.label for state in State]


def values(visit: Visit) -> dict[str, Any] | Response:
    """Return the values of the page; a search for an id leads to the message.

    Raises:
        Refusal: there is no such state, or no such search.
    """
    by, text = visit.one_of("by", SEARCHES), visit.query("text")
    if text and not by:
        raise Refusal(
            400, "The search does not say by what.", f"Write by={' or by='.join(SEARCHES)}."
        )
    label = visit.one_of("state", STATES)
    if by == "id" and text:
        return RedirectResponse(f"{root_of(visit.request)}/messages/{quote(text.strip(), safe='')}")
    inspect = visit.store.require(Capability.INSPECT)
    info, dead = _found(inspect, visit.named("name"))
    readers = Readers(visit.store.require(Capability.FLEET).workers())
    neglect = readers.neglect(info)
    wanted = _wanted(label, by, text)
    page = inspect.search(info.name, PAGE, wanted, visit.query("before") or None)
    now_ms = rendering.now_ms()
    samples = inspect.samples(info.name, now_ms - charts.DAY_MS)
    return {
        "day": charts.day(samples, info, now_ms),
        "messages": page.messages,
        "progress": progress.in_flight(visit.store, info.name, PAGE),
        "next_address": _next(visit, page.looked_to),
        "hides": visit.redaction.is_on,
        "searched": {"by": by, "text": text, "state": label},
        "states": STATES,
        "queue": info,
        "numbers": _numbers(info, dead),
        "neglect": f"{neglect[:1].upper()}{neglect[1:]}",
        "limits": list(limits.words(info)),
        "settings": _settings(info),
    }


def _found(inspect: Inspect, name: str) -> tuple[QueueInfo, QueueInfo | None]:
    """Return a queue, and its dead-letter queue.

    Raises:
        UnknownQueue: there is no such queue.
    """
    info = inspect.queue(name)
    infos = {each.name: each for each in inspect.queues(dead_letters=True)}
    return infos.get(name, info), infos.get(info.dead_letter_queue or "")


def _wanted(label: str, by: str, text: str) -> Search:
    state = next((each for each in State if each.label == label), None)
    key, part = text if by == "key" else None, text if by == "text" else None
    return Search(state, key or None, part or None)


def _next(visit: Visit, looked_to: str | None) -> str:
    """Return the address of the next page; empty after the last one."""
    if looked_to is None:
        return ""
    query = dict(visit.request.query_params) | {"before": looked_to}
    return f"/queues/{visit.named('name')}?{urlencode(query)}"


def _settings(info: QueueInfo) -> dict[str, str]:
    """Return settings in words; a long time also in a larger unit, if that is exact."""
    words = rendering.setting_words(info.settings)
    for name, setting in SETTINGS.items():
        value = getattr(info.settings, name)
        if setting.kind is Kind.TIME and value >= LONG_MS and is_whole_span(value):
            words[name.removesuffix("_ms")] += f" ({span(value)})"
    return words


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
        view = QueueView(info, dead)
        letters, total = view.dead_letters, view.counters
        found += [("Dead", letters.present, "bad"), ("Held", letters.held, "warn")]
    else:
        found.append(("Held", counts.held, "warn"))
    return [*found, ("Sent", total.sent, ""), ("Completed", total.completed, "")]
