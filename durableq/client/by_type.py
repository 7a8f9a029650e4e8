"""Several handlers of one queue: the attribute `type` of a message chooses among them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from durableq.model.arguments import listed
from durableq.model.errors import InvalidInput, Reject
from durableq.model.text import shown

if TYPE_CHECKING:
    from durableq.client.delivery import Delivery
    from durableq.client.handlers import Handler

#: The attribute of a message that names its type.
ATTRIBUTE: Final = "type"


def joined(before: Handler | None, made: Handler, kind: str | None) -> Handler:
    """Return the handler of a queue, with another one for a type.

    Args:
        before: the handler of the queue so far.
        made: the new one.
        kind: the type of its messages; None: all that no other takes.

    Raises:
        InvalidInput: there is one for them, or the two are of different kinds.
    """
    types: dict[str | None, Handler] = {}
    if before is not None:
        types |= before.types or {None: before}
    if kind is not None and (not isinstance(kind, str) or not kind):
        raise InvalidInput(f"type is the text of an attribute of messages, got {shown(kind)}.")
    if kind in types:
        of = "" if kind is None else f" for messages of type {kind!r}"
        raise InvalidInput(f"Queue {made.queue!r} has a handler{of} already.")
    types[kind] = made
    if types.keys() == {None}:
        return made
    _check_alike(made.queue, types)
    functions = tuple(function for one in types.values() for function in one.functions)
    prefetch = next((one.prefetch for one in types.values() if one.prefetch is not None), None)
    call = _waiting(types) if made.is_async else _calling(types)
    reader = _reading(types)
    return replace(
        made, function=call, prefetch=prefetch, reader=reader, functions=functions, types=types
    )


def _check_alike(queue: str, types: Mapping[str | None, Handler]) -> None:
    """Check that one executor can serve all handlers of a queue.

    Raises:
        InvalidInput: it cannot.
    """
    if any(one.batch is not None for one in types.values()):
        raise InvalidInput(
            f"Queue {queue!r} has a handler of batches, which is given messages of every type: "
            "handlers by type are given one message at a time."
        )
    if len({one.is_async for one in types.values()}) > 1:
        raise InvalidInput(
            f"The handlers of queue {queue!r} are partly `async def`: make all of them so, or none."
        )
    if len({one.prefetch for one in types.values()} - {None}) > 1:
        raise InvalidInput(f"The handlers of queue {queue!r} share one prefetch: give the same.")


def _chosen(types: Mapping[str | None, Handler], delivery: Delivery) -> Handler | None:
    named = delivery.attributes.get(ATTRIBUTE)
    found = types.get(named) if isinstance(named, str) else None
    return types.get(None) if found is None else found


def _found(types: Mapping[str | None, Handler], delivery: Delivery) -> Handler:
    """Return the handler of a message.

    Raises:
        Reject: there is none for its type.
    """
    found = _chosen(types, delivery)
    if found is None:
        names = listed([repr(name) for name in types])
        named = delivery.attributes.get(ATTRIBUTE)
        kind = "no type" if named is None else f"type {shown(named)}"
        raise Reject(f"queue {delivery.queue!r} has handlers for {names}, and this has {kind}")
    return found


def _calling(types: Mapping[str | None, Handler]) -> Any:
    def call(delivery: Delivery) -> Any:
        return _found(types, delivery).function(delivery)

    return call


def _waiting(types: Mapping[str | None, Handler]) -> Any:
    async def wait(delivery: Delivery) -> Any:
        return await _found(types, delivery).function(delivery)

    return wait


def _reading(types: Mapping[str | None, Handler]) -> Any:
    if not any(one.reader for one in types.values()):
        return None

    def read(delivery: Delivery) -> Any:
        found = _chosen(types, delivery)
        return delivery.body if found is None or found.reader is None else found.reader(delivery)

    return read
