"""The argument of a handler, by its annotation.

Nothing, Any, object, Delivery and Batch: the delivery or the batch. `Delivery[Order]` and
`Batch[Order]`: the same, with bodies of that type. Anything else is the type of a body, and the
handler is called with that; a handler of batches with a list of them.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import wraps
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Final,
    NamedTuple,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
)

from durableq.client.delivery import Batch, Delivery
from durableq.model.errors import InvalidInput
from durableq.runtime.objects import reader_of

if TYPE_CHECKING:
    from durableq.client.handlers import Handler

Function = Callable[..., Any]
#: An annotation that need not be resolvable: ours, imported for type checkers only.
_OURS: Final = re.compile(r"(?:\w+\.)*(Delivery|Batch)")
_CARRIERS: Final = {"Delivery": Delivery, "Batch": Batch}


class Argument(NamedTuple):
    """The argument of a handler."""

    #: Makes an object of a body's type; None: bodies are JSON values.
    reader: Callable[[Any], Any] | None
    #: Whether it is called with the body, or the bodies, and not with what carries them.
    is_body: bool = False


_PLAIN: Final = Argument(None)


def argument_of(function: Function, *, is_batch: bool) -> Argument:
    """Return what the annotation of a handler's argument asks for.

    Raises:
        InvalidInput: it cannot be resolved, is no type of a body, or is for the other kind.
    """
    hint = _hint(function)
    bare = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    if bare in {inspect.Parameter.empty, Any, object} or isinstance(bare, TypeVar):
        return _PLAIN
    if {get_origin(one) or one for one in get_args(bare)} == {Delivery, Batch}:
        return _PLAIN  # `Delivery | Batch`, of a function that serves both
    carrier, other = (Batch, Delivery) if is_batch else (Delivery, Batch)
    origin = get_origin(bare) or bare
    if origin is other or (is_batch and origin not in {Batch, list, Sequence}):
        raise InvalidInput(
            f"{_name(function)} is a handler of {'batches' if is_batch else 'single messages'}, "
            f"annotated with {_shown(hint)}: annotate its argument with {carrier.__name__}, or "
            f"with {'list[Order]' if is_batch else 'the type of a body'}."
        )
    if origin is carrier:
        return Argument(reader_of(*get_args(bare))) if get_args(bare) else _PLAIN
    if is_batch:
        (kind,) = get_args(bare) or (Any,)
        return Argument(reader_of(kind), is_body=True)
    return Argument(reader_of(hint), is_body=True)


def with_argument(handler: Handler) -> Handler:
    """Return a handler that is called as the annotation of its function asks.

    Raises:
        InvalidInput: as for argument_of.
    """
    function, is_batch = handler.function, handler.batch is not None
    found = argument_of(function, is_batch=is_batch)
    call, read = function, found.reader
    if found.is_body:
        call = wraps(function)(_with_bodies(function, is_batch=is_batch, is_async=handler.is_async))
    reader = None if read is None else lambda delivery: read(delivery.message.body)
    return replace(handler, function=call, reader=reader, functions=(function,))


def _with_bodies(function: Function, *, is_batch: bool, is_async: bool) -> Function:
    """Return a handler of deliveries that calls a handler of bodies."""

    def call(delivery: Delivery) -> Any:
        return function(delivery.body)

    def call_with_all(batch: Batch) -> Any:
        return function([one.body for one in batch])

    async def wait(delivery: Delivery) -> Any:
        return await function(delivery.body)

    async def wait_for_all(batch: Batch) -> Any:
        return await function([one.body for one in batch])

    if is_async:
        return wait_for_all if is_batch else wait
    return call_with_all if is_batch else call


def _hint(function: Function) -> Any:
    """Return the annotation of the first parameter.

    Raises:
        InvalidInput: it is text that cannot be resolved.
    """
    try:
        first = next(iter(inspect.signature(function).parameters.values()), None)
    except (TypeError, ValueError):  # written in C, and says nothing of its arguments
        return inspect.Parameter.empty
    if first is None:
        return inspect.Parameter.empty
    hint = first.annotation
    return _resolved(function, hint) if isinstance(hint, str) else hint


def _resolved(function: Function, text: str) -> Any:
    """Resolve an annotation alone: others of the function may name what is not imported."""
    inner = inspect.unwrap(function)
    inner = getattr(inner, "__func__", inner)
    if not hasattr(inner, "__globals__"):
        inner = getattr(type(inner).__call__, "__wrapped__", type(inner).__call__)
    holder = type("holder", (), {"__annotations__": {"argument": text}})
    try:
        return get_type_hints(holder, globalns=getattr(inner, "__globals__", {}))["argument"]
    except Exception as error:
        if ours := _OURS.fullmatch(text.strip()):
            return _CARRIERS[ours[1]]
        raise InvalidInput(
            f"The annotation {text!r} of {_name(function)} says what it is called with, and cannot "
            f"be resolved ({error}). Import it at the top of the module, not only for type "
            "checkers."
        ) from error


def _name(function: object) -> str:
    return str(getattr(function, "__qualname__", type(function).__qualname__))


def _shown(hint: Any) -> str:
    return str(getattr(hint, "__name__", None) or hint)
