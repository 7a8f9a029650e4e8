"""Dead-letter queues over SQS: policies, the receive that is too many, sources, retention."""

import asyncio
import json
from typing import Any

import pytest

from durableq.serve.sqs import attend, changing, documents
from durableq.serve.sqs.names import QueueName
from durableq.store.core import Capability
from durableq.testing.fakes import FakeClock
from tests.engine import loops
from tests.serve.sqs_client import ON_BOTH, Sqs

ARN = "arn:aws:sqs:us-east-1:000000000000:"


def policy(target: str, receives: Any = 1) -> str:
    """Return a redrive policy."""
    return json.dumps({"deadLetterTargetArn": f"{ARN}{target}", "maxReceiveCount": receives})


def pair(sqs: Sqs, end: str = "", receives: int = 1, **attributes: str) -> tuple[str, str]:
    """Create a queue and its dead-letter queue; return their URLs."""
    more = {"ContentBasedDeduplication": "true"} if end else {}
    dead = sqs.queue(f"dead{end}", **more)
    rules = {"RedrivePolicy": policy(f"dead{end}", receives), **more, **attributes}
    return sqs.queue(f"q{end}", **rules), dead


def die(sqs: Sqs, url: str, **parameters: Any) -> dict[str, Any]:
    """Receive a message, return it to its queue, and receive again: it is dead."""
    (message,) = sqs.receive(url, **parameters)
    handle = message["ReceiptHandle"]
    sqs("ChangeMessageVisibility", url, ReceiptHandle=handle, VisibilityTimeout=0)
    assert not sqs.receive(url)
    return message


@ON_BOTH
def test_the_receive_that_is_too_many_moves_a_message(sqs: Sqs) -> None:
    url, dead = pair(sqs, receives=2)
    sent = sqs.send(url, MessageAttributes={"a": {"DataType": "String", "StringValue": "x"}})
    for _ in range(2):
        (message,) = sqs.receive(url)
        handle = message["ReceiptHandle"]
        sqs("ChangeMessageVisibility", url, ReceiptHandle=handle, VisibilityTimeout=0)
        assert sqs.counts(dead) == (0, 0, 0)
    assert sqs.counts(url) == (1, 0, 0)
    assert not sqs.receive(url)
    (letter,) = sqs.receive(dead, AttributeNames=["All"], MessageAttributeNames=["All"])
    assert letter["MessageId"] == sent["MessageId"]
    assert letter["MD5OfMessageAttributes"] == sent["MD5OfMessageAttributes"]
    assert letter["Attributes"]["DeadLetterQueueSourceArn"] == f"{ARN}q"
    assert letter["Attributes"]["ApproximateReceiveCount"] == "3"
    sqs.delete(dead, letter)
    assert sqs.counts(dead) == (0, 0, 0)


def test_a_message_dies_after_its_leases_end(timed: Sqs, clock: FakeClock) -> None:
    url, dead = pair(timed, VisibilityTimeout="5")
    timed.send(url)
    timed.receive(url)
    clock.advance(6)
    assert timed.counts(dead) == (0, 0, 0)
    assert not timed.receive(url)
    assert timed.counts(dead) == (1, 0, 0)


def test_a_poll_of_the_dead_letter_queue_sees_a_message_that_dies(sqs: Sqs) -> None:
    url, dead = pair(sqs)
    sqs.send(url)
    die(sqs, url)
    assert sqs.receive(dead, WaitTimeSeconds=5)


