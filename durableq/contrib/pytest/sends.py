"""The messages that an application has sent in a test, and assertions about them."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from difflib import SequenceMatcher, ndiff
from typing import Any, Final

from durableq.client.queue import Queue
from durableq.contrib.pytest.recording import recorded
from durableq.model import codec
from durableq.model.errors import InvalidInput
from durableq.model.message import Draft
from durableq.model.text import shown

#: Messages that a failed assertion shows.
_SHOWN: Final = 10


class _Anything:
    """Equal to every value."""

    def __eq__(self, _: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return "ANY"


ANY: Final[Any] = _Anything()


@dataclass(frozen=True, slots=True)
class Sent:
    """A message that was sent, and whose transaction has committed."""

    id: str
    queue: str
    body: Any
    key: str | None
    attributes: dict[str, str | int | float]
    #: Seconds; None means the delay of the queue.
    delay: float | None
    priority: int
    group: str | None


def sent(queue: Queue) -> list[Sent]:
    """Return the messages that were sent to a queue in this test, in order.

    Those that were handled or replaced since are in the list; those whose transaction was rolled
    back, and those that were shed or deduplicated, are not. Messages of other processes are not
    either.

    Raises:
        InvalidInput: it is not a queue of an application with a fresh store.
    """
    if not isinstance(queue, Queue):
        raise InvalidInput(f'Give the queue itself, dq.queue("orders"); got {shown(queue)}.')
    found = recorded(queue._app).committed_sends(queue.name)
    return [_sent(message_id, queue.name, draft) for message_id, draft in found]


def assert_sent(
    queue: Queue, body: Any = ANY, *, key: Any = ANY, count: int | None = None
) -> list[Sent]:
    """Assert that a message was sent to a queue, and return those that match.

    Args:
        queue: as for `sent`.
        body: the body that it has; left out, any.
        key: its key; left out, any.
        count: the number of messages that match; None: one or more.

    Raises:
        AssertionError: there is no such message, or another number; with the difference.
        InvalidInput: as for `sent`, or `count` is not a number of messages.
    """
    __tracebackhide__ = True
    if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 0):
        raise InvalidInput(f"count is a whole number, 0 or more, got {shown(count)}.")
    there = sent(queue)
    found = _matching(there, body, key)
    if len(found) == count or (count is None and found):
        return found
    raise AssertionError(_report(queue.name, there, len(found), body, key, count))


def assert_not_sent(queue: Queue, body: Any = ANY, *, key: Any = ANY) -> None:
    """Assert that no message was sent to a queue, or none with this body and key.

    Raises:
        AssertionError: there is one.
        InvalidInput: as for `sent`.
    """
    __tracebackhide__ = True
    found = _matching(sent(queue), body, key)
    if found:
        says = f"{_number(len(found))} {_terms(body, key)} sent to {queue.name!r}, expected none:"
        raise AssertionError("\n".join([says, *_list(found)]))


def _sent(message_id: str, queue: str, draft: Draft) -> Sent:
    return Sent(
        id=message_id,
        queue=queue,
        body=codec.decode(draft.body),
        key=draft.key,
        attributes=codec.decode_attributes(draft.attributes),
        delay=None if draft.delay_ms is None else draft.delay_ms / 1000,
        priority=draft.priority,
        group=None if draft.flow is None else draft.flow.group,
    )


def _matching(there: list[Sent], body: Any, key: Any) -> list[Sent]:
    bodies = [body]
    with suppress(InvalidInput):  # a tuple arrives as a list; ANY, and mock.ANY, cannot be sent
        bodies.append(codec.decode(codec.encode(body)))
    return [one for one in there if one.body in bodies and key == one.key]


def _report(
    queue: str, there: list[Sent], found: int, body: Any, key: Any, count: int | None
) -> str:
    """Return the messages that were sent, and how the nearest one differs from what was wanted."""
    expected = "at least 1" if count is None else str(count)
    was = f"{_number(found)} {_terms(body, key)} sent to {queue!r}, expected {expected}"
    if not there:
        return f"{was}. Nothing was sent to {queue!r}."
    lines = [f"{was}. These were sent:", *_list(there)]
    if not found and body is not ANY:
        wanted, others = _text(body), [_text(one.body) for one in there]
        nearest = max(others, key=lambda text: SequenceMatcher(None, wanted, text).ratio())
        if nearest != wanted:
            lines.append(f"Message {there[others.index(nearest)].id} differs (- expected, + sent):")
            diff = ndiff(wanted.splitlines(), nearest.splitlines())
            lines += [f"  {line}" for line in diff if not line.startswith("?")]
    return "\n".join(lines)


def _number(number: int) -> str:
    return "1 message" if number == 1 else f"{number or 'No'} messages"


def _terms(body: Any, key: Any) -> str:
    """Return the conditions of an assertion, as words."""
    given = {"body": body, "key": key}
    terms = [f"{name} {value!r}" for name, value in given.items() if value is not ANY]
    return f"with {' and '.join(terms)}" if terms else "of any kind"


def _list(some: list[Sent]) -> list[str]:
    lines = [
        f"  {one.id}: {one.body!r}" + (f", key {one.key!r}" if one.key is not None else "")
        for one in some[:_SHOWN]
    ]
    return lines + ([f"  and {len(some) - _SHOWN} more"] if len(some) > _SHOWN else [])


def _text(body: Any) -> str:
    try:
        return json.dumps(body, indent=2, sort_keys=True, ensure_ascii=False)
    except (TypeError, ValueError):
        return repr(body)
