"""The answers that are no actions of a queue: the caller's identity, health, and a look."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Final

from durableq.cli.output import SCHEMA
from durableq.cli.rendering import message_document
from durableq.client.coroutines import read
from durableq.model.errors import DurableQError, InvalidInput, UnknownQueue
from durableq.model.text import shown
from durableq.runtime.outage import describe
from durableq.serve.context import Context, Operations
from durableq.serve.wire.requests import GET_CALLER_IDENTITY, Request
from durableq.store.core import Capability, Store

HEALTH: Final = "/health"
PEEK: Final = "/_durableq/peek"
#: A database that does not answer within this time cannot be read.
HEALTH_SECONDS: Final = 5.0
MAX_PEEKED: Final = 1000
_PEEKED: Final = 20


async def get_caller_identity(context: Context, parameters: dict[str, Any]) -> dict[str, Any]:
    """Return who the caller is: the root of the account that the access key names."""
    return {
        "Arn": f"arn:aws:iam::{context.account}:root",
        "UserId": context.account,
        "Account": context.account,
    }


#: The action of STS.
STS: Final[Operations] = {GET_CALLER_IDENTITY: get_caller_identity}


async def health(store: Store) -> tuple[int, dict[str, Any]]:
    """Return the HTTP status and the document that say whether the database can be read."""
    try:
        async with asyncio.timeout(HEALTH_SECONDS):
            await read(store, _look, store)
    except TimeoutError:
        why = f"the database has not answered within {HEALTH_SECONDS:g} seconds"
    except DurableQError as error:
        why = describe(error)
    else:
        return 200, {"status": "ok"}
    return 503, {"status": "unavailable", "message": why}


def _look(store: Store) -> None:
    with suppress(UnknownQueue):  # to have looked is enough
        store.settings("health")


async def peek(store: Store, request: Request) -> tuple[int, dict[str, Any]]:
    """Return the HTTP status, and messages of a queue in every state, as `durableq peek --json`.

    The fields of the query string are `queue`, `limit` and `after`, as the command's options.
    """
    try:
        return 200, await _peeked(store, request)
    except (InvalidInput, UnknownQueue) as error:
        status = 404 if isinstance(error, UnknownQueue) else 400
        said = {"type": type(error).__name__, "message": str(error)}
        return status, {"schema": SCHEMA, "error": said}


async def _peeked(store: Store, request: Request) -> dict[str, Any]:
    fields = request.fields
    for name in fields:
        if name not in {"queue", "limit", "after"}:
            raise InvalidInput(f"{PEEK} takes queue, limit and after, not {shown(name)}.")
    queue, limit = fields.get("queue", ""), fields.get("limit", str(_PEEKED))
    if not queue:
        raise InvalidInput(f"Name the queue: {PEEK}?queue=NAME.")
    is_number = limit.isascii() and limit.isdecimal() and len(limit) < 6
    if not is_number or not 1 <= int(limit) <= MAX_PEEKED:
        raise InvalidInput(f"limit is 1 to {MAX_PEEKED}, got {shown(limit)}.")
    inspect = store.require(Capability.INSPECT)
    found = await read(store, inspect.peek, queue, int(limit), fields.get("after") or None)
    messages = [message_document(one) for one in found]
    return {"schema": SCHEMA, "queue": queue, "messages": messages}