def test_the_policy_of_a_queue_is_read_changed_and_taken_away(sqs: Sqs) -> None:
    dead, other = sqs.queue("dead"), sqs.queue("other-dlq")
    url = sqs.queue()
    assert "RedrivePolicy" not in sqs.attributes(url)
    sqs("SetQueueAttributes", url, Attributes={"RedrivePolicy": policy("dead", "5")})
    assert sqs.attributes(url)["RedrivePolicy"] == policy("dead", "5")
    assert sqs("ListDeadLetterSourceQueues", dead) == {"queueUrls": [url]}
    sqs("SetQueueAttributes", url, Attributes={"RedrivePolicy": policy("other-dlq", 7)})
    assert sqs("ListDeadLetterSourceQueues", dead) == {"queueUrls": []}
    assert sqs("ListDeadLetterSourceQueues", other) == {"queueUrls": [url]}
    assert sqs.app.store.settings("q").max_receives == 7
    sqs("SetQueueAttributes", url, Attributes={"RedrivePolicy": ""})
    assert "RedrivePolicy" not in sqs.attributes(url)
    assert sqs.app.store.settings("q").max_receives == 0


def test_a_queue_of_python_has_a_policy(sqs: Sqs) -> None:
    sqs.app.queue("orders", max_receives=4)
    url = sqs("GetQueueUrl", QueueName="orders")["QueueUrl"]
    assert json.loads(sqs.attributes(url)["RedrivePolicy"]) == {
        "deadLetterTargetArn": f"{ARN}orders-dlq",
        "maxReceiveCount": 4,
    }


def test_a_queue_named_as_a_dead_letter_queue_is_made_before_its_source(sqs: Sqs) -> None:
    dead = sqs.queue("orders-dlq", MessageRetentionPeriod="1209600")
    assert sqs("ListQueues") == {"QueueUrls": [dead]}
    url = sqs.queue("orders", RedrivePolicy=policy("orders-dlq"))
    assert sqs("ListQueues") == {"QueueUrls": [url, dead]}
    sqs.send(url, "x")
    die(sqs, url)
    assert sqs.bodies(dead) == ["x"]
    assert sqs.attributes(dead)["MessageRetentionPeriod"] == "1209600"


def test_several_queues_have_one_dead_letter_queue(sqs: Sqs) -> None:
    dead = sqs.queue("dead")
    urls = [sqs.queue(f"q{n}", RedrivePolicy=policy("dead")) for n in range(3)]
    for url in urls:
        sqs.send(url, url[-1])
        die(sqs, url)
    sources = {
        message["Body"]: message["Attributes"]["DeadLetterQueueSourceArn"]
        for message in sqs.receive(dead, 10, AttributeNames=["All"])
    }
    assert sources == {str(n): f"{ARN}q{n}" for n in range(3)}
    assert sqs("ListDeadLetterSourceQueues", dead) == {"queueUrls": urls}
    page = sqs("ListDeadLetterSourceQueues", dead, MaxResults=2)
    assert page["queueUrls"] == urls[:2]
    rest = sqs("ListDeadLetterSourceQueues", dead, MaxResults=2, NextToken=page["NextToken"])
    assert rest == {"queueUrls": urls[2:]}


def test_a_message_is_sent_to_a_dead_letter_queue(sqs: Sqs) -> None:
    _, dead = pair(sqs)
    sqs.send(dead, "by hand")
    (message,) = sqs.receive(dead, AttributeNames=["All"])
    assert message["Body"] == "by hand"
    assert "DeadLetterQueueSourceArn" not in message["Attributes"]


