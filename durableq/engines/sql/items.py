"""Tables of items, and their changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from durableq.engines.sql.transactions import Operations, Transaction, WriteTransaction
from durableq.model.items import (
    EXPIRED_AT_MOST_S,
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

#: Items that are read together, where all of a table are.
_PAGE: Final = 500


class SQLItems(Operations, Items):
    """The capability `items`, in SQL."""

    def create_item_table(self, table: ItemTable) -> ItemTable | None:
        """Create a table."""
        return self._database.run(_create, table)

    def item_table(self, account: str, region: str, name: str) -> ItemTable | None:
        """Return a table."""
        with self._database.read() as tx:
            return tx.shown(_find(tx, account, region, name))

    def item_tables(
        self, account: str, region: str, limit: int, after: str = ""
    ) -> list[ItemTable]:
        """Return the tables of an account in a region."""
        where = {"in_account": account, "in_region": region}
        with self._database.read() as tx:
            rows = tx.run(tx.sql.ITEM_TABLES, after=after, limit=limit, **where).fetchall()
            return tx.shown([ItemTable(*row) for row in rows])

    def item_table_size(self, table_id: int, limit: int) -> TableSize:
        """Return the size of a table."""
        with self._database.read() as tx:
            row = tx.run(tx.sql.ITEM_TABLE_SIZE, of_table=table_id, limit=limit).fetchone()
            return TableSize(*map(int, row))

    def delete_item_table(self, table_id: int) -> bool:
        """Delete a table and its items."""
        return self._database.run(_delete, table_id)

    def set_item_ttl(
        self, table_id: int, attribute: str, expiry_of: Callable[[str], int | None]
    ) -> bool:
        """Let the items of a table expire by another attribute."""
        return self._database.run(_set_ttl, table_id, attribute, expiry_of)

    def items(self, keys: Sequence[ItemKey]) -> list[str | None]:
        """Return the items of some keys."""
        with self._database.read() as tx:
            return [_item(tx, key) for key in keys]

    def change_items(self, keys: Sequence[ItemKey], change: ItemChange[T]) -> T:
        """Read items, decide, and write."""
        answer: T = self._database.run(_change, keys, change)
        return answer


def prune(tx: WriteTransaction, limit: int) -> int:
    """Remove at most `limit` items whose time has passed; return the number.

    It has passed on the wall clock, as clients have it, and in steady time: a clock that jumps
    ahead removes nothing.
    """
    now_s = min(tx.now_ms, tx.now_ms + tx.offset_ms) // 1000
    oldest_s = now_s - EXPIRED_AT_MOST_S
    found = tx.run(tx.sql.PRUNE_ITEMS, now_s=now_s, oldest_s=oldest_s, limit=limit)
    removed: int = found.rowcount
    return removed


def _create(tx: WriteTransaction, table: ItemTable) -> ItemTable | None:
    if _find(tx, table.account, table.region, table.name) is not None:
        return None
    tx.run(
        tx.sql.PUT_ITEM_TABLE,
        in_account=table.account,
        in_region=table.region,
        of_name=table.name,
        definition=table.definition,
        attribute=table.ttl_attribute,
        now_ms=tx.now_ms,
    ).fetchall()
    return tx.shown(_find(tx, table.account, table.region, table.name))


def _delete(tx: WriteTransaction, table_id: int) -> bool:
    tx.run(tx.sql.DROP_ITEMS, of_table=table_id)
    return bool(tx.run(tx.sql.DROP_ITEM_TABLE, of_table=table_id).rowcount)


def _set_ttl(
    tx: WriteTransaction, table_id: int, attribute: str, expiry_of: Callable[[str], int | None]
) -> bool:
    if not tx.run(tx.sql.SET_ITEM_TTL, of_table=table_id, attribute=attribute).rowcount:
        return False
    after = {"after_pk": "", "after_sk": ""}
    while rows := tx.run(tx.sql.ITEM_PAGE, of_table=table_id, limit=_PAGE, **after).fetchall():
        for pk, sk, item in rows:
            one = {"of_table": table_id, "of_pk": pk, "of_sk": sk}
            tx.run(tx.sql.SET_ITEM_EXPIRY, expires=expiry_of(item), **one)
            after = {"after_pk": pk, "after_sk": sk}
    return True


def _change(tx: WriteTransaction, keys: Sequence[ItemKey], change: ItemChange[T]) -> T:
    tables = {}
    for table_id in {key.table_id for key in keys} - {TOKENS}:
        row = tx.run(tx.sql.ITEM_TABLE_OF_ID, of_table=table_id).fetchone()
        if row is None:
            raise no_table(table_id)
        tables[table_id] = tx.shown(ItemTable(*row))
    now_s = (tx.now_ms + tx.offset_ms) / 1000
    items = [_item(tx, key) for key in keys]
    answer, writes = change(ItemsFound(items, tables, now_s))
    for key, item, write in zip(keys, items, writes, strict=False):
        if write is not None:
            _write(tx, key, write, is_there=item is not None)
    return answer


def _write(tx: WriteTransaction, key: ItemKey, write: ItemWrite, *, is_there: bool) -> None:
    one = {"of_table": key.table_id, "of_pk": key.pk, "of_sk": key.sk}
    if write.item is None:
        tx.run(tx.sql.DROP_ITEM, **one)
    elif is_there:
        tx.run(tx.sql.SET_ITEM, new_item=write.item, expires=write.expires_at_s, **one)
    else:
        tx.run(tx.sql.PUT_ITEM, item=write.item, expires_at_s=write.expires_at_s, **key._asdict())


def _find(tx: Transaction, account: str, region: str, name: str) -> ItemTable | None:
    where = {"in_account": account, "in_region": region, "of_name": name}
    row = tx.run(tx.sql.ITEM_TABLE, **where).fetchone()
    return None if row is None else ItemTable(*row)


def _item(tx: Transaction, key: ItemKey) -> str | None:
    row = tx.run(tx.sql.ITEM, of_table=key.table_id, of_pk=key.pk, of_sk=key.sk).fetchone()
    return None if row is None else str(row[0])
