"""Clients that create, change and tag one queue at once: each change holds, or is refused."""

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from durableq.serve.errors import ServiceError
from durableq.serve.sqs import catalog, documents
from tests.serve.sqs_client import ON_BOTH, Sqs
from tests.support import scaled

NUMBER = 4


def all_at_once(
    sqs: Sqs,
    monkeypatch: pytest.MonkeyPatch,
    requests: Sequence[tuple[str, str | None, dict[str, Any]]],
) -> list[str]:
    """Make requests of which none writes before all have looked; return the refusals, or "".

    Each looks again after the write of another.
    """
    put, seen = documents.put, threading.Barrier(len(requests), timeout=scaled(60))
    first = threading.local()

    def together(*arguments: Any) -> bool:
        if not getattr(first, "is_over", False):
            first.is_over = True
            seen.wait()
        return put(*arguments)

    async def ask(action: str, url: str | None, parameters: dict[str, Any]) -> str:
        try:
            await sqs.ask(action, url, **parameters)
        except ServiceError as error:
            return error.kind.code
        return ""

    async def run() -> list[str]:
        return await asyncio.gather(*(ask(*request) for request in requests))

    monkeypatch.setattr(documents, "put", together)
    return sqs.run(run)


@ON_BOTH
def test_of_several_that_create_a_queue_one_set_of_attributes_wins(
    sqs: Sqs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of them want the one, and half the other."""
    wanted = [{"VisibilityTimeout": str(7 + number % 2)} for number in range(NUMBER)]
    given = [{"QueueName": "q", "Attributes": each} for each in wanted]
    codes = all_at_once(sqs, monkeypatch, [("CreateQueue", None, each) for each in given])
    url = sqs("GetQueueUrl", QueueName="q")["QueueUrl"]
    stored = sqs.attributes(url, "VisibilityTimeout")
    assert codes == ["" if each == stored else "QueueAlreadyExists" for each in wanted]
    assert sqs.app.store.settings("q").visibility_timeout_ms == 1000 * int(
        stored["VisibilityTimeout"]
    )


@ON_BOTH
def test_no_change_of_several_at_once_is_lost(sqs: Sqs, monkeypatch: pytest.MonkeyPatch) -> None:
    url = sqs.queue()
    requests = [
        ("TagQueue", url, {"Tags": {"a": "x"}}),
        ("SetQueueAttributes", url, {"Attributes": {"Policy": "{}"}}),
        ("TagQueue", url, {"Tags": {"b": "x"}}),
        ("SetQueueAttributes", url, {"Attributes": {"KmsMasterKeyId": "k"}}),
    ]
    assert all_at_once(sqs, monkeypatch, requests) == [""] * NUMBER
    assert sqs("ListQueueTags", url) == {"Tags": {"a": "x", "b": "x"}}
    assert sqs.attributes(url, "Policy", "KmsMasterKeyId") == {
        "Policy": "{}",
        "KmsMasterKeyId": "k",
    }


def test_a_look_up_before_a_change_is_not_used_after_it(
    sqs: Sqs, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = sqs.queue("q.fifo")
    load, was_read, may_end = catalog.load, threading.Event(), threading.Event()

    def slow(*arguments: Any) -> Any:
        found = load(*arguments)
        if not was_read.is_set():
            was_read.set()
            may_end.wait(scaled(60))
        return found

    async def change_meanwhile() -> None:
        receive = asyncio.create_task(sqs.ask("ReceiveMessage", url))
        await asyncio.to_thread(was_read.wait, scaled(60))
        changed = {"ContentBasedDeduplication": "true"}
        await sqs.ask("SetQueueAttributes", url, Attributes=changed)
        may_end.set()
        await receive

    monkeypatch.setattr(catalog, "load", slow)
    sqs.run(change_meanwhile)
    # Refused without ContentBasedDeduplication: it has no deduplication id.
    assert sqs.send(url, MessageGroupId="a")
