"""The JSON protocol: parameters from a body, and answers to bytes.

A value of the wrong type is refused as a whole request, with the words of AWS's own parser. Members
that no action has are ignored, and null is a member that is not there, as at AWS.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any, Final, NoReturn

from durableq.serve.errors import MISSING_PARAMETER, SERIALIZATION, ServiceError
from durableq.serve.wire.shapes import List, Map, Member, Scalar, Structure

#: The largest number of any parameter.
MAX_INTEGER: Final = (1 << 63) - 1
#: Stands for half of a surrogate pair, which UTF-8 cannot encode. It is no character of a message
#: either, so that such a message is refused by the rule for characters.
NO_CHARACTER: Final = "\ufffe"


def parse(body: bytes) -> dict[str, Any]:
    """Return the JSON object of a body.

    Raises:
        ServiceError: it is none.
    """
    try:
        found = _loads(body.decode("utf-8") or "{}")
    except (ValueError, RecursionError):
        raise ServiceError(SERIALIZATION, "The request is no JSON document in UTF-8.") from None
    if not isinstance(found, dict):
        raise ServiceError(SERIALIZATION, "Unexpected field type: the request is no JSON object.")
    return found


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


_loads = json.JSONDecoder(parse_constant=_no_number).decode


def parameters(structure: Structure, found: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of a request, checked by their types.

    Raises:
        ServiceError: a value has another type. Missing members are found by `require`.
    """
    made = {}
    for name, value in found.items():
        member = structure.by_name.get(name)
        if member is not None and value is not None:
            made[name] = _value(member.shape, value)
    return made


def _value(shape: Any, value: Any) -> Any:
    if shape is Scalar.STRING:
        return whole(value) if isinstance(value, str) else _refuse(value, "a String")
    if isinstance(shape, Structure):
        return parameters(shape, _checked(value, dict))
    if isinstance(shape, Map):
        pairs = _checked(value, dict).items()
        return {whole(key): _value(shape.of, each) for key, each in pairs if each is not None}
    if isinstance(shape, List):
        return [_value(shape.of, each) for each in _checked(value, list)]
    return _scalar(shape, value)


def _scalar(shape: Scalar, value: Any) -> Any:
    if shape is Scalar.BOOLEAN:
        return value if isinstance(value, bool) else _refuse(value, "a Boolean")
    if shape is Scalar.BLOB:
        return blob(value) if isinstance(value, str) else _refuse(value, "a Blob")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > MAX_INTEGER:
        return _refuse(value, "an Integer" if shape is Scalar.INTEGER else "a Long")
    return value


def _checked(value: Any, kind: type) -> Any:
    return value if isinstance(value, kind) else _refuse(value, f"a {_CONTAINERS[kind]}")


_CONTAINERS: Final[dict[type, str]] = {dict: "Structure", list: "List"}
_TOKENS: Final = {str: "STRING_VALUE", int: "NUMBER_VALUE", float: "DECIMAL_VALUE"}


def _refuse(value: Any, kind: str) -> NoReturn:
    if isinstance(value, bool) or value is None:
        token = {True: "TRUE_VALUE", False: "FALSE_VALUE", None: "NULL_VALUE"}[value]
    elif isinstance(value, dict | list):
        found = "structure or map" if isinstance(value, dict) else "list"
        raise ServiceError(SERIALIZATION, f"Start of {found} found where not expected.")
    else:
        token = _TOKENS[type(value)]
    raise ServiceError(SERIALIZATION, f"{token} can not be converted to {kind}")


def whole(text: str) -> str:
    """Return a text without halves of surrogate pairs, which JSON may have."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return "".join(NO_CHARACTER if "\ud800" <= one <= "\udfff" else one for one in text)
    return text


def blob(text: str) -> bytes:
    """Return the bytes of base64.

    Raises:
        ServiceError: it is none.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        raise ServiceError(SERIALIZATION, "A Blob is no base64.") from None


def require(structure: Structure, found: dict[str, Any]) -> None:
    """Refuse parameters without a required member, or a batch with such an entry.

    An attribute of a message without its type is the action's to refuse: in a batch it spoils one
    entry.

    Raises:
        ServiceError: one is missing.
    """
    for member in structure.required:
        if member.name not in found:
            _missing(member.name)
    if not found.get("MessageBody", "-"):
        _missing("MessageBody")  # an empty one is none
    entries = structure.by_name.get("Entries")
    if entries is not None and isinstance(entries.shape, List):
        for position, entry in enumerate(found["Entries"], 1):
            _require_of_entry(entries, entry, position)


def _require_of_entry(entries: Member, entry: dict[str, Any], position: int) -> None:
    assert isinstance(entries.shape, List)  # noqa: S101 - of the table
    assert isinstance(entries.shape.of, Structure)  # noqa: S101
    for member in entries.shape.of.required:
        if member.name not in entry:
            _missing(f"{entries.query_name}.{position}.{member.name}")


def _missing(name: str) -> NoReturn:
    raise ServiceError(MISSING_PARAMETER, f"The request must contain the parameter {name}.")


def dump(answer: dict[str, Any]) -> bytes:
    """Return an answer as JSON in ASCII, bytes as base64."""
    return _dumps(answer).encode("ascii")


def _encoded(value: Any) -> str:
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode("ascii")
    raise TypeError(f"{type(value).__name__} has no form in JSON")


_dumps = json.JSONEncoder(default=_encoded, separators=(",", ":")).encode
