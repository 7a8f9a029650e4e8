"""The limits of a queue as they stand, in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from durableq.model.flow.breaker import Phase
from durableq.model.flow.info import LimitsInfo
from durableq.model.health import Finding, Level
from durableq.model.info import GroupInfo, QueueInfo
from durableq.model.settings import QueueSettings
from durableq.model.text import visible
from durableq.model.units import span


def words(info: QueueInfo) -> Iterator[str]:
    """Yield a few words for each limit that is on: "rate: next token in 40 ms"."""
    limits = info.limits
    if limits.breaker is not None:
        yield f"breaker: {breaker_words(limits)}"
    if limits.started < 1:
        yield f"slow start: {100 * limits.started:.0f} % of the capacity"
    if limits.places is not None:
        yield f"in flight: {limits.in_flight} of {limits.places}"
    if limits.tokens is not None:
        yield f"rate: {_when(limits.tokens, limits.next_token_ms, 'next token')}"
    if limits.retries is not None:
        yield f"retries: {_when(limits.retries, limits.next_retry_ms, 'next')}"
    if info.settings.group_concurrency:
        yield f"groups: {info.counts.blocked:,} blocked"
    yield from map(_of_backlog, _backlog(info))


def _backlog(info: QueueInfo) -> Iterator[tuple[int, int, str]]:
    """Yield each backlog limit that is on: the backlog, its limit, and the unit."""
    limits, settings = info.limits, info.settings
    if settings.max_backlog:
        yield info.counts.present, settings.max_backlog, "messages"
    if limits.backlog_bytes is not None:
        yield limits.backlog_bytes, settings.max_backlog_bytes, "bytes"


def _of_backlog(backlog: tuple[int, int, str]) -> str:
    stored, most, unit = backlog
    return f"backlog: {stored:,} of {most:,} {unit}"


def breaker_words(limits: LimitsInfo) -> str:
    """Return the phase of a breaker in a few words, with the reason unless it is closed."""
    phase = limits.breaker or Phase.CLOSED
    words = phase.label
    if phase is Phase.OPEN:
        words += f", probes in {span(limits.probes_in_ms or 0)}"
    return words if phase is Phase.CLOSED else f"{words}: {visible(limits.breaker_reason or '')}"


def _when(number: int, next_ms: int | None, what: str) -> str:
    return f"{what} in {span(next_ms)}" if next_ms else f"{number} now"


def held_back(info: QueueInfo, *, is_retry: bool) -> Iterator[str]:
    """Yield a sentence for each limit that lets no message of a queue through now.

    Args:
        info: the queue.
        is_retry: whether the message was received before.
    """
    limits, settings = info.limits, info.settings
    if limits.breaker is Phase.OPEN:
        yield (
            f"breaker: {breaker_words(limits)}. Until then nothing is received from "
            f"{info.name!r}; to go on now: durableq breaker close {info.name}."
        )
    if limits.breaker is Phase.HALF_OPEN:
        yield (
            f"breaker: {breaker_words(limits)}. At most {settings.breaker_probes} messages are in "
            "flight, as probes; messages that have not raised Unavailable go first."
        )
    if limits.places is not None and (limits.in_flight or 0) >= limits.places:
        yield (
            f"in flight: {limits.in_flight} of {limits.places}. max_in_flight lets no more through "
            "until one of them is settled or its lease ends."
        )
    if limits.next_token_ms:
        yield (
            f"rate: next token in {span(limits.next_token_ms)}. The queue has used what its rate "
            f"of {settings.rate:.15g} a second allows."
        )
    if is_retry and limits.next_retry_ms:
        yield (
            f"retries: next in {span(limits.next_retry_ms)}, or after enough other messages. "
            f"retry_share {settings.retry_share:.15g} is used up."
        )


def blocked(settings: QueueSettings, name: str, group: GroupInfo) -> str:
    """Return the sentence for a message that waits for its group."""
    shown = f"group {visible(name)}"
    if settings.group_on_dead and group.dead:
        return (
            f"It is blocked: message {group.dead[0].id} of its {shown} is a dead letter, and holds "
            "it until it is decided (group_on_dead is hold; see durableq dlq)."
        )
    if not group.active:
        return f"It is blocked, and no message of its {shown} is active: see durableq audit."
    most = settings.group_concurrency
    return (
        f"It is blocked behind message {group.active[0].id} of its {shown}, of which {most} "
        f"{'is' if most == 1 else 'are'} active at most (group_concurrency)."
    )


def findings(queues: Iterable[QueueInfo]) -> Iterator[Finding]:
    """Yield findings for each queue with limits."""
    for info in queues:
        if info.limits.breaker is Phase.OPEN:
            what = f"the breaker of {info.name} is {breaker_words(info.limits)}"
            advice = "It closes by itself when probes succeed. See durableq breaker show."
            yield Finding("breaker", Level.WARN, what, advice, queue=info.name)
        full = [_of_backlog(one) for one in _backlog(info) if one[0] >= one[1]]
        if full:
            advice = "Sends do not fit until workers complete messages: start more, or raise it."
            yield Finding(
                "backlog", Level.WARN, f"{info.name} is full: {', '.join(full)}", advice, info.name
            )
        told = ", ".join(words(info))
        if told:
            yield Finding("limits", Level.OK, f"{info.name}: {told}", queue=info.name)
