"""Tables of items, as a server of DynamoDB's protocol keeps them: their names, keys and changes.

An item is JSON text here. Its attributes, and the expressions about them, are the server's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Generic, NamedTuple, TypeVar

from durableq.model.errors import NotFound

T = TypeVar("T")

#: The table of the tokens that make a repeated transaction one. It is always there.
TOKENS: Final = 0
#: Characters of a key as it is stored; a longer one is stored as its digest.
MAX_KEY: Final = 200
#: An item that has expired longer ago is not removed: its time is hardly one.
EXPIRED_AT_MOST_S: Final = 5 * 365 * 86_400


@dataclass(frozen=True, slots=True)
class ItemTable:
    """A table.

    Args:
        id: of the store; never that of an earlier table of this name. 0 in a table that is to be
            created.
        account: the account that it belongs to.
        region: its region.
        name: its name there.
        definition: JSON text of what it was created with.
        ttl_attribute: the name of the attribute that says when an item expires; "" for none.
        created_at_ms: the date of its creation.
    """

    id: int
    account: str
    region: str
    name: str
    definition: str
    ttl_attribute: str = ""
    created_at_ms: int = 0


class TableSize(NamedTuple):
    """The number of a table's items, and of the characters in them."""

    items: int
    characters: int


class ItemKey(NamedTuple):
    """The key of an item: the id of its table, and the two parts as `key_text` returns them."""

    table_id: int
    pk: str
    sk: str = ""


class ItemWrite(NamedTuple):
    """A new state of an item.

    Args:
        item: JSON text; None: the item is removed.
        expires_at_s: the second of the wall clock after which it may be removed; None: never.
    """

    item: str | None
    expires_at_s: int | None = None


class ItemsFound(NamedTuple):
    """The items of a change as they are.

    Args:
        items: JSON text for each key; None: there is no such item.
        tables: the tables of the keys, by id.
        now_s: the time of the wall clock, in seconds.
    """

    items: Sequence[str | None]
    tables: Mapping[int, ItemTable]
    now_s: float


class ItemsChanged(NamedTuple, Generic[T]):
    """The decision about a change.

    Args:
        answer: is returned to the caller.
        writes: the new state for each key, or None where the item stays; empty: all stay.
    """

    answer: T
    writes: Sequence[ItemWrite | None] = ()


#: Decides about a change. It may be called again, if the database has undone the first time.
ItemChange = Callable[[ItemsFound], ItemsChanged[T]]


def key_text(value: str) -> str:
    """Return a part of a key as it is stored: any text, of a bounded length."""
    text = json.dumps(value)
    if len(text) <= MAX_KEY:
        return text
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def no_table(table_id: int) -> NotFound:
    """Return the error about a table that is not there."""
    return NotFound(f"There is no table of items {table_id}: it was deleted, or never created.")
