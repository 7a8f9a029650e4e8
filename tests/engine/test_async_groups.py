"""Groups of operations of coroutines: receives that are one, and the work of a group."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from durableq import DurableQ, Queue
from durableq.client import committing
from durableq.client.coroutines import commit
from durableq.store.core import Answer, Call, Receive, Send
from tests.engine import loops, plain


@pytest.fixture
def groups(dq: DurableQ, monkeypatch: pytest.MonkeyPatch) -> list[list[Call]]:
    """The calls of each transaction that coroutines share."""
    found: list[list[Call]] = []
    together = dq.store.together

    def note(calls: Sequence[Call]) -> list[Answer]:
        found.append([*calls])
        return together(calls)

    monkeypatch.setattr(dq.store, "together", note)
    return found


@loops.ON_ALL
def test_neighbouring_receives_are_one_and_each_gets_its_share(
    dq: DurableQ, orders: Queue, db: plain.Place, groups: list[list[Call]]
) -> None:
    orders.send_many(range(25))

    async def main() -> list[Any]:
        with loops.writing(dq, db) as end:
            first = asyncio.create_task(orders.asend("waits"))
            await loops.until(lambda: loops.is_taken(dq))
            receives = [asyncio.create_task(orders.areceive(limit)) for limit in (3, 10, 1, 10, 9)]
            await loops.turns()
            end()
            await first
            return [[message.body for message in await each] for each in receives]

    shares = loops.run(main())
    assert groups[-1] == [Receive(orders.name, 33)]
    assert [len(share) for share in shares] == [3, 10, 1, 10, 2]
    assert [body for share in shares for body in share] == [*range(25), "waits"]


@loops.ON_ALL
def test_receives_of_other_terms_and_of_batches_stay_apart(
    dq: DurableQ, orders: Queue, db: plain.Place, groups: list[list[Call]]
) -> None:
    async def main() -> None:
        with loops.writing(dq, db) as end:
            first = asyncio.create_task(orders.asend("waits"))
            await loops.until(lambda: loops.is_taken(dq))
            calls = (
                Receive(orders.name, 1),
                Receive(orders.name, 1, 500),
                Receive(orders.name, 1, by_group=True),
                Receive(orders.name, 1, by_group=True),
            )
            receives = [asyncio.create_task(commit(dq.store, call)) for call in calls]
            await loops.turns()
            end()
            await asyncio.gather(first, *receives)

    loops.run(main())
    assert len(groups[-1]) == 4


@loops.ON_ALL
def test_a_bad_receive_spoils_no_other(orders: Queue) -> None:
    orders.send_many(range(5))

    async def main() -> list[Any]:
        calls = [orders.areceive(limit) for limit in (1, 10_001, 0, 2)]
        return await loops.outcomes(*calls)

    good, large, none, other = loops.run(main())
    assert [message.body for message in good] == [0]
    assert [message.body for message in other] == [1, 2]
    assert type(large).__name__ == type(none).__name__ == "InvalidInput"


def test_a_group_ends_at_its_share_of_work(
    orders: Queue, groups: list[list[Call]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a bound that one operation exceeds, each group has the least number of operations."""
    monkeypatch.setattr(committing, "GROUP_SECONDS", 1e-9)

    async def main() -> None:
        await orders.asend("measured")
        await asyncio.gather(*(orders.asend(number) for number in range(100)))

    loops.run(main())
    sizes = [len(call.drafts) for calls in groups for call in calls if isinstance(call, Send)]
    assert sum(sizes) == 101
    assert max(sizes) == committing.LEAST_GROUP
    assert loops.stored(orders) == ["measured", *range(100)]
