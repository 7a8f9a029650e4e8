"""Bugs to plant in the statements for a set of messages or keys."""

from __future__ import annotations

from typing import Any

from durableq.engines.sql import held, receiving, releasing, settling
from tests.sabotage.texts import change, rewrite


def take_new_keys_of_others() -> None:
    taken = "DO UPDATE SET owner_message_id = excluded.owner_message_id, owner_receipt ="
    rewrite("TAKE_NEW_KEYS", "DO NOTHING", f"{taken} excluded.owner_receipt")


def take_keys_of_lost_leases() -> None:
    receipt = "durableq_message.receipt = :token"
    rewrite("TAKE_NEW_KEYS", receipt, f"({receipt} OR true)")


def complete_keys_without_looking() -> None:
    """Each record counts as completed, whatever the statement has found."""
    module: Any = settling
    complete_alike = module._complete_alike

    def complete_and_believe(tx: Any, source: Any, token: Any, keys: list[str]) -> int:
        complete_alike(tx, source, token, keys)
        return len(keys)

    module._complete_alike = complete_and_believe


def wake_nobody() -> None:
    rewrite("HAS_DEFERRED", '"deferred" = 1', '"deferred" = 1 AND false')
    change("m.deferred = 1 LIMIT 1", "m.deferred = 1 AND false LIMIT 1")


def take_the_first_lease_for_all() -> None:
    """A transaction of many messages begins although one of their leases is gone."""
    module: Any = held
    first_stale = module.first_stale
    module.first_stale = lambda tx, receipts: first_stale(tx, list(receipts)[:1])


def deliver_without_looking() -> None:
    module: Any = receiving
    lease_ready = module.lease_ready

    def chosen(tx: Any, ids: list[int], *lease: Any) -> list[int]:
        lease_ready(tx, ids, *lease)
        return ids

    module.lease_ready = chosen


_SEEN = "durableq_idempotency.status = :seen_status"


def take_any_key() -> None:
    rewrite("TAKE_KEY", _SEEN, f"true OR {_SEEN}")


def settle_without_looking() -> None:
    put_back = settling.put_back
    for module in (settling, releasing):
        vars(module)["put_back"] = lambda *given, **options: [put_back(*given, **options)] != []


BUGS = (
    take_new_keys_of_others,
    take_keys_of_lost_leases,
    complete_keys_without_looking,
    wake_nobody,
    take_the_first_lease_for_all,
    deliver_without_looking,
    take_any_key,
    settle_without_looking,
)
