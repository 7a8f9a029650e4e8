"""Tables of items: created, found and deleted; items that change under a condition."""
# ruff: noqa: D102, S101 - test names are sentences, and tests assert

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest

from durableq.model.errors import NotFound
from durableq.model.items import (
    TOKENS,
    ItemChange,
    ItemKey,
    ItemsChanged,
    ItemsFound,
    ItemTable,
    ItemWrite,
    TableSize,
    key_text,
)
from durableq.store.core import Capability
from durableq.testing.contract.case import FullStore, StoreCase, needs
from durableq.testing.fakes import FakeClock

ACCOUNT = "000000000000"
REGION = "us-east-1"
YEAR_S = 365 * 86_400


def create(store: FullStore, name: str = "t", ttl: str = "") -> int:
    """Create a table and return its id."""
    wanted = ItemTable(0, ACCOUNT, REGION, name, '{"KeySchema":[]}', ttl)
    created = store.create_item_table(wanted)
    assert created is not None
    return created.id


def put(store: FullStore, key: ItemKey, item: str | None, expires_at_s: int | None = None) -> None:
    """Write an item without a condition."""
    store.change_items([key], lambda found: ItemsChanged(None, [ItemWrite(item, expires_at_s)]))


def put_if_new(item: str, found: ItemsFound) -> ItemsChanged[bool]:
    """Write an item if there is none."""
    if found.items[0] is not None:
        return ItemsChanged(False)
    return ItemsChanged(True, [ItemWrite(item)])


def plus_one(found: ItemsFound) -> ItemsChanged[int]:
    """Count up."""
    number = json.loads(found.items[0] or "0") + 1
    return ItemsChanged(number, [ItemWrite(str(number))])


def expiry_in(item: str) -> int | None:
    """Return the time that a number is."""
    return int(item) or None


