"""Return values of handlers: results that can be kept, and the answer of a batch handler."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from typing import Any, Final

from durableq.client.failures import type_name
from durableq.model import codec
from durableq.model.errors import InvalidResult
from durableq.model.text import visible

FAILURES: Final = "batchItemFailures"
IDENTIFIER: Final = "itemIdentifier"
SHOWN_CHARS: Final = 80
_ALLOWED: Final = (
    f'A batch handler returns None, or {{"{FAILURES}": [{{"{IDENTIFIER}": message.id}}, ...]}}'
)


def encode_answer(result: Any) -> str | None:
    """Return the result of a handler of single messages as it is kept under the key.

    Raises:
        InvalidResult: JSON cannot hold it, it is a coroutine or a generator of which nothing has
            run, or the answer of a batch handler.
    """
    if result is None:
        return None
    refuse_unrun(result)
    if isinstance(result, Mapping) and FAILURES in result:
        raise InvalidResult(
            f"{FAILURES!r} is the answer of a batch handler, and this handler is given one message "
            "at a time: raise an exception to let it fail, or register it with batch=N."
        )
    return codec.encode_result(result)


def failed_of_batch(answer: Any, ids: Collection[str]) -> set[str]:
    """Return the ids of the messages that a batch handler's answer lets fail, as in AWS Lambda.

    Args:
        answer: None, an empty mapping, or `{"batchItemFailures": [{"itemIdentifier": id}, ...]}`.
        ids: of the messages in the batch.

    Raises:
        InvalidResult: any other value, a malformed identifier, or one that is not in the batch:
            the whole batch fails.
    """
    refuse_unrun(answer)
    if answer is None:
        return set()
    if not isinstance(answer, Mapping):
        raise InvalidResult(
            f"The handler returned {_shown(answer)}. {_ALLOWED}; batch.set_result keeps a result."
        )
    fields = dict(answer)
    entries = fields.pop(FAILURES, None)
    if fields:
        raise InvalidResult(f"The handler returned {_shown(answer)}. {_ALLOWED}, and nothing else.")
    if entries is None:
        return set()
    if not isinstance(entries, (list, tuple)):
        raise InvalidResult(f"{FAILURES!r} is {_shown(entries)}. {_ALLOWED}.")
    return {_identifier(entry, ids) for entry in entries}


def _identifier(entry: Any, ids: Collection[str]) -> str:
    if not isinstance(entry, Mapping) or list(entry) != [IDENTIFIER]:
        raise InvalidResult(f"{FAILURES!r} holds {_shown(entry)}. {_ALLOWED}.")
    found = entry[IDENTIFIER]
    if not isinstance(found, str) or found not in ids:
        raise InvalidResult(
            f"{FAILURES!r} names {_shown(found)}, which is the id of no message in this batch, so "
            f"all {len(ids)} fail. An id is a string: message.id."
        )
    return str(found)


def refuse_unrun(result: Any) -> None:
    """Refuse a value that stands for code of the handler that has not run.

    Raises:
        InvalidResult: a coroutine, another awaitable, or a generator.
    """
    if inspect.iscoroutine(result):
        result.close()  # or Python warns that it was never awaited
    name = type_name(type(result))
    if inspect.isawaitable(result):
        raise InvalidResult(
            f"The handler returned a {name}, so its code has not run: register the `async def` "
            "function itself, or run it to its end and return its result."
        )
    if inspect.isgenerator(result) or inspect.isasyncgen(result):
        raise InvalidResult(
            f"The handler returned a {name}, so its code has not run: a handler does not yield."
        )


def _shown(value: Any) -> str:
    try:
        return visible(repr(value), SHOWN_CHARS)
    except Exception:  # noqa: BLE001 - a user's __repr__ may raise anything
        return f"a {type_name(type(value))}"
