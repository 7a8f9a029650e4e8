"""The limit of messages in flight of a standard queue."""

import time

import pytest

from durableq.serve.sqs import in_flight
from tests.serve.sqs_client import Sqs
from tests.support import scaled

LIMIT = 4


@pytest.fixture(autouse=True)
def low_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set a limit that a test can reach, and count at each receive."""
    monkeypatch.setattr(in_flight, "MAX_IN_FLIGHT", LIMIT)
    monkeypatch.setattr(in_flight, "FRESH_SECONDS", 0.05)


def full(sqs: Sqs, name: str = "q") -> str:
    """Create a queue, with one message more than may be in flight, and receive the others."""
    url = sqs.queue(name, **({"ContentBasedDeduplication": "true"} if "." in name else {}))
    for number in range(LIMIT + 1):
        options = {"MessageGroupId": str(number)} if "." in name else {}
        sqs.send(url, str(number), **options)
    assert len(sqs.receive(url, LIMIT)) == LIMIT
    return url


def test_a_receive_is_refused_while_too_many_messages_are_in_flight(sqs: Sqs) -> None:
    url = full(sqs)
    assert sqs.refusal("ReceiveMessage", url).startswith("OverLimit: Too many messages in flight")
    sqs("PurgeQueue", url)
    sqs.send(url)
    deadline = time.monotonic() + scaled(30)
    while sqs.counts(url)[1] == 0 and time.monotonic() < deadline:
        try_to_receive(sqs, url)
    assert sqs.counts(url)[1] == 1


def try_to_receive(sqs: Sqs, url: str) -> None:
    """Receive with a short wait, which is no error while there are too many."""
    sqs.receive(url, WaitTimeSeconds=1)


def test_a_receive_that_waits_is_answered_empty(sqs: Sqs) -> None:
    url = full(sqs)
    assert not sqs.receive(url, WaitTimeSeconds=1)


def test_a_deletion_makes_room(sqs: Sqs) -> None:
    url = sqs.queue()
    for number in range(LIMIT + 1):
        sqs.send(url, str(number))
    received = sqs.receive(url, LIMIT)
    sqs.delete(url, received[0])
    assert sqs.bodies(url) == [str(LIMIT)]


def test_a_fifo_queue_has_no_such_limit(sqs: Sqs) -> None:
    assert sqs.bodies(full(sqs, "q.fifo")) == [str(LIMIT)]
