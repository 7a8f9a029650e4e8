"""Document paths: reading, writing and removing in an item; projection expressions."""

from __future__ import annotations

from typing import Any, Final

from durableq.serve.dynamodb.comparing import type_of
from durableq.serve.dynamodb.scanning import Path, Scanner, Substitutes, shown
from durableq.serve.dynamodb.values import Attribute, Attributes, ValidationError

PROJECTION: Final = "ProjectionExpression"


def value_at(path: Path, attributes: Attributes) -> Attribute | None:
    """Return the value at a path; None if there is none."""
    value: Attribute | None = {"M": attributes}
    for piece in path:
        if value is None:
            return None
        value = _member(value, piece)
    return value


def _member(value: Attribute, piece: str | int) -> Attribute | None:
    found: Attribute | None = None
    if isinstance(piece, str):
        found = value["M"].get(piece) if "M" in value else None
    elif piece < len(value.get("L", ())):
        found = value["L"][piece]
    return found


def refuse_overlaps(scanner: Scanner, paths: list[Path]) -> None:
    """Raise ValidationError if one path is within another, or takes a list for a map."""
    for number, second in enumerate(paths):
        for first in paths[:number]:
            if relation := _relation(first, second):
                scanner.refuse(
                    f"Two document paths {relation} with each other; must remove or rewrite one "
                    f"of these paths; path one: {shown(first)}, path two: {shown(second)}"
                )


def _relation(first: Path, second: Path) -> str:
    for one, other in zip(first, second, strict=False):
        if type(one) is not type(other):
            return "conflict"
        if one != other:
            return ""
    return "overlap"


def parse_projection(expression: Any, substitutes: Substitutes) -> list[Path]:
    """Return the paths of a projection expression.

    Raises:
        ValidationError: the text is no projection, or its paths overlap.
        SerializationError: it is no text.
    """
    scanner = Scanner(PROJECTION, expression, substitutes)
    paths = [scanner.path()]
    while scanner.take(","):
        paths.append(scanner.path())
    scanner.end()
    refuse_overlaps(scanner, paths)
    return paths


def projected(paths: list[Path], attributes: Attributes) -> dict[str, Attribute]:
    """Return the part of an item at these paths; members of lists move up."""
    chosen: dict[str | int, Any] = {}
    for path in paths:
        value = value_at(path, attributes)
        if value is None:
            continue
        inside = chosen
        for piece in path[:-1]:
            inside = inside.setdefault(piece, {})
        inside[path[-1]] = _Whole(value)
    return {str(name): _built(part) for name, part in chosen.items()}


class _Whole:
    """A value that is projected with all that is in it."""

    def __init__(self, value: Attribute) -> None:
        self.value = value


def _built(part: Any) -> Attribute:
    if isinstance(part, _Whole):
        return part.value
    if isinstance(next(iter(part)), int):
        return {"L": [_built(part[index]) for index in sorted(part)]}
    return {"M": {name: _built(inner) for name, inner in part.items()}}


def with_value(path: Path, attributes: Attributes, value: Attribute | None) -> dict[str, Attribute]:
    """Return an item with another value at a path; without it, if the value is None.

    An index beyond the end of a list appends. Nothing of the item given is changed.

    Raises:
        ValidationError: there is no list or map in which the value could be.
    """
    changed: dict[str, Attribute] = _replaced({"M": attributes}, path, value)["M"]
    return changed


def _replaced(inside: Attribute, path: Path, value: Attribute | None) -> Attribute:
    piece, kind = path[0], type_of(inside)
    if kind != ("M" if isinstance(piece, str) else "L"):
        raise invalid_path()
    new = value
    if len(path) > 1:
        member = _member(inside, piece)
        if member is None:
            raise invalid_path()
        new = _replaced(member, path[1:], value)
    content = inside[kind].copy()
    if new is None:
        if _member(inside, piece) is not None:
            del content[piece]
    elif kind == "L" and piece >= len(content):  # type: ignore[operator]  # an index
        content.append(new)
    else:
        content[piece] = new
    return {kind: content}


def invalid_path() -> ValidationError:
    """Return the error about a path into something that is not there."""
    return ValidationError(
        "The document path provided in the update expression is invalid for update"
    )
