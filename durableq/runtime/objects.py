"""Objects as JSON values, and JSON values as objects of a type.

The types are those that pydantic knows: dataclasses, its own models, TypedDict, `list[Order]` and
the like; and msgspec's Struct, where that is installed.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

from durableq.model import codec
from durableq.model.errors import InvalidBody, InvalidInput
from durableq.model.text import shown, visible

#: Of a body that does not fit its type, the faults that are told.
_FAULTS: Final = 3
_FAULT_CHARS: Final = 200


def plain(value: Any) -> Any:
    """Return an object as a JSON value.

    Raises:
        TypeError: it is none of the types above.
    """
    kind: Any = type(value)
    if _is_struct(kind):
        return sys.modules["msgspec"].to_builtins(value)
    if dataclasses.is_dataclass(kind) or _is_model(kind):
        return _adapter(kind).dump_python(value, mode="json", warnings="error")
    raise TypeError(f"Object of type {kind.__name__} is not JSON serializable")


def reader_of(kind: Any) -> Callable[[Any], Any]:
    """Return a function that makes an object of a type from a JSON value, or raises InvalidBody.

    Raises:
        InvalidInput: no body can have this type.
    """
    read = _reads_struct(kind) if _is_struct(kind) else _reads(kind)
    name = getattr(kind, "__name__", None) or visible(str(kind), 80)

    def reader(body: Any) -> Any:
        try:
            return read(body)
        except Exception as error:
            raise InvalidBody(f"The body does not fit {name}: {_faults(error)}.") from error

    return reader


def _reads_struct(kind: Any) -> Callable[[Any], Any]:
    convert = sys.modules["msgspec"].convert
    return lambda body: convert(body, kind)


def _reads(kind: Any) -> Callable[[Any], Any]:
    try:
        read: Callable[[Any], Any] = _adapter(kind).validate_python
    except Exception as error:
        first = str(error).partition("\n")[0]
        raise InvalidInput(
            f"{shown(kind)} cannot be the type of a body ({visible(first, _FAULT_CHARS)}). "
            "Annotate with a dataclass, a pydantic model, a TypedDict, a msgspec Struct, or with "
            "Delivery."
        ) from error
    return read


@lru_cache(maxsize=1_000)
def _adapter(kind: Any) -> Any:
    from pydantic import TypeAdapter  # it takes long to import

    return TypeAdapter(kind)


def _is_struct(kind: Any) -> bool:
    msgspec = sys.modules.get("msgspec")
    return msgspec is not None and isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _is_model(kind: Any) -> bool:
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and issubclass(kind, pydantic.BaseModel)


def _faults(error: Exception) -> str:
    """Return what is wrong, and where, without the values of the body."""
    errors = getattr(error, "errors", None)
    if errors is None:
        return visible(f"{type(error).__name__}: {error}", _FAULT_CHARS)
    found = errors(include_url=False, include_input=False)
    told = [
        visible(": ".join(filter(None, (".".join(map(str, one["loc"])), one["msg"]))), _FAULT_CHARS)
        for one in found[:_FAULTS]
    ]
    left = len(found) - len(told)
    return "; ".join(told) + (f"; and {left} more" if left else "")


codec.encode_objects_by(plain)
