"""Tables of items, and their changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from durableq.engines.memory.base import MemoryBase, operation, query
from durableq.model.items import (
    TOKENS,
    ItemChange,
    ItemKey,
    ItemsFound,
    ItemTable,
    ItemWrite,
    TableSize,
    no_table,
)
from durableq.store.items import Items

T = TypeVar("T")


class MemoryItems(MemoryBase, Items):
    """Operations on items."""

    _last_table_id = TOKENS

    @operation
    def create_item_table(self, table: ItemTable) -> ItemTable | None:
        """Create a table."""
        if self._item_table(table.account, table.region, table.name) is not None:
            return None
        self._last_table_id += 1
        created = replace(table, id=self._last_table_id, created_at_ms=self._clock.now_ms())
        self._tables.item_tables[created.id] = created
        return created

    @query
    def item_table(self, account: str, region: str, name: str) -> ItemTable | None:
        """Return a table."""
        return self._item_table(account, region, name)

    @query
    def item_tables(
        self, account: str, region: str, limit: int, after: str = ""
    ) -> list[ItemTable]:
        """Return the tables of an account in a region."""
        found = [
            table
            for table in self._tables.item_tables.values()
            if (table.account, table.region) == (account, region) and table.name > after
        ]
        return sorted(found, key=lambda table: table.name)[:limit]

    @query
    def item_table_size(self, table_id: int, limit: int) -> TableSize:
        """Return the size of a table."""
        stored = self._tables.items.items()
        items = [write.item or "" for key, write in stored if key.table_id == table_id][:limit]
        return TableSize(len(items), sum(map(len, items)))

    @operation
    def delete_item_table(self, table_id: int) -> bool:
        """Delete a table and its items."""
        tables = self._tables
        tables.items = {key: one for key, one in tables.items.items() if key.table_id != table_id}
        return tables.item_tables.pop(table_id, None) is not None

    @operation
    def set_item_ttl(
        self, table_id: int, attribute: str, expiry_of: Callable[[str], int | None]
    ) -> bool:
        """Let the items of a table expire by another attribute."""
        tables = self._tables
        if table_id not in tables.item_tables:
            return False
        tables.item_tables[table_id] = replace(
            tables.item_tables[table_id], ttl_attribute=attribute
        )
        for key, write in [*tables.items.items()]:
            if key.table_id == table_id and write.item is not None:
                tables.items[key] = write._replace(expires_at_s=expiry_of(write.item))
        return True

    @query
    def items(self, keys: Sequence[ItemKey]) -> list[str | None]:
        """Return the items of some keys."""
        return self._stored_items(keys)

    @operation
    def change_items(self, keys: Sequence[ItemKey], change: ItemChange[T]) -> T:
        """Read items, decide, and write."""
        tables = {}
        for table_id in {key.table_id for key in keys} - {TOKENS}:
            if table_id not in self._tables.item_tables:
                raise no_table(table_id)
            tables[table_id] = self._tables.item_tables[table_id]
        moment = self._clock.moment()
        now_s = (moment.now_ms + moment.offset_ms) / 1000
        answer, writes = change(ItemsFound(self._stored_items(keys), tables, now_s))
        for key, write in zip(keys, writes, strict=bool(writes)):
            self._write_item(key, write)
        return answer

    def _write_item(self, key: ItemKey, write: ItemWrite | None) -> None:
        if write is None:
            return
        if write.item is None:
            self._tables.items.pop(key, None)
        else:
            self._tables.items[key] = write

    def _item_table(self, account: str, region: str, name: str) -> ItemTable | None:
        wanted = (account, region, name)
        for table in self._tables.item_tables.values():
            if (table.account, table.region, table.name) == wanted:
                return table
        return None

    def _stored_items(self, keys: Sequence[ItemKey]) -> list[str | None]:
        stored = self._tables.items
        return [stored[key].item if key in stored else None for key in keys]
