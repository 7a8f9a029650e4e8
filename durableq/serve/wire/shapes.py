"""The shapes of parameters and answers, which both protocols read."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias


class Scalar(Enum):
    """A single value, by its name in the service's model."""

    STRING = "string"
    INTEGER = "integer"
    LONG = "long"
    BOOLEAN = "boolean"
    BLOB = "blob"


@dataclass(frozen=True)
class List:
    """A list, which the Query protocol writes flat: Name.1, Name.2."""

    of: Shape


@dataclass(frozen=True)
class Map:
    """A map with texts as keys, which the Query protocol writes flat: Name.1.Name, Name.1.Value.

    Args:
        of: the shape of its values.
        key: the name of a key in the Query protocol.
    """

    of: Shape
    key: str = "Name"


@dataclass(frozen=True)
class Member:
    """A member of a structure.

    Args:
        name: in the JSON protocol.
        shape: of its value.
        query_name: in the Query protocol, which has the name of one element.
        is_required: whether a request without it is refused.
    """

    name: str
    shape: Shape
    query_name: str
    is_required: bool = False


class Structure:
    """A structure of named members.

    Args:
        members: in the order of the model.
    """

    def __init__(self, *members: Member) -> None:
        self.members: Final = members
        self.by_name: Final = {member.name: member for member in members}
        self.required: Final = tuple(member for member in members if member.is_required)


Shape: TypeAlias = Scalar | List | Map | Structure
