"""Fields of a body by their paths: read, compared, set and removed. Pure."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

#: Names from the outermost in. The name of an array's element is its number.
FieldPath = tuple[str, ...]

MISSING: Final = object()


class CannotPatch(Exception):
    """The body does not have the shape that the patch needs. The text is a phrase."""


@dataclass(frozen=True, slots=True)
class Patch:
    """Changes of a body: first fields are removed, then others set."""

    set: tuple[tuple[FieldPath, Any], ...] = ()
    remove: tuple[FieldPath, ...] = ()

    def apply(self, body: Any) -> Any:
        """Return a changed copy of a body. Objects that are missing on a path are added.

        Raises:
            CannotPatch: the body is bytes, or a path leads through a value without fields.
        """
        if isinstance(body, bytes):
            raise CannotPatch("the body is bytes, which have no fields")
        changed = copy.deepcopy(body)
        for path in self.remove:
            _remove(changed, path)
        for path, value in self.set:
            _set(changed, path, copy.deepcopy(value))
        return changed


NO_PATCH: Final = Patch()


def field(body: Any, path: FieldPath) -> Any:
    """Return a field of a body, or MISSING."""
    for name in path:
        if isinstance(body, dict):
            body = body.get(name, MISSING)
        elif isinstance(body, list):
            index = _index(body, name)
            body = MISSING if index is None else body[index]
        else:
            return MISSING
    return body


def same(one: Any, other: Any) -> bool:
    """Return whether two JSON values are equal: true is not 1, but 1 is 1.0."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return bool(one == other)


def leaves(table: Mapping[str, Any], path: FieldPath = ()) -> Iterator[tuple[FieldPath, Any]]:
    """Yield the path and value of each leaf of nested tables; an empty table is a leaf."""
    for name, value in table.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*path, name))
        else:
            yield (*path, name), value


def written(path: FieldPath) -> str:
    """Return a path as it is written in a rule."""
    return ".".join(name if name.replace("-", "_").isidentifier() or name.isdigit() else f'"{name}"'
                    for name in path)  # fmt: skip


def _index(array: list[Any], name: str) -> int | None:
    """Return the index of an array's element by its name; None if there is none."""
    index = int(name) if name.isascii() and name.isdigit() and len(name) < 10 else len(array)
    return index if index < len(array) else None


def _set(body: Any, path: FieldPath, value: Any) -> None:
    for depth, name in enumerate(path[:-1], 1):
        inner = field(body, (name,))
        if inner is MISSING and isinstance(body, dict):
            inner = body[name] = {}
        if not isinstance(inner, (dict, list)):
            raise CannotPatch(
                f"{written(path[:depth])} is not an object, so it has no fields to set"
            )
        body = inner
    if isinstance(body, dict):
        body[path[-1]] = value
    elif isinstance(body, list) and (index := _index(body, path[-1])) is not None:
        body[index] = value
    else:
        raise CannotPatch(f"the body has no room for {written(path)}")


def _remove(body: Any, path: FieldPath) -> None:
    """Remove a field, if it exists."""
    parent = field(body, path[:-1])
    if isinstance(parent, dict):
        parent.pop(path[-1], None)
    elif isinstance(parent, list) and (index := _index(parent, path[-1])) is not None:
        del parent[index]
