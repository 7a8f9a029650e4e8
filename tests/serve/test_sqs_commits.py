"""Requests share commits: each is answered after its own, and a bad one spoils no other."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from durableq.store.core import Answer, Call
from tests.engine import loops
from tests.serve.sqs_client import ON_BOTH, Sqs
from tests.support import new_file


def test_a_send_is_answered_after_its_commit(sqs: Sqs, tmp_path: Path) -> None:
    url = sqs.queue()
    file = new_file(tmp_path / "queue.db")

    async def send() -> dict[str, Any]:
        with loops.writing(sqs.app, file) as end:
            answer = asyncio.create_task(sqs.ask("SendMessage", url, MessageBody="x"))
            await loops.turns(1000)
            assert not answer.done(), "Another process holds the write lock."
            end()
            return await answer

    assert sqs.run(send)["MessageId"]
    assert sqs.bodies(url) == ["x"]


@ON_BOTH
def test_concurrent_requests_share_commits(sqs: Sqs, monkeypatch: pytest.MonkeyPatch) -> None:
    url = sqs.queue()
    groups: list[int] = []
    together = sqs.app.store.together

    def note(calls: Sequence[Call]) -> list[Answer]:
        groups.append(len(calls))
        return together(calls)

    monkeypatch.setattr(sqs.app.store, "together", note)

    async def many() -> list[dict[str, Any]]:
        sends = [sqs.ask("SendMessage", url, MessageBody=str(number)) for number in range(200)]
        return await asyncio.gather(*sends)

    assert len({one["MessageId"] for one in sqs.run(many)}) == 200
    assert len(groups) <= 40
    groups.clear()

    async def all_of_them() -> list[str]:
        receives = [sqs.ask("ReceiveMessage", url, MaxNumberOfMessages=10) for _ in range(20)]
        answers = await asyncio.gather(*receives)
        messages = [message for one in answers for message in one["Messages"]]
        deletes = [
            sqs.ask("DeleteMessage", url, ReceiptHandle=message["ReceiptHandle"])
            for message in messages
        ]
        await asyncio.gather(*deletes)
        return [message["Body"] for message in messages]

    assert sorted(sqs.run(all_of_them), key=int) == [str(number) for number in range(200)]
    assert len(groups) <= 80
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
