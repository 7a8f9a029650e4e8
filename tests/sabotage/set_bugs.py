"""Bugs to plant in the statements for a set of messages or keys."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

from durableq.engines.sql import settling
from durableq.engines.sql.transactions import Transaction
from tests.sabotage.host_bugs import rewrite


def take_new_keys_of_others() -> None:
    taken = "DO UPDATE SET owner_message_id = excluded.owner_message_id, owner_receipt ="
    rewrite("TAKE_NEW_KEYS", "DO NOTHING", f"{taken} excluded.owner_receipt")


def take_keys_of_lost_leases() -> None:
    rewrite("TAKE_NEW_KEYS", "durableq_message.receipt = :token", ":token IS NOT NULL")


def complete_keys_without_looking() -> None:
    """Each record counts as completed, whatever the statement has found."""
    cls: Any = Transaction
    run = cls.run

    def run_and_believe(self: Any, text: str, **values: Any) -> Any:
        cursor = run(self, text, **values)
        texts = {self.sql.COMPLETE_KEYS: None, self.sql.COMPLETE_KEYS_ONE: 1}
        if text not in texts:
            return cursor
        return SimpleNamespace(rowcount=texts[text] or len(json.loads(values["keys"])))

    cls.run = run_and_believe


def wake_nobody() -> None:
    rewrite("HAS_DEFERRED", '"deferred" = 1', '"deferred" = 1 AND 0')


def take_the_first_lease_for_all() -> None:
    """A transaction of many messages begins although one of their leases is gone."""
    module: Any = settling
    first_stale = module.first_stale
    module.first_stale = lambda tx, receipts: first_stale(tx, list(receipts)[:1])


def deliver_without_looking() -> None:
    cls: Any = Transaction
    moved = cls.moved

    def chosen(self: Any, statement: str, **values: Any) -> set[int]:
        moved(self, statement, **values)
        return set(json.loads(values["ids"]))

    cls.moved = chosen


def take_any_key() -> None:
    rewrite("TAKE_KEY", "durableq_idempotency.status = :seen_status", "1 OR 1")


def settle_without_looking() -> None:
    module: Any = settling
    put_back = module.put_back
    module.put_back = lambda *arguments, **options: [put_back(*arguments, **options)] != []
