"""Objects as JSON values, and JSON values as objects of a type.

The types are those that pydantic knows: dataclasses, its own models, TypedDict, `list[Order]` and
the like; and msgspec's Struct, where that is installed.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, Final

from durableq.model import codec
from durableq.model.errors import InvalidBody, InvalidInput
from durableq.model.text import shown, visible

#: Makes an object of a stored body.
Reader = Callable[[codec.Encoded], Any]
_Errors = tuple[type[Exception], ...]
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
    if not (dataclasses.is_dataclass(kind) or _is_model(kind)):
        raise TypeError(f"Object of type {kind.__name__} is not JSON serializable")
    dump = partial(_adapter(kind).dump_python, value, by_alias=True, round_trip=True)
    # The types of all values are compared with the annotations, before names become text.
    _check_names(dump(warnings="error"))
    return dump(mode="json", serialize_as_any=True)  # with the fields of subclasses


def reader_of(kind: Any) -> Reader:
    """Return a function that makes an object of a type from a stored body.

    It raises InvalidBody where the body does not fit, and passes on other errors of a validator.

    Raises:
        InvalidInput: no body can have this type.
    """
    read, refusals = _reads_struct(kind) if _is_struct(kind) else _reads(kind)
    name = getattr(kind, "__name__", None) or visible(str(kind), 80)

    def reader(stored: codec.Encoded) -> Any:
        if not isinstance(stored, str):
            raise InvalidBody(f"The body does not fit {name}: it is bytes, not JSON.")
        try:
            return read(stored)
        except refusals as error:
            raise InvalidBody(f"The body does not fit {name}: {_faults(error)}.") from error

    return reader


def _reads_struct(kind: Any) -> tuple[Reader, _Errors]:
    msgspec = sys.modules["msgspec"]
    return msgspec.json.Decoder(kind).decode, (msgspec.DecodeError, UnicodeError)


def _reads(kind: Any) -> tuple[Reader, _Errors]:
    from pydantic_core import ValidationError

    try:
        return _adapter(kind).validate_json, (ValidationError, UnicodeError)
    except Exception as error:  # noqa: BLE001 - of the schema of any class
        first = str(error).partition("\n")[0]
        raise InvalidInput(
            f"{shown(kind)} cannot be the type of a body ({visible(first, _FAULT_CHARS)}). "
            "Annotate with a dataclass, a pydantic model, a TypedDict, a msgspec Struct, or with "
            "Delivery."
        ) from None


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


def _check_names(value: Any) -> None:
    """Refuse two names of one object that JSON writes alike: one value would be lost.

    Raises:
        TypeError: there are such names.
    """
    left = [value]
    while left:
        inner = left.pop()
        if isinstance(inner, dict):
            names = {name if isinstance(name, str) else _written(name) for name in inner}
            if len(names) < len(inner):
                raise TypeError("two names of an object are written alike in JSON")
            left.extend(inner.values())
        elif isinstance(inner, (list, tuple, set, frozenset)):
            left.extend(inner)


def _written(name: Any) -> str:
    is_json = name is None or isinstance(name, bool | int | float)
    return json.dumps(name) if is_json else str(name)


def _faults(error: Exception) -> str:
    """Return what is wrong, and where; of the values only what the messages of validators quote."""
    errors = getattr(error, "errors", None)
    if errors is None:
        return visible(str(error), _FAULT_CHARS)
    found = errors(include_url=False, include_input=False)
    told = [
        visible(": ".join(filter(None, (".".join(map(str, one["loc"])), one["msg"]))), _FAULT_CHARS)
        for one in found[:_FAULTS]
    ]
    left = len(found) - len(told)
    return "; ".join(told) + (f"; and {left} more" if left else "")


codec.encode_objects_by(plain)
