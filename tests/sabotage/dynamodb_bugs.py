"""Bugs to plant in the items of DynamoDB."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from durableq.engines.sql import items
from durableq.model.items import ItemChange, ItemKey, ItemsFound, ItemWrite
from durableq.serve.dynamodb import transactions, updates, writes

_CONTRACT = "tests/contract/test_sqlite.py::TestSQLite::"
_ACTIONS = "tests/serve/test_dynamodb_items.py::"
_TRANSACTIONS = "tests/serve/test_dynamodb_transactions.py::"
_module: Any = items


def decide_before_the_transaction() -> None:
    """Two who find no item both put theirs."""

    def change_items(self: Any, keys: Sequence[ItemKey], change: ItemChange[Any]) -> Any:
        with self._database.read() as tx:
            found = [_module._item(tx, key) for key in keys]
            tables = {}
            for table_id in {key.table_id for key in keys}:
                row = tx.run(tx.sql.ITEM_TABLE_OF_ID, of_table=table_id).fetchone()
                tables[table_id] = _module.ItemTable(*row)
        answer, decided = change(ItemsFound(found, tables, 0.0))

        def write(tx: Any) -> None:
            for key, one in zip(keys, decided, strict=False):
                if one is not None:
                    _module._write(tx, key, one, is_there=_module._item(tx, key) is not None)

        self._database.run(write)
        return answer

    _module.SQLItems.change_items = change_items


def hide_items_whose_time_has_passed() -> None:
    """Clients compare by themselves, and would begin again too early."""
    item = _module._item

    def shown(tx: Any, key: ItemKey) -> Any:
        old = "SELECT 1 FROM durableq_item WHERE pk = :pk AND expires_at_s * 1000 <= :now_ms"
        passed = tx.raw.execute(old, {"pk": key.pk, "now_ms": tx.now_ms}).fetchone()
        return None if passed else item(tx, key)

    _module._item = shown


def believe_a_clock_that_jumps_ahead() -> None:
    def prune(tx: Any, limit: int) -> int:
        now_s = max(tx.now_ms, tx.now_ms + tx.offset_ms) // 1000
        return int(tx.run(tx.sql.PRUNE_ITEMS, now_s=now_s, oldest_s=0, limit=limit).rowcount)

    _module.prune = prune


def keep_the_items_of_a_deleted_table() -> None:
    _module._delete = lambda tx, table_id: bool(
        tx.run(tx.sql.DROP_ITEM_TABLE, of_table=table_id).rowcount
    )


def write_although_the_condition_fails() -> None:
    """The condition is asked, and not heeded."""
    module: Any = writes
    module.holds = lambda *_: True


def forget_tokens() -> None:
    module: Any = transactions
    module._Token.write = lambda *_: ItemWrite(None)


def see_changes_of_the_same_update() -> None:
    """`SET a = b, b = a` makes both one value."""
    module: Any = updates
    resolved, with_value = module._resolved, module.with_value
    latest: list[Any] = []

    def seen(operand: Any, attributes: Any) -> Any:
        return resolved(operand, latest[-1] if latest else attributes)

    def kept(path: Any, attributes: Any, value: Any) -> Any:
        latest.append(with_value(path, attributes, value))
        return latest[-1]

    module._resolved, module.with_value = seen, kept


BUGS = (
    decide_before_the_transaction,
    hide_items_whose_time_has_passed,
    believe_a_clock_that_jumps_ahead,
    keep_the_items_of_a_deleted_table,
    write_although_the_condition_fails,
    forget_tokens,
    see_changes_of_the_same_update,
)
SEEN_BY = [
    (
        "decide_before_the_transaction",
        _CONTRACT + "test_no_change_is_lost_among_many",
    ),
    (
        "hide_items_whose_time_has_passed",
        _CONTRACT + "test_an_item_is_there_until_maintenance_removes_it",
    ),
    (
        "believe_a_clock_that_jumps_ahead",
        _CONTRACT + "test_a_clock_that_jumps_ahead_removes_no_item",
    ),
    (
        "keep_the_items_of_a_deleted_table",
        _CONTRACT + "test_a_table_that_is_deleted_takes_its_items_along",
    ),
    (
        "write_although_the_condition_fails",
        _ACTIONS + "test_a_condition_that_fails_changes_nothing_and_shows_the_item[sqlite]",
    ),
    ("forget_tokens", _TRANSACTIONS + "test_a_token_makes_a_repeated_transaction_one[sqlite]"),
    (
        "see_changes_of_the_same_update",
        "tests/unit/test_dynamodb_expressions.py::"
        "test_sums_and_lists_have_the_values_from_before_the_update",
    ),
]
