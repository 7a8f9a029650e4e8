"""Sends of coroutines: they share commits, and the event loop goes on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from durableq import (
    Busy,
    DurableQ,
    InvalidBody,
    InvalidInput,
    OutcomeUnknown,
    Queue,
    QueueFull,
    StorageFull,
    UnknownQueue,
)
from durableq.client import coroutines, queue_async
from durableq.engines.sqlite.database import Database
from durableq.model.limits import MAX_PENDING
from durableq.store.core import Answer, Call, Send
from tests.engine import loops, plain
from tests.support import scaled

#: A thousand sends need this many commits at most: the first alone, the others in groups.
FEW = 20


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
def test_a_thousand_sends_need_few_transactions(orders: Queue, groups: list[list[Call]]) -> None:
    async def main() -> list[str]:
        return await asyncio.gather(*(orders.asend(number) for number in range(1000)))

    ids = loops.run(main())
    assert ids == sorted(ids, key=int), "in the order of their coming"
    assert len({*ids}) == 1000
    assert len(groups) <= FEW
    assert all(len(calls) == 1 for calls in groups), "neighbouring sends are one"
    assert loops.stored(orders) == [*range(1000)]


def test_a_thousand_sends_need_few_commits(
    orders: Queue, db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits: list[int] = []
    commit = Database._commit

    def note(self: Database, session: Any) -> None:
        commit(self, session)
        commits.append(threading.get_ident())

    monkeypatch.setattr(Database, "_commit", note)

    async def main() -> None:
        await asyncio.gather(*(orders.asend(number, key=f"k{number}") for number in range(1000)))

    loops.run(main())
    assert len(commits) <= FEW
    assert threading.get_ident() not in commits, "the event loop's thread writes nothing"
    plain.check_sound(db)


@loops.ON_ALL
def test_the_event_loop_goes_on_while_another_process_holds_the_write_lock(
    dq: DurableQ, orders: Queue, db: plain.Place
) -> None:
    """The lock is given up by a task that has run for a thousand turns meanwhile."""

    async def main() -> str:
        with loops.writing(dq, db) as end:
            send = asyncio.create_task(orders.asend("waits"))
            await loops.turns(1000)
            assert not send.done()
            end()
            return await send

    loops.run(main())
    assert loops.stored(orders) == ["waits"]


@loops.ON_ALL
def test_an_error_reaches_the_caller_whose_send_it_was(
    dq: DurableQ, orders: Queue, db: plain.Place, groups: list[list[Call]]
) -> None:
    small = dq.queue("small", max_body_bytes=10, max_backlog=2)
    unknown = Queue(dq, "unknown")

    async def main() -> list[Any]:
        with loops.writing(dq, db) as end:
            first = asyncio.create_task(orders.asend("alone"))
            await loops.until(lambda: loops.is_taken(dq))
            calls = loops.outcomes(
                first,
                orders.asend("before"),
                orders.asend({"a": object()}),
                small.asend("x" * 20),
                small.asend("fits"),
                small.asend_many(["too", "much"]),
                small.asend("last"),
                unknown.asend(1),
                orders.asend(1, delay=-1),
                orders.asend(1, connection=None),  # type: ignore[call-arg]
                orders.asend("after"),
            )
            sends = asyncio.ensure_future(calls)
            await loops.turns()
            end()
            return await sends

    alone, before, no_json, large, fits, many, last, no_queue, delay, option, after = loops.run(
        main()
    )
    assert [type(one) for one in (alone, before, fits, last, after)] == [str] * 5
    assert [type(one) for one in (no_json, large, many)] == [InvalidBody, InvalidBody, QueueFull]
    assert [type(one) for one in (no_queue, delay, option)] == [UnknownQueue, *[InvalidInput] * 2]
    assert "The body has" in str(large)
    assert loops.stored(orders) == ["alone", "before", "after"]
    assert loops.stored(small) == ["fits", "last"]
    assert len(groups) == 3, "the first send; the others; those that were refused as one"


@pytest.mark.parametrize(
    ("error", "is_of_all"),
    [
        (OutcomeUnknown("?"), True),
        (Busy("?"), True),
        (StorageFull("?"), False),
        (KeyError(), False),
    ],
)
def test_an_error_of_a_transaction_is_that_of_all_or_each_has_its_own_outcome(
    dq: DurableQ, orders: Queue, monkeypatch: pytest.MonkeyPatch, error: Exception, is_of_all: bool
) -> None:
    together = dq.store.together

    def fail(calls: Sequence[Call]) -> list[Answer]:
        if any(isinstance(one, Send) and '"bad"' in {d.body for d in one.drafts} for one in calls):
            raise error
        return together(calls)

    monkeypatch.setattr(dq.store, "together", fail)

    async def main() -> list[Any]:
        with loops.writing(dq, dq.url if dq.url == loops.MEMORY else Path(dq.url)) as end:
            first = asyncio.create_task(orders.asend("first"))
            await loops.until(lambda: loops.is_taken(dq))
            sends = asyncio.ensure_future(
                loops.outcomes(*map(orders.asend, ["good", "bad", "better"]))
            )
            await loops.turns()
            end()
            await first
            return await sends

    good, bad, better = loops.run(main())
    assert bad is error or isinstance(bad, type(error))
    if is_of_all:
        assert {type(good), type(better)} == {type(error)}
        assert len({id(good), id(bad), id(better)}) == 3, "each adds its own traceback"
    else:
        assert loops.stored(orders) == ["first", "good", "better"]


@loops.ON_ALL
def test_a_cancelled_send_is_not_sent_unless_its_commit_had_begun(
    dq: DurableQ, orders: Queue, db: plain.Place
) -> None:
    async def main() -> None:
        with loops.writing(dq, db) as end:
            sends = [asyncio.create_task(orders.asend("begun"))]
            await loops.until(lambda: loops.is_taken(dq))
            sends += [asyncio.create_task(orders.asend(body)) for body in ("no", "waits")]
            await loops.turns()
            for send in sends[:2]:
                send.cancel()
            done, _ = await asyncio.wait(sends[:2])
            assert all(send.cancelled() for send in done), "the wait for the lock is not waited for"
            end()
            await sends[2]

    loops.run(main())
    assert loops.stored(orders) == ["begun", "waits"]


@pytest.mark.parametrize("by", ["number", "bytes"])
def test_sends_that_wait_are_encoded_up_to_a_bound(
    dq: DurableQ, orders: Queue, db: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """At all times; the others wait before they are encoded, and come in their order."""
    bound = MAX_PENDING
    if by == "bytes":
        monkeypatch.setattr(coroutines, "MAX_PENDING_BYTES", 100 * 1_000)
        bound = 100
    made: list[Any] = []
    waiting: list[int] = []
    draft = vars(queue_async)["draft"]

    def note(body: Any, **options: Any) -> Any:
        made.append(body)
        waiting.append(len(made) - len(sent))
        return draft(body, **options)

    monkeypatch.setattr(queue_async, "draft", note)
    bodies = [f"{number:0998}" for number in range(5 * bound)]
    sent: list[str] = []

    async def send_one(body: str) -> None:
        sent.append(await orders.asend(body))

    async def main() -> None:
        with loops.writing(dq, db) as end:
            sends = [asyncio.create_task(send_one(body)) for body in bodies]
            await loops.turns(100)
            assert len(made) == bound
            for send in sends[bound + 10 : bound + 20]:  # they do not wait any more
                send.cancel()
            end()
            await asyncio.wait(sends)

    loops.run(main())
    del bodies[bound + 10 : bound + 20]
    assert loops.stored(orders) == bodies == made
    assert max(waiting) == bound


def test_a_batch_may_exceed_the_bound_and_an_empty_one_lets_nothing_else_in(
    dq: DurableQ, orders: Queue, db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coroutines, "MAX_PENDING", 3)
    made: list[int] = []

    def bodies(*numbers: int) -> Iterator[int]:
        for number in numbers:
            made.append(number)
            yield number

    async def main() -> None:
        with loops.writing(dq, db) as end:
            batches = [bodies(0, 1), bodies(), bodies(*range(2, 12)), bodies(), bodies(12)]
            sends = [asyncio.create_task(orders.asend_many(one)) for one in batches]
            await loops.turns(100)
            assert made == [*range(12)]
            end()
            await asyncio.gather(*sends)

    loops.run(main())
    assert loops.stored(orders) == [*range(13)]


def test_a_send_that_is_refused_as_it_enters_lets_the_next_one_in(
    dq: DurableQ, orders: Queue, db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coroutines, "MAX_PENDING", 1)

    async def main() -> list[Any]:
        with loops.writing(dq, db) as end:
            bodies = ["first", object(), object(), "last"]
            sends = asyncio.ensure_future(loops.outcomes(*map(orders.asend, bodies)))
            await loops.turns()
            end()
            return await sends

    assert [type(one) for one in loops.run(main())] == [str, InvalidBody, InvalidBody, str]


@loops.ON_ALL
def test_event_loops_of_several_threads_send_at_once(dq: DurableQ, orders: Queue) -> None:
    async def main(number: int) -> list[str]:
        return await asyncio.gather(*(orders.asend([number, each]) for each in range(200)))

    answers: dict[int, list[str]] = {}

    def run(number: int) -> None:
        answers[number] = loops.run(main(number))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(scaled(60))
    assert len({one for ids in answers.values() for one in ids}) == 600
    assert sorted(loops.stored(orders)) == [
        [number, each] for number in range(3) for each in range(200)
    ]


@loops.ON_ALL
def test_a_full_queue_makes_its_senders_wait_and_no_others(
    dq: DurableQ, orders: Queue, db: plain.Place
) -> None:
    full = dq.queue("full", max_backlog=2, on_full="block", block_timeout=scaled(60))

    async def main() -> None:
        await full.asend_many([1, 2])
        sends = [asyncio.create_task(full.asend(body)) for body in (3, 4, 5)]
        await orders.asend("meanwhile")
        messages = await asyncio.to_thread(full.receive, 2)
        await loops.turns()
        assert not any(send.done() for send in sends)
        sends[1].cancel()
        for message in messages:
            await asyncio.to_thread(message.complete)
        await asyncio.gather(sends[0], sends[2])

    loops.run(main())
    assert loops.stored(full) == [3, 5]


@loops.ON_ALL
def test_a_send_to_a_full_queue_ends_after_its_block_timeout(dq: DurableQ) -> None:
    full = dq.queue("full", max_backlog=1, on_full="block", block_timeout=0.05)

    async def main() -> list[Any]:
        await full.asend(1)
        return await loops.outcomes(full.asend(2), full.asend(3))

    for refused in loops.run(main()):
        assert isinstance(refused, QueueFull)
        assert "has waited for 0.05 s" in str(refused)
    assert loops.stored(full) == [1]


def test_a_call_outside_of_asyncio_is_refused_in_a_sentence(orders: Queue) -> None:
    send = orders.asend(1)
    with pytest.raises(InvalidInput, match=r"asyncio runs no event loop.*trio\.to_thread"):
        send.send(None)


@loops.ON_ALL
def test_a_batch_is_sent_as_a_whole_or_not_at_all(dq: DurableQ, orders: Queue) -> None:
    small = dq.queue("small", max_body_bytes=10)

    async def main() -> list[Any]:
        return await loops.outcomes(
            orders.asend_many([1, 2, 3], priority=5),
            small.asend_many(["fits", "x" * 20]),
            orders.asend_many("text"),
            orders.asend_many([1], key="k"),
            orders.asend_many([]),
            orders.asend_many(range(10_001)),
        )

    ids, large, text, key, none, many = loops.run(main())
    assert len(ids) == 3
    assert none == []
    assert isinstance(large, InvalidBody)
    assert "Message 2 of this batch" in str(large)
    assert [type(one) for one in (text, key, many)] == [InvalidInput] * 3
    assert loops.stored(orders) == [1, 2, 3]
    assert loops.stored(small) == []