def test_a_dead_letter_queue_may_refuse_sources(sqs: Sqs) -> None:
    dead = sqs.queue("dead", RedriveAllowPolicy='{"redrivePermission":"denyAll"}')
    attributes = {"RedrivePolicy": policy("dead")}
    said = sqs.refusal("CreateQueue", QueueName="q", Attributes=attributes)
    assert said.startswith("InvalidParameterValue: Value {")
    assert sqs("ListQueues") == {"QueueUrls": [dead]}
    allowed = json.dumps({"redrivePermission": "byQueue", "sourceQueueArns": [f"{ARN}q"]})
    sqs("SetQueueAttributes", dead, Attributes={"RedriveAllowPolicy": allowed})
    sqs("CreateQueue", QueueName="q", Attributes=attributes)
    assert sqs.attributes(dead)["RedriveAllowPolicy"] == allowed


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (policy("nowhere"), "Dead letter target does not exist."),
        (policy("dead.fifo"), "Dead letter queue must be same type of queue as the source."),
        ("x", "Redrive policy is not a valid JSON map."),
        (policy("dead", 0), "valid values are from 1 to 1000 both inclusive."),
    ],
)
def test_a_policy_that_is_not_possible_changes_nothing(sqs: Sqs, text: str, reason: str) -> None:
    sqs.queue("dead.fifo")
    url = sqs.queue()
    said = sqs.refusal("SetQueueAttributes", url, Attributes={"RedrivePolicy": text})
    assert said.endswith(reason)
    assert "RedrivePolicy" not in sqs.attributes(url)


def test_a_dead_letter_of_a_fifo_queue_keeps_its_group(sqs: Sqs) -> None:
    url, dead = pair(sqs, ".fifo")
    for body in ("a1", "a2"):
        sqs.send(url, body, MessageGroupId="a")
    sent = die_first(sqs, url)
    (letter,) = sqs.receive(dead, AttributeNames=["All"])
    assert (letter["Body"], letter["MessageId"]) == ("a1", sent["MessageId"])
    assert letter["Attributes"]["MessageGroupId"] == "a"
    assert letter["Attributes"]["MessageDeduplicationId"] == sent["MessageId"]


def die_first(sqs: Sqs, url: str) -> dict[str, Any]:
    """Let the first message of a group die; the next one takes its place."""
    (message,) = sqs.receive(url)
    handle = message["ReceiptHandle"]
    sqs("ChangeMessageVisibility", url, ReceiptHandle=handle, VisibilityTimeout=0)
    assert sqs.bodies(url) == ["a2"]
    return message


def test_a_dead_letter_of_a_standard_queue_keeps_its_age(timed: Sqs, clock: FakeClock) -> None:
    url, dead = pair(timed, VisibilityTimeout="5")
    timed("SetQueueAttributes", dead, Attributes={"MessageRetentionPeriod": "100"})
    timed.send(url)
    clock.advance(60)
    timed.receive(url)
    clock.advance(6)
    timed.receive(url)
    assert timed.counts(dead) == (1, 0, 0)
    clock.advance(40)
    assert not timed.receive(dead)


def test_a_dead_letter_of_a_fifo_queue_begins_its_age_anew(timed: Sqs, clock: FakeClock) -> None:
    url, dead = pair(timed, ".fifo", VisibilityTimeout="5")
    timed("SetQueueAttributes", dead, Attributes={"MessageRetentionPeriod": "100"})
    timed.send(url, MessageGroupId="a")
    clock.advance(60)
    timed.receive(url)
    clock.advance(6)
    timed.receive(url)
    buried_at_ms = clock.wall_ms()
    clock.advance(90)
    (letter,) = timed.receive(dead, AttributeNames=["SentTimestamp"])
    assert letter["Attributes"] == {"SentTimestamp": str(buried_at_ms)}


def test_a_move_task_sends_each_message_to_its_source(sqs: Sqs) -> None:
    dead = sqs.queue("dead")
    urls = [sqs.queue(f"q{n}", RedrivePolicy=policy("dead")) for n in range(3)]
    for url in urls:
        sqs.send(url, url[-1])
        die(sqs, url)
    sqs("StartMessageMoveTask", SourceArn=f"{ARN}dead")
    inspect = sqs.app.store.require(Capability.INSPECT)

    async def run() -> None:
        beside = asyncio.create_task(attend(sqs.app))
        try:
            await loops.until(lambda: not inspect.queue("dead").counts.present)
        finally:
            beside.cancel()
            await asyncio.wait({beside})

    sqs.run(run)
    assert [sqs.bodies(url) for url in urls] == [["0"], ["1"], ["2"]]
    (found,) = sqs("ListMessageMoveTasks", SourceArn=f"{ARN}dead")["Results"]
    assert found["ApproximateNumberOfMessagesToMove"] == 3
    assert sqs.counts(dead) == (0, 0, 0)


