"""The Query protocol: parameters from a form or a query string, and answers to XML.

Lists and maps are flat: `AttributeName.1=All`, `Attribute.1.Name=…&Attribute.1.Value=…`.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import parse_qsl

from durableq.serve.errors import SERIALIZATION, ServiceError
from durableq.serve.wire.actions import VALUE
from durableq.serve.wire.json_codec import MAX_INTEGER, blob
from durableq.serve.wire.shapes import List, Map, Member, Scalar, Structure

NAMESPACE: Final = "http://queue.amazonaws.com/doc/2012-11-05/"
#: A batch of ten messages with ten attributes each has about 600 fields.
MAX_FIELDS: Final = 10_000
#: `SendMessageBatchRequestEntry.1.MessageAttribute.1.Value.StringListValue.1` has seven parts.
_MAX_PARTS: Final = 10
_MAX_INDEX_DIGITS: Final = 6
#: int() takes spaces and underscores, too.
_INTEGER: Final = re.compile("[+-]?[0-9]{1,19}")

#: A field with its parts as keys. The value of a field itself is under the empty key.
Tree = dict[str, Any]

#: The characters that XML 1.0 has no form for.
_NOT_IN_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ESCAPES: Final = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\r": "&#xD;"}
)


def parse(fields: bytes) -> dict[str, str]:
    """Return the fields of a form or a query string; of several with one name the first.

    Raises:
        ServiceError: they are not UTF-8, or too many.
    """
    try:
        pairs = parse_qsl(
            fields.decode("utf-8"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=MAX_FIELDS,
        )
    except ValueError:
        raise ServiceError(
            SERIALIZATION, f"The request has no fields in UTF-8, or more than {MAX_FIELDS}."
        ) from None
    found: dict[str, str] = {}
    for name, value in pairs:
        found.setdefault(name, value)
    return found


def parameters(structure: Structure, fields: dict[str, str]) -> dict[str, Any]:
    """Return the parameters of a request, in the shape of the JSON protocol.

    Raises:
        ServiceError: a value has another type.
    """
    tree: Tree = {}
    for name, value in fields.items():
        parts = name.split(".", _MAX_PARTS)
        if len(parts) > _MAX_PARTS or "" in parts:
            continue
        here = tree
        for part in parts:
            here = here.setdefault(part, {})
        here[""] = value
    return _structure(structure, tree)


def _structure(structure: Structure, tree: Tree) -> dict[str, Any]:
    made = {}
    for member in structure.members:
        found = tree.get(member.query_name)
        if found is None:  # some clients do not use the name of one element
            found = tree.get(member.name)
        value = None if found is None else _value(member.shape, found)
        if value is not None:
            made[member.name] = value
    return made


def _value(shape: Any, tree: Tree) -> Any:
    if isinstance(shape, Structure):
        return _structure(shape, tree)
    if isinstance(shape, List):
        found = [*_elements(tree)] or [{"": text} for text in [tree.get("")] if text]
        return [made for each in found if (made := _value(shape.of, each)) is not None]
    if isinstance(shape, Map):
        return dict(_pairs(shape, tree))
    text = tree.get("")
    return None if text is None else _scalar(shape, text)


def _elements(tree: Tree) -> Iterator[Tree]:
    """Yield the elements of a flat list, in order of their numbers."""
    numbers = [part for part in tree if part.isdecimal() and part.isascii()]
    for part in sorted((each for each in numbers if len(each) <= _MAX_INDEX_DIGITS), key=int):
        yield tree[part]


def _pairs(shape: Map, tree: Tree) -> Iterator[tuple[str, Any]]:
    """Yield the entries of a flat map; the only one may have no number."""
    for entry in [*_elements(tree), tree]:
        key, value = entry.get(shape.key), entry.get(VALUE)
        if key is not None and value is not None and "" in key:
            made = _value(shape.of, value)
            if made is not None:
                yield key[""], made


def _scalar(shape: Scalar, text: str) -> Any:
    if shape is Scalar.STRING:
        return text
    if shape is Scalar.BLOB:
        return blob(text)
    if shape is Scalar.BOOLEAN:
        return text.lower() == "true"
    number = int(text) if _INTEGER.fullmatch(text) else MAX_INTEGER + 1
    if abs(number) > MAX_INTEGER:
        kind = "an Integer" if shape is Scalar.INTEGER else "a Long"
        raise ServiceError(SERIALIZATION, f"STRING_VALUE can not be converted to {kind}")
    return number


def result(action: str, structure: Structure, answer: dict[str, Any], request_id: str) -> bytes:
    """Return an answer as XML."""
    parts = ['<?xml version="1.0"?>', f'<{action}Response xmlns="{NAMESPACE}">']
    if structure.members:
        inner: list[str] = []
        _write_structure(inner, structure, answer)
        name = f"{action}Result"
        parts.append(f"<{name}>{''.join(inner)}</{name}>" if inner else f"<{name}/>")
    parts.append(f"<ResponseMetadata><RequestId>{escape(request_id)}</RequestId>")
    parts.append(f"</ResponseMetadata></{action}Response>")
    return "".join(parts).encode()


def _write_structure(parts: list[str], structure: Structure, answer: dict[str, Any]) -> None:
    for member in structure.members:
        value = answer.get(member.name)
        if value is not None:
            _write_member(parts, member, value)


def _write_member(parts: list[str], member: Member, value: Any) -> None:
    name, shape = member.query_name, member.shape
    if isinstance(shape, List):
        for each in value:
            _write(parts, name, shape.of, each)
    elif isinstance(shape, Map):
        for key, each in value.items():
            parts.append(f"<{name}><{shape.key}>{escape(key)}</{shape.key}>")
            _write(parts, VALUE, shape.of, each)
            parts.append(f"</{name}>")
    else:
        _write(parts, name, shape, value)


def _write(parts: list[str], name: str, shape: Any, value: Any) -> None:
    if isinstance(shape, Structure):
        parts.append(f"<{name}>")
        _write_structure(parts, shape, value)
        parts.append(f"</{name}>")
    else:
        parts.append(f"<{name}>{escape(_text(value))}</{name}>")


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode("ascii")
    return str(value)


def escape(text: str) -> str:
    """Return a text as the content of an element; a character that XML cannot have is replaced."""
    return _NOT_IN_XML.sub("\ufffd", text).translate(_ESCAPES)
