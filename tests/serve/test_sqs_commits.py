"""Requests share commits: each is answered after its own, and a bad one spoils no other."""

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from durableq.client.committing import LEAST_GROUP
from durableq.store.core import Answer, Call
from tests.engine import loops
from tests.serve.sqs_client import ON_BOTH, Sqs
from tests.support import new_file, scaled


def test_a_send_is_answered_after_its_commit(
    sqs: Sqs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = sqs.queue()
    file = new_file(tmp_path / "queue.db")
    together, has_begun = sqs.app.store.together, threading.Event()

    def commit(calls: Sequence[Call]) -> list[Answer]:
        has_begun.set()
        return together(calls)

    monkeypatch.setattr(sqs.app.store, "together", commit)

    async def send() -> dict[str, Any]:
        with loops.writing(sqs.app, file) as end:
            answer = asyncio.create_task(sqs.ask("SendMessage", url, MessageBody="x"))
            await loops.until(has_begun.is_set, "the transaction of the send")
            await loops.turns(1000)
            assert not answer.done(), "Another process holds the write lock."
            end()
            return await answer

    assert sqs.run(send)["MessageId"]
    assert sqs.bodies(url) == ["x"]


class Gate:
    """Counts the transactions of requests, of which none begins before all requests are there."""

    def __init__(self, sqs: Sqs, monkeypatch: pytest.MonkeyPatch) -> None:
        self.groups = 0
        self._together = sqs.app.store.together
        self._open = threading.Event()
        self._sqs = sqs
        monkeypatch.setattr(sqs.app.store, "together", self._note)

    def _note(self, calls: Sequence[Call]) -> list[Answer]:
        self._open.wait(scaled(60))
        self.groups += 1
        return self._together(calls)

    def all_of(self, action: str, url: str, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Send requests at once, and return their answers."""
        self.groups = 0
        self._open.clear()

        async def run() -> list[dict[str, Any]]:
            asks = [self._sqs.ask(action, url, **one) for one in requests]
            tasks = [asyncio.create_task(ask) for ask in asks]
            await loops.turns(100)
            self._open.set()
            return list(await asyncio.gather(*tasks))

        return self._sqs.run(run)


@ON_BOTH
def test_concurrent_requests_share_commits(sqs: Sqs, monkeypatch: pytest.MonkeyPatch) -> None:
    """A group has LEAST_GROUP requests at least, but for the first and the last."""
    url = sqs.queue()
    assert not sqs.receive(url)  # the first one counts what is in flight
    gate = Gate(sqs, monkeypatch)
    bodies = [str(number) for number in range(200)]
    few = len(bodies) // LEAST_GROUP + 2
    sent = gate.all_of("SendMessage", url, [{"MessageBody": body} for body in bodies])
    assert len({one["MessageId"] for one in sent}) == len(bodies)
    assert gate.groups <= few
    answers = gate.all_of("ReceiveMessage", url, [{} for _ in bodies])
    messages = [message for one in answers for message in one["Messages"]]
    assert sorted(message["Body"] for message in messages) == sorted(bodies)
    assert gate.groups <= few
    handles = [{"ReceiptHandle": message["ReceiptHandle"]} for message in messages]
    assert gate.all_of("DeleteMessage", url, handles) == [{}] * len(bodies)
    assert gate.groups <= few
    assert sqs.counts(url) == (0, 0, 0)


@ON_BOTH
def test_a_bad_request_spoils_no_other(sqs: Sqs) -> None:
    url = sqs.queue()
    gone = sqs.queue("gone")
    sqs.send(gone)
    sqs.app.store.delete_queue("gone", force=True)  # type: ignore[attr-defined]

    async def many() -> list[Any]:
        sends = [
            sqs.ask("SendMessage", url if number % 2 else gone, MessageBody=str(number))
            for number in range(40)
        ]
        return list(await asyncio.gather(*sends, return_exceptions=True))

    answers = sqs.run(many)
    refused = [one for one in answers if isinstance(one, Exception)]
    assert len(refused) == 20
    assert {str(one) for one in refused} == {
        "AWS.SimpleQueueService.NonExistentQueue: The specified queue does not exist."
    }
    assert sqs.counts(url) == (20, 0, 0)
