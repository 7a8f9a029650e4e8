"""Fields of a body by their paths: read, compared, set and removed. Pure."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

#: Names from the outside in; of an array's element, its number.
FieldPath = tuple[str, ...]

MISSING: Final = object()


class CannotPatch(Exception):
    """This body does not have the shape that a patch is for; the text says why."""


@dataclass(frozen=True, slots=True)
class Patch:
    """What is changed in a body: first fields are removed, then others set."""

    set: tuple[tuple[FieldPath, Any], ...] = ()
    remove: tuple[FieldPath, ...] = ()

    def apply(self, body: Any) -> Any:
        """Return a changed copy of a body. Objects that are missing on the way are made.

        Raises:
            CannotPatch: the body is bytes, or a field would stand in something without fields.
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
            place = _place(body, name)
            body = MISSING if place is None else body[place]
        else:
            return MISSING
    return body


def same(one: Any, other: Any) -> bool:
    """Return whether two JSON values are the same: true is not 1, and 1 is 1.0."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return bool(one == other)


def leaves(table: Mapping[str, Any], path: FieldPath = ()) -> Iterator[tuple[FieldPath, Any]]:
    """Yield the paths in nested tables that end in a value; an empty table is one."""
    for name, value in table.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*path, name))
        else:
            yield (*path, name), value


def written(path: FieldPath) -> str:
    """Return a path as a rule names it."""
    return ".".join(name if name.replace("-", "_").isidentifier() or name.isdigit() else f'"{name}"'
                    for name in path)  # fmt: skip


def _place(array: list[Any], name: str) -> int | None:
    """Return where in an array a path's name points, if it is there."""
    place = int(name) if name.isascii() and name.isdigit() and len(name) < 10 else len(array)
    return place if place < len(array) else None


def _set(body: Any, path: FieldPath, value: Any) -> None:
    for depth, name in enumerate(path[:-1], 1):
        inner = field(body, (name,))
        if inner is MISSING and isinstance(body, dict):
            inner = body[name] = {}
        if not isinstance(inner, (dict, list)):
            raise CannotPatch(f"{written(path[:depth])} is no object, so it has no fields to set")
        body = inner
    if isinstance(body, dict):
        body[path[-1]] = value
    elif isinstance(body, list) and (place := _place(body, path[-1])) is not None:
        body[place] = value
    else:
        raise CannotPatch(f"there is no place for {written(path)} in the body")


def _remove(body: Any, path: FieldPath) -> None:
    """Remove a field; one that is not there need not be removed."""
    owner_id = field(body, path[:-1])
    if isinstance(owner_id, dict):
        owner_id.pop(path[-1], None)
    elif isinstance(owner_id, list) and (place := _place(owner_id, path[-1])) is not None:
        del owner_id[place]