@needs(Capability.ITEMS)
class ItemsContract(StoreCase):
    """Tables and items."""

    def test_a_table_is_found_by_account_region_and_name(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        definition = '{"KeySchema":[{"AttributeName":"id"}]}'
        wanted = ItemTable(0, ACCOUNT, REGION, "orders", definition, "until")
        created = store.create_item_table(wanted)
        assert created == ItemTable(
            created.id if created else 0,
            *(ACCOUNT, REGION, "orders", definition, "until"),
            created_at_ms=clock.wall_ms(),
        )
        assert store.item_table(ACCOUNT, REGION, "orders") == created
        assert store.item_table(ACCOUNT, "eu-central-1", "orders") is None
        assert store.item_table("111111111111", REGION, "orders") is None
        assert store.item_table(ACCOUNT, REGION, "Orders") is None

    def test_a_table_is_created_once(self, store: FullStore) -> None:
        create(store)
        assert store.create_item_table(ItemTable(0, ACCOUNT, REGION, "t", "{}")) is None
        assert store.create_item_table(ItemTable(0, ACCOUNT, "eu-central-1", "t", "{}"))

    def test_tables_are_listed_in_order_of_name(self, store: FullStore) -> None:
        for name in ("b", "a", "c", "B"):
            create(store, name)
        store.create_item_table(ItemTable(0, ACCOUNT, "eu-central-1", "x", "{}"))

        def names(limit: int, after: str = "") -> list[str]:
            return [table.name for table in store.item_tables(ACCOUNT, REGION, limit, after)]

        assert names(10) == ["B", "a", "b", "c"]
        assert names(2) == ["B", "a"]
        assert names(2, "a") == ["b", "c"]
        assert names(2, "c") == []

    def test_items_are_stored_by_both_parts_of_the_key(self, store: FullStore) -> None:
        first, second = create(store, "first"), create(store, "second")
        keys = [ItemKey(first, "a"), ItemKey(first, "a", "b"), ItemKey(second, "a")]
        for number, key in enumerate(keys):
            put(store, key, f'{{"n":{number}}}')
        assert list(store.items(keys)) == ['{"n":0}', '{"n":1}', '{"n":2}']
        put(store, keys[0], None)
        put(store, keys[1], '{"n":"é"}')
        assert list(store.items(keys)) == [None, '{"n":"é"}', '{"n":2}']

    def test_a_key_of_any_text_and_length_is_stored(self, store: FullStore) -> None:
        table = create(store)
        texts = ["", "\x00", "é", "\x00\U0001f600", "k" * 2048, "k" * 2047 + "l"]
        keys = [ItemKey(table, key_text(text), key_text(text[-1024:])) for text in texts]
        assert len(set(keys)) == len(texts)
        for number, key in enumerate(keys):
            put(store, key, str(number))
        assert list(store.items(keys)) == ["0", "1", "2", "3", "4", "5"]

    def test_the_decision_about_a_change_sees_the_items_as_they_are(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        table = create(store, ttl="until")
        keys = [ItemKey(table, "a"), ItemKey(table, "b"), ItemKey(TOKENS, "token")]
        put(store, keys[1], "1")

        def change(found: ItemsFound) -> ItemsChanged[str]:
            assert list(found.items) == [None, "1", None]
            assert found.tables[table].ttl_attribute == "until"
            assert [*found.tables] == [table]
            assert found.now_s == clock.wall_ms() / 1000
            return ItemsChanged("answer", [ItemWrite("0"), ItemWrite(None), None])

        assert store.change_items(keys, change) == "answer"
        assert list(store.items(keys)) == ["0", None, None]

    def test_a_decision_that_raises_changes_nothing(self, store: FullStore) -> None:
        table = create(store)
        keys = [ItemKey(table, "a"), ItemKey(table, "b")]

        def change(found: ItemsFound) -> ItemsChanged[None]:
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            store.change_items(keys, change)
        assert list(store.items(keys)) == [None, None]

    def test_of_many_who_put_an_item_if_it_is_new_one_does(self, store: FullStore) -> None:
        table = create(store)
        won = self.at_once(store, [partial(put_if_new, str(n)) for n in range(8)], table)
        assert sorted(won) == [False] * 7 + [True]
        [stored] = store.items([ItemKey(table, "a")])
        assert stored == str(won.index(True))

    def test_no_change_is_lost_among_many(self, store: FullStore) -> None:
        table = create(store)
        counted = self.at_once(store, [plus_one] * 8, table, times=25)
        assert sorted(counted) == list(range(1, 8 * 25 + 1))
        assert list(store.items([ItemKey(table, "a")])) == ["200"]

    def at_once(
        self, store: FullStore, changes: Sequence[ItemChange[Any]], table: int, times: int = 1
    ) -> list[Any]:
        """Change one item in as many threads at once; return the answers of each in turn."""
        together = threading.Barrier(len(changes))
        answers: list[list[Any]] = [[] for _ in changes]

        def run(number: int) -> None:
            together.wait()
            for _ in range(times):
                answer = store.change_items([ItemKey(table, "a")], changes[number])
                answers[number].append(answer)

        threads = [threading.Thread(target=run, args=(n,)) for n in range(len(changes))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return [answer for each in answers for answer in each]

    def test_a_table_that_is_deleted_takes_its_items_along(self, store: FullStore) -> None:
        kept, table = create(store, "kept"), create(store)
        put(store, ItemKey(kept, "a"), "1")
        put(store, ItemKey(table, "a"), "2")
        assert store.delete_item_table(table)
        assert not store.delete_item_table(table)
        assert store.item_table(ACCOUNT, REGION, "t") is None
        with pytest.raises(NotFound, match=f"no table of items {table}"):
            put(store, ItemKey(table, "a"), "3")
        assert list(store.items([ItemKey(table, "a")])) == [None]
        again = create(store)
        assert again != table, "who has read the old table does not write into the new one"
        assert list(store.items([ItemKey(again, "a"), ItemKey(kept, "a")])) == [None, "1"]

    def test_the_size_of_a_table_counts_items_up_to_a_limit(self, store: FullStore) -> None:
        table = create(store)
        assert store.item_table_size(table, 10) == TableSize(0, 0)
        for name in "abc":
            put(store, ItemKey(table, name), "xy")
        assert store.item_table_size(table, 10) == TableSize(3, 6)
        assert store.item_table_size(table, 2) == TableSize(2, 4)

    def test_the_attribute_of_expiry_is_that_of_all_items(self, store: FullStore) -> None:
        table = create(store)
        assert store.set_item_ttl(table, "until", expiry_in)
        found = store.item_table(ACCOUNT, REGION, "t")
        assert found is not None
        assert found.ttl_attribute == "until"
        assert not store.set_item_ttl(table + 1, "until", expiry_in)

    @needs(Capability.MAINTENANCE)
    def test_an_item_is_there_until_maintenance_removes_it(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        table, now_s = create(store, ttl="until"), clock.wall_ms() // 1000
        keys = [ItemKey(table, name) for name in ("early", "late", "never", "odd")]
        times = (now_s + 10, now_s + 20, None, now_s - 5 * YEAR_S - 1)
        for key, time in zip(keys, times, strict=True):
            put(store, key, "1", time)
        assert store.prune().items == 0
        clock.advance(15)
        assert list(store.items(keys)) == ["1"] * 4, "never hidden before"
        assert store.prune().items == 1
        assert list(store.items(keys)) == [None, "1", "1", "1"]
        put(store, keys[1], "1", now_s + 1000)
        clock.advance(15)
        assert store.prune().items == 0, "a later time counts"
        clock.advance(2000)
        assert store.maintain().items == 1
        assert list(store.items(keys)) == [None, None, "1", "1"]

    @needs(Capability.MAINTENANCE)
    def test_maintenance_removes_a_bounded_number_of_items(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        table, now_s = create(store), clock.wall_ms() // 1000
        for number in range(3):
            put(store, ItemKey(table, str(number)), "1", now_s)
        clock.advance(1)
        assert store.prune(limit=2).items == 2
        assert store.prune(limit=2).items == 1

    @needs(Capability.MAINTENANCE)
    def test_another_attribute_of_expiry_counts_for_the_items_that_are_there(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        table, now_s = create(store), clock.wall_ms() // 1000
        keys = [ItemKey(table, "past"), ItemKey(table, "future"), ItemKey(table, "none")]
        for key, item in zip(keys, (str(now_s - 1), str(now_s + 100), "0"), strict=True):
            put(store, key, item)
        assert store.prune().items == 0
        store.set_item_ttl(table, "until", expiry_in)
        assert store.prune().items == 1
        assert [item is None for item in store.items(keys)] == [True, False, False]
        store.set_item_ttl(table, "", lambda item: None)
        clock.advance(200)
        assert store.prune().items == 0

    @needs(Capability.MAINTENANCE)
    def test_a_clock_that_jumps_ahead_removes_no_item(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        table, now_s = create(store), clock.wall_ms() // 1000
        put(store, ItemKey(table, "a"), "1", now_s + 3600)
        clock.set_wall(clock.wall_ms() + 86_400_000)
        assert store.prune().items == 0
        assert list(store.items([ItemKey(table, "a")])) == ["1"]