@ON_BOTH
def test_a_policy_still_names_a_dead_letter_queue_that_was_deleted(sqs: Sqs) -> None:
    """No dead letter is lost meanwhile: they go to a queue of their own, which is listed then.

    A new queue of the name gets the next ones, unless it is not for this source.
    """
    url, dead = pair(sqs)
    since = ("CreatedTimestamp", "LastModifiedTimestamp", "RedrivePolicy")
    before = sqs.attributes(url, *since)
    named = sqs.attributes(url)["RedrivePolicy"]
    sqs("DeleteQueue", dead)
    assert sqs.attributes(url)["RedrivePolicy"] == named
    assert sqs.queue("q", RedrivePolicy=named) == url
    assert sqs("ListQueues") == {"QueueUrls": [url]}
    sqs.send(url)
    die(sqs, url)
    assert sqs("ListQueues") == {"QueueUrls": [url, f"{url}-dlq"]}
    assert sqs.bodies(f"{url}-dlq") == ["hello"]
    assert sqs.queue("dead", RedriveAllowPolicy='{"redrivePermission":"denyAll"}') == dead
    assert sqs("ListDeadLetterSourceQueues", dead) == {"queueUrls": []}
    sqs("DeleteQueue", dead)
    sqs.queue("dead2")
    other = sqs.queue("q2", RedrivePolicy=policy("dead2"))
    assert sqs.queue("dead") == dead
    assert sqs("ListDeadLetterSourceQueues", dead) == {"queueUrls": [url]}
    assert sqs.attributes(url, *since) == before
    assert sqs.attributes(other)["RedrivePolicy"] == policy("dead2")
    assert sqs.queue("q", RedrivePolicy=named) == url
    sqs.send(url, "later")
    die(sqs, url)
    assert sqs.bodies(dead) == ["later"]
    assert sqs.counts(f"{url}-dlq") == (0, 1, 0)


@ON_BOTH
def test_a_queue_that_names_a_new_one_changes_while_that_is_created(
    sqs: Sqs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last policy counts: it has taken its policy away, or it is deleted."""
    url, dead = pair(sqs)
    sqs.queue("gone", RedrivePolicy=policy("dead"))
    sqs("DeleteQueue", dead)
    put, store = documents.put, sqs.app.store

    def late(*arguments: Any) -> bool:
        monkeypatch.setattr(documents, "put", put)
        changing.change(store, QueueName("q"), {"RedrivePolicy": ""})
        store.require(Capability.ENDPOINT).remove_queue("gone")
        return put(*arguments)

    monkeypatch.setattr(documents, "put", late)
    assert sqs.queue("dead") == dead
    assert sqs("ListDeadLetterSourceQueues", dead) == {"queueUrls": []}
    assert "RedrivePolicy" not in sqs.attributes(url)
    assert store.require(Capability.INSPECT).queue("q").dead_letter_queue == "q-dlq"
    assert sqs("ListQueues") == {"QueueUrls": [dead, url]}


def test_the_messages_of_a_queue_that_is_its_own_dead_letter_queue_stay(sqs: Sqs) -> None:
    url = sqs.queue()
    sqs("SetQueueAttributes", url, Attributes={"RedrivePolicy": policy("q")})
    assert sqs.attributes(url)["RedrivePolicy"] == policy("q")
    sqs.send(url)
    for _ in range(3):
        (message,) = sqs.receive(url)
        handle = message["ReceiptHandle"]
        sqs("ChangeMessageVisibility", url, ReceiptHandle=handle, VisibilityTimeout=0)
    sqs("SetQueueAttributes", url, Attributes={"RedrivePolicy": ""})
    assert "RedrivePolicy" not in sqs.attributes(url)
