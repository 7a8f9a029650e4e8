"""The capability `items`: tables of items whose changes are conditional."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from durableq.model.items import ItemChange, ItemKey, ItemTable, TableSize

T = TypeVar("T")


class Items(Protocol):
    """Tables of items for clients of DynamoDB, apart from the queues.

    An item whose time has passed is there until maintenance removes it: clients compare by
    themselves. Maintenance asks the wall clock and steady time, and both must have passed it.
    """

    def create_item_table(self, table: ItemTable) -> ItemTable | None:
        """Create a table; None if there is one of this account, region and name."""
        ...

    def item_table(self, account: str, region: str, name: str) -> ItemTable | None:
        """Return a table; None if there is no such table."""
        ...

    def item_tables(
        self, account: str, region: str, limit: int, after: str = ""
    ) -> Sequence[ItemTable]:
        """Return the tables of an account in a region, in order of name, behind a name."""
        ...

    def item_table_size(self, table_id: int, limit: int) -> TableSize:
        """Return the size of a table, of which at most `limit` items are counted."""
        ...

    def delete_item_table(self, table_id: int) -> bool:
        """Delete a table and its items; False if it is not there."""
        ...

    def set_item_ttl(
        self, table_id: int, attribute: str, expiry_of: Callable[[str], int | None]
    ) -> bool:
        """Let the items of a table expire by another attribute; False if it is not there.

        Args:
            table_id: the table.
            attribute: its name; "" for none.
            expiry_of: returns the second after which an item expires, or None; a pure function.
        """
        ...

    def items(self, keys: Sequence[ItemKey]) -> Sequence[str | None]:
        """Return the items of some keys as they are together; None for each that is not there."""
        ...

    def change_items(self, keys: Sequence[ItemKey], change: ItemChange[T]) -> T:
        """Read items, decide, and write, in one transaction that no other one is within.

        Args:
            keys: those of the items, each once.
            change: decides; a pure function. If it raises an error, nothing is written.

        Returns:
            Its answer.

        Raises:
            NotFound: a table of one key is not there.
        """
        ...
