"""Long polling over SQS: a wait ends with a message, with its time, or with the server."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from durableq import Busy, DurableQ
from durableq.model.message import Received
from durableq.serve.sqs import attending, polling
from durableq.store.core import Receive, Store
from tests.engine import loops
from tests.serve.sqs_client import ON_BOTH, Sqs
from tests.support import scaled

#: Longest wait that a poll has.
WAIT = 20


async def woken(sqs: Sqs, url: str, act: Callable[[], Awaitable[object]]) -> tuple[Any, float]:
    """Poll, act meanwhile, and return the messages, and the seconds from the act to them."""
    poll = asyncio.create_task(sqs.ask("ReceiveMessage", url, WaitTimeSeconds=WAIT))
    await waiting(sqs, url)
    began = time.monotonic()
    await act()
    answered = await poll
    return answered.get("Messages", []), time.monotonic() - began


async def waiting(sqs: Sqs, url: str, number: int = 1) -> None:
    """Wait until so many polls wait."""
    polls = polling.polls_of(sqs.app.store)
    name = url.rpartition("/")[2]
    await loops.until(lambda: polls.waiting(name) >= number, "polls")
    await loops.until(lambda: not polls.is_looking, "the end of a look")


@ON_BOTH
def test_a_poll_wakes_with_a_send(sqs: Sqs) -> None:
    url = sqs.queue()
    messages, seconds = sqs.run(
        lambda: woken(sqs, url, lambda: sqs.ask("SendMessage", url, MessageBody="x"))
    )
    assert messages
    assert seconds < scaled(5)


def test_a_poll_wakes_with_a_send_of_python(sqs: Sqs) -> None:
    url = sqs.queue()

    async def send() -> None:
        with DurableQ(sqs.app.url) as other:
            await asyncio.to_thread(other.queue("q").send, "x")

    messages, seconds = sqs.run(lambda: woken(sqs, url, send))
    assert [message["Body"] for message in messages] == ['"x"']
    assert seconds < scaled(5)


@ON_BOTH
def test_a_poll_wakes_with_the_end_of_a_delay(sqs: Sqs) -> None:
    url = sqs.queue()
    act = lambda: sqs.ask("SendMessage", url, MessageBody="x", DelaySeconds=1)  # noqa: E731
    messages, seconds = sqs.run(lambda: woken(sqs, url, act))
    assert messages
    assert 0.9 < seconds < scaled(6)


@ON_BOTH
def test_a_poll_wakes_with_the_end_of_a_lease(sqs: Sqs) -> None:
    url = sqs.queue()
    sqs.send(url)
    sqs.receive(url, VisibilityTimeout=1)
    began = time.monotonic()
    assert sqs.receive(url, WaitTimeSeconds=WAIT)
    assert time.monotonic() - began < scaled(6)


@ON_BOTH
def test_a_poll_wakes_with_a_visibility_of_0(sqs: Sqs) -> None:
    url = sqs.queue()
    sqs.send(url)
    (message,) = sqs.receive(url)
    handle = message["ReceiptHandle"]
    act = lambda: sqs.ask(  # noqa: E731
        "ChangeMessageVisibility", url, ReceiptHandle=handle, VisibilityTimeout=0
    )
    messages, seconds = sqs.run(lambda: woken(sqs, url, act))
    assert messages
    assert seconds < scaled(5)


def test_a_poll_of_an_empty_queue_ends_with_its_time(sqs: Sqs) -> None:
    url = sqs.queue(ReceiveMessageWaitTimeSeconds="1")
    began = time.monotonic()
    assert sqs("ReceiveMessage", url) == {}
    assert 1 <= time.monotonic() - began < max(WAIT, scaled(5))


def test_a_receive_without_a_wait_does_not_poll(sqs: Sqs) -> None:
    url = sqs.queue(ReceiveMessageWaitTimeSeconds="1")

    async def looks(**parameters: int) -> int:
        assert await sqs.ask("ReceiveMessage", url, **parameters) == {}
        return polling.polls_of(sqs.app.store).looks

    assert sqs.run(lambda: looks(WaitTimeSeconds=0)) == 0
    assert sqs.run(looks) > 0


def test_a_poll_returns_with_the_first_message(sqs: Sqs) -> None:
    url = sqs.queue()
    sqs.send(url)
    began = time.monotonic()
    assert len(sqs.receive(url, 10, WaitTimeSeconds=WAIT)) == 1
    assert time.monotonic() - began < scaled(2)


def test_polls_are_answered_when_the_server_stops(sqs: Sqs) -> None:
    url = sqs.queue()

    async def stop() -> list[dict[str, Any]]:
        polls = [sqs.ask("ReceiveMessage", url, WaitTimeSeconds=WAIT) for _ in range(10)]
        tasks = [asyncio.create_task(poll) for poll in polls]
        await waiting(sqs, url, 10)
        sqs.context.stopping.set()
        return list(await asyncio.gather(*tasks))

    began = time.monotonic()
    assert sqs.run(stop) == [{}] * 10
    assert time.monotonic() - began < scaled(5)


@ON_BOTH
def test_each_of_many_polls_gets_a_message_and_none_gets_two(sqs: Sqs) -> None:
    url = sqs.queue()

    async def many() -> list[str]:
        polls = [sqs.ask("ReceiveMessage", url, WaitTimeSeconds=WAIT) for _ in range(20)]
        tasks = [asyncio.create_task(poll) for poll in polls]
        await waiting(sqs, url, 20)
        for start in (0, 10):
            entries = [
                {"Id": str(number), "MessageBody": str(number)}
                for number in range(start, start + 10)
            ]
            await sqs.ask("SendMessageBatch", url, Entries=entries)
        answers = await asyncio.gather(*tasks)
        return [message["Body"] for answer in answers for message in answer["Messages"]]

    assert sorted(sqs.run(many), key=int) == [str(number) for number in range(20)]


def test_polls_of_an_idle_store_look_once_and_wait(sqs: Sqs) -> None:
    names = [f"q{number}" for number in range(12)]
    urls = [*map(sqs.queue, names)]

    async def idle() -> int:
        polls = polling.polls_of(sqs.app.store)
        tasks = [
            asyncio.create_task(sqs.ask("ReceiveMessage", url, WaitTimeSeconds=2)) for url in urls
        ]
        # At once: those that began first must wait still when the last one has begun.
        await loops.until(lambda: all(map(polls.waiting, names)), "polls")
        await loops.until(lambda: not polls.is_looking, "the end of a look")
        before = polls.looks
        await asyncio.gather(*tasks)
        return polls.looks - before

    assert sqs.run(idle) <= 3


@ON_BOTH
def test_a_cancelled_poll_gives_its_messages_back(sqs: Sqs) -> None:
    url = sqs.queue()

    async def cancel() -> dict[str, Any]:
        poll = asyncio.create_task(sqs.ask("ReceiveMessage", url, WaitTimeSeconds=WAIT))
        await waiting(sqs, url)
        await sqs.ask("SendMessage", url, MessageBody="x")
        poll.cancel()
        with pytest.raises(asyncio.CancelledError):
            await poll
        return await sqs.ask("ReceiveMessage", url, WaitTimeSeconds=WAIT, AttributeNames=["All"])

    (message,) = sqs.run(cancel)["Messages"]
    assert message["Attributes"]["ApproximateReceiveCount"] == "1"


def test_the_messages_of_a_client_that_is_gone_are_given_back(sqs: Sqs) -> None:
    url = sqs.queue()
    sqs.send(url)
    assert sqs.receive(url)
    (undo,) = sqs.context.undo
    sqs.run(undo)
    (message,) = sqs.receive(url, AttributeNames=["All"])
    assert message["Attributes"]["ApproximateReceiveCount"] == "1"


@pytest.mark.parametrize("store_fails", [False, True], ids=["another was first", "the look fails"])
def test_a_poll_whose_receive_or_look_failed_wakes_with_the_next_send(
    sqs: Sqs, monkeypatch: pytest.MonkeyPatch, store_fails: bool
) -> None:
    url: str = sqs.queue()
    store: Any = sqs.app.store
    failed: list[bool] = []
    if store_fails:
        readiness = store.readiness

        def look(wanted: Any) -> Any:
            if not failed:
                failed.append(True)
                raise Busy
            return readiness(wanted)

        monkeypatch.setattr(store, "readiness", look)
    else:
        receive = polling.receive

        async def lose(store: Store, call: Receive) -> Received:
            if call.queue == "q" and not failed and polling.polls_of(store).looks:
                failed.append(True)  # the lease of the winner ends in half a minute
                return Received([], [], 0, wait_ms=30_000)
            return await receive(store, call)

        monkeypatch.setattr(polling, "receive", lose)

    async def poll() -> Any:
        task = asyncio.create_task(sqs.ask("ReceiveMessage", url, WaitTimeSeconds=WAIT))
        await waiting(sqs, url)
        await sqs.ask("SendMessage", url, MessageBody="x")
        await loops.until(lambda: bool(failed), "the failure")
        return await task

    began = time.monotonic()
    assert sqs.run(poll)["Messages"]
    assert failed
    assert time.monotonic() - began < scaled(5)


@pytest.mark.parametrize("hangs_up", [True, False], ids=["hung up", "busy"])
def test_a_message_that_a_woken_poll_does_not_get_wakes_another(
    sqs: Sqs, monkeypatch: pytest.MonkeyPatch, hangs_up: bool
) -> None:
    url = sqs.queue()
    receive, begun = polling.receive, asyncio.Event()

    async def fail(store: Store, call: Receive) -> Received:
        if polling.polls_of(store).looks and not begun.is_set():
            begun.set()
            await asyncio.Event().wait() if hangs_up else None
            raise Busy
        return await receive(store, call)

    async def poll() -> Any:
        first = asyncio.create_task(sqs.ask("ReceiveMessage", url, WaitTimeSeconds=WAIT))
        await waiting(sqs, url)
        second = asyncio.create_task(sqs.ask("ReceiveMessage", url, WaitTimeSeconds=5))
        await waiting(sqs, url, 2)
        monkeypatch.setattr(polling, "receive", fail)
        await sqs.ask("SendMessage", url, MessageBody="x")
        await begun.wait()
        if hangs_up:
            first.cancel()
        with pytest.raises(asyncio.CancelledError if hangs_up else Busy):
            await first
        return await second

    assert sqs.run(poll).get("Messages")


def test_maintenance_goes_on_beside_the_requests(sqs: Sqs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attending, "MAINTENANCE_SECONDS", 0.01)
    store: Any = sqs.app.store
    maintain, slices = store.maintain, []

    def note() -> Any:
        slices.append(1)
        if len(slices) == 1:
            raise Busy
        return maintain()

    monkeypatch.setattr(store, "maintain", note)

    async def attend() -> None:
        task = asyncio.create_task(attending.attend(sqs.app))
        await loops.until(lambda: len(slices) >= 3, "slices of maintenance")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    sqs.run(attend)
