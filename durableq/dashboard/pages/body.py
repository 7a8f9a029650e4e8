"""The body of a message as a tree, cut where it is large."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from durableq.model import codec
from durableq.model.codec import Encoded
from durableq.model.errors import InvalidBody
from durableq.model.text import visible

#: Values of one body that a page shows, and how deep; the rest is in the raw download.
MAX_NODES: Final = 500
MAX_DEPTH: Final = 12
MAX_TEXT_CHARS: Final = 2_000
#: Bytes of a body that is no JSON.
MAX_BYTES: Final = 512
#: A longer object or list is closed at first.
OPEN_NODES: Final = 40


@dataclass
class Node:
    """A value of a body: a leaf with its text, or an object or a list with what is in it."""

    name: str
    #: text, number, word, object or list.
    kind: str
    text: str
    inside: list[Node] = field(default_factory=list)
    #: Values in it that are not shown.
    left_out: int = 0
    is_open: bool = True


def size_of(body: Encoded) -> int:
    """Return the size of a stored body in bytes."""
    return len(body if isinstance(body, bytes) else raw(body))


def raw(body: Encoded) -> bytes:
    """Return a stored body as bytes."""
    return body if isinstance(body, bytes) else str(body).encode("utf-8", "surrogateescape")


def tree(body: Encoded) -> Node | None:
    """Return a body as a tree; None if it is not JSON."""
    if isinstance(body, bytes):
        return None
    try:
        value = codec.decode(body)
    except InvalidBody:
        return None
    return _Budget().node("", value, 0)


def beginning(body: Encoded) -> str:
    """Return the beginning of a body that is not JSON, as Python writes bytes."""
    found = raw(body)
    more = "…" if len(found) > MAX_BYTES else ""
    return f"{found[:MAX_BYTES]!r}{more}"


class _Budget:
    """The values of one body that may still be shown."""

    def __init__(self) -> None:
        self._left = MAX_NODES

    def node(self, name: str, value: Any, depth: int) -> Node:
        self._left -= 1
        if isinstance(value, dict):
            return self._several(name, "object", value.items(), len(value), depth)
        if isinstance(value, list):
            return self._several(name, "list", enumerate(value), len(value), depth)
        if isinstance(value, str):
            return Node(name, "text", visible(value, MAX_TEXT_CHARS))
        if isinstance(value, bool) or value is None:
            return Node(name, "word", {None: "null", True: "true", False: "false"}[value])
        return Node(name, "number", visible(str(value), MAX_TEXT_CHARS))

    def _several(
        self, name: str, kind: str, values: Iterable[tuple[Any, Any]], number: int, depth: int
    ) -> Node:
        unit = "field" if kind == "object" else "value"
        made = Node(name, kind, f"{number:,} {unit}{'' if number == 1 else 's'}")
        made.is_open = number <= OPEN_NODES
        for key, value in values:
            if self._left <= 0 or depth >= MAX_DEPTH:
                break
            made.inside.append(self.node(visible(str(key), 200), value, depth + 1))
        made.left_out = number - len(made.inside)
        return made
