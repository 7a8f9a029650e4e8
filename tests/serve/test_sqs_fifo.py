"""FIFO queues over SQS: order, groups, deduplication, sequence numbers."""

import asyncio
import threading
from typing import Any

import pytest

from durableq.testing.fakes import FakeClock
from tests.serve.sqs_client import ON_BOTH, Sqs


def fifo(sqs: Sqs, **attributes: str) -> str:
    """Create a FIFO queue that finds duplicates by their bodies."""
    return sqs.queue("q.fifo", **{"ContentBasedDeduplication": "true", **attributes})


def send(sqs: Sqs, url: str, *bodies: str) -> list[dict[str, Any]]:
    """Send messages whose first letters are their groups."""
    return [sqs.send(url, body, MessageGroupId=body[0]) for body in bodies]


@ON_BOTH
def test_a_receive_takes_several_messages_of_a_group_in_order(sqs: Sqs) -> None:
    url = fifo(sqs)
    send(sqs, url, "a1", "b1", "a2", "a3", "b2")
    received = sqs.bodies(url)
    assert [body for body in received if body[0] == "a"] == ["a1", "a2", "a3"]
    assert [body for body in received if body[0] == "b"] == ["b1", "b2"]


@ON_BOTH
def test_a_group_waits_while_one_of_its_messages_is_in_flight(sqs: Sqs) -> None:
    url = fifo(sqs)
    send(sqs, url, "a1", "a2", "b1")
    (first,) = sqs.receive(url)
    assert first["Body"] == "a1"
    assert sqs.bodies(url) == ["b1"]
    assert not sqs.receive(url)
    sqs.delete(url, first)
    assert sqs.bodies(url) == ["a2"]


def test_the_order_holds_after_a_timeout(timed: Sqs, clock: FakeClock) -> None:
    url = fifo(timed, VisibilityTimeout="5")
    send(timed, url, "a1", "a2", "a3")
    assert timed.bodies(url, 2) == ["a1", "a2"]
    assert not timed.receive(url)
    clock.advance(6)
    assert timed.bodies(url) == ["a1", "a2", "a3"]


def test_later_messages_stay_hidden_after_an_extension_of_the_first(
    timed: Sqs, clock: FakeClock
) -> None:
    url = fifo(timed, VisibilityTimeout="5")
    send(timed, url, "a1", "a2", "a3")
    first, _ = timed.receive(url, 2)
    handle = first["ReceiptHandle"]
    timed("ChangeMessageVisibility", url, ReceiptHandle=handle, VisibilityTimeout=20)
    clock.advance(6)
    assert not timed.receive(url, 10)
    clock.advance(15)
    assert timed.bodies(url) == ["a1", "a2", "a3"]


def test_a_returned_message_is_the_next_of_its_group(sqs: Sqs) -> None:
    url = fifo(sqs)
    send(sqs, url, "a1", "a2")
    (first,) = sqs.receive(url)
    handle = first["ReceiptHandle"]
    sqs("ChangeMessageVisibility", url, ReceiptHandle=handle, VisibilityTimeout=0)
    assert sqs.bodies(url) == ["a1", "a2"]


def test_a_duplicate_gets_the_answer_of_the_first(timed: Sqs, clock: FakeClock) -> None:
    url = timed.queue("q.fifo")
    options = {"MessageGroupId": "a", "MessageDeduplicationId": "d"}
    first = timed.send(url, "x", **options)
    again = timed.send(url, "y", **options)
    for name in ("MessageId", "SequenceNumber"):
        assert again[name] == first[name]
    (message,) = timed.receive(url, 10)
    timed.delete(url, message)
    clock.advance(299)
    assert timed.send(url, "z", **options)["SequenceNumber"] == first["SequenceNumber"]
    assert not timed.receive(url)
    clock.advance(2)
    assert timed.send(url, "z", **options)["SequenceNumber"] > first["SequenceNumber"]
    assert timed.bodies(url) == ["z"]


@ON_BOTH
def test_the_body_is_the_deduplication_id_if_the_queue_says_so(sqs: Sqs) -> None:
    url = fifo(sqs)
    first, again = send(sqs, url, "a1", "a1")
    assert first == again
    other = sqs.send(url, "a1", MessageGroupId="a", MessageDeduplicationId="other")
    assert other["MessageId"] != first["MessageId"]
    (message, _) = sqs.receive(url, 10, AttributeNames=["All"])
    sha256 = "f55ff16f66f43360266b95db6f8fec01d76031054306ae4a4b380598f6cfd114"
    assert message["Attributes"]["MessageDeduplicationId"] == sha256


@ON_BOTH
@pytest.mark.parametrize(("scope", "stored"), [("queue", 1), ("messageGroup", 2)])
def test_the_scope_of_deduplication_is_the_queue_or_the_group(
    sqs: Sqs, scope: str, stored: int
) -> None:
    url = sqs.queue("q.fifo", DeduplicationScope=scope)
    for group in ("a", "b", "a"):
        sqs.send(url, MessageGroupId=group, MessageDeduplicationId="d")
    assert len(sqs.receive(url, 10)) == stored


@ON_BOTH
def test_sequence_numbers_have_20_digits_and_rise(sqs: Sqs) -> None:
    url = fifo(sqs)
    sent = [one["SequenceNumber"] for one in send(sqs, url, "a1", "b1", "a2")]
    assert sent == sorted(sent)
    assert {len(number) for number in sent} == {20}
    received = sqs.receive(url, 10, AttributeNames=["SequenceNumber"])
    assert sorted(one["Attributes"]["SequenceNumber"] for one in received) == sent


def test_a_message_of_a_fifo_queue_has_a_group_and_a_deduplication_id(sqs: Sqs) -> None:
    url = sqs.queue("q.fifo")
    assert sqs.refusal("SendMessage", url, MessageBody="x") == (
        "MissingParameter: The request must contain the parameter MessageGroupId."
    )
    no_id = (
        "InvalidParameterValue: The queue should either have ContentBasedDeduplication enabled or "
        "MessageDeduplicationId provided explicitly"
    )
    assert sqs.refusal("SendMessage", url, MessageBody="x", MessageGroupId="a") == no_id
    entry = {"Id": "1", "MessageBody": "x", "MessageGroupId": "a"}
    assert sqs.refusal("SendMessageBatch", url, Entries=[entry]) == no_id
    entry = {"Id": "1", "MessageBody": "x", "MessageDeduplicationId": "a"}
    assert sqs.refusal("SendMessageBatch", url, Entries=[entry]) == (
        "InvalidParameterValue: The request must contain the parameter MessageGroupId."
    )


def test_a_message_of_a_fifo_queue_has_no_delay_of_its_own(timed: Sqs, clock: FakeClock) -> None:
    url = fifo(timed, DelaySeconds="10")
    said = timed.refusal("SendMessage", url, MessageBody="x", MessageGroupId="a", DelaySeconds=2)
    assert said == (
        "InvalidParameterValue: Value 2 for parameter DelaySeconds is invalid. Reason: The request "
        "include parameter that is not valid for this queue type."
    )
    timed.send(url, MessageGroupId="a", DelaySeconds=0)
    assert not timed.receive(url)
    clock.advance(11)
    assert timed.receive(url)


def test_a_standard_queue_takes_no_deduplication_id(sqs: Sqs) -> None:
    said = sqs.refusal("SendMessage", sqs.queue(), MessageBody="x", MessageDeduplicationId="d")
    assert said == (
        "InvalidParameterValue: Value d for parameter MessageDeduplicationId is invalid. Reason: "
        "The request includes a parameter that is not valid for this queue type."
    )


def test_a_handle_of_a_fifo_queue_ends_with_its_lease(timed: Sqs, clock: FakeClock) -> None:
    url = fifo(timed, VisibilityTimeout="5")
    send(timed, url, "a1")
    (message,) = timed.receive(url)
    clock.advance(6)
    handle = message["ReceiptHandle"]
    expired = (
        f"Value {handle} for parameter ReceiptHandle is invalid. Reason: The receipt handle has "
        "expired."
    )
    assert timed.refusal("DeleteMessage", url, ReceiptHandle=handle) == (
        f"InvalidParameterValue: {expired}"
    )
    entries = [{"Id": "1", "ReceiptHandle": handle}]
    (failed,) = timed("DeleteMessageBatch", url, Entries=entries)["Failed"]
    assert (failed["Code"], failed["Message"]) == ("InvalidParameterValue", expired)
    (again,) = timed.receive(url)
    assert timed.refusal("DeleteMessage", url, ReceiptHandle=handle).endswith("has expired.")
    timed.delete(url, again)
    timed.delete(url, again)


def test_a_queue_of_high_throughput_keeps_the_order_of_groups(sqs: Sqs) -> None:
    url = fifo(sqs, DeduplicationScope="messageGroup", FifoThroughputLimit="perMessageGroupId")
    send(sqs, url, "a1", "b1", "a2")
    assert sorted(sqs.bodies(url)) == ["a1", "a2", "b1"]
    found = sqs.attributes(url)
    assert found["FifoThroughputLimit"] == "perMessageGroupId"


@pytest.mark.parametrize("scope", ["queue", "messageGroup"])
def test_duplicates_are_found_as_the_queue_was_created(sqs: Sqs, scope: str) -> None:
    url = fifo(sqs, DeduplicationScope=scope)
    other = "queue" if scope == "messageGroup" else "messageGroup"
    sqs("SetQueueAttributes", url, Attributes={"DeduplicationScope": other})
    found = sqs.attributes(url)
    assert (found["DeduplicationScope"], "DeduplicationScopeInForce" in found) == (other, False)
    for group in "aab":
        sqs.send(url, group, MessageGroupId=group, MessageDeduplicationId="d")
    assert sqs.bodies(url) == (["a"] if scope == "queue" else ["a", "b"])


def test_a_batch_keeps_its_order(sqs: Sqs) -> None:
    url = fifo(sqs)
    entries = [
        {"Id": str(number), "MessageBody": str(number), "MessageGroupId": "a"}
        for number in range(10)
    ]
    answered = sqs("SendMessageBatch", url, Entries=entries)["Successful"]
    numbers = [one["SequenceNumber"] for one in answered]
    assert numbers == sorted(numbers)
    assert sqs.bodies(url) == [str(number) for number in range(10)]


def test_counts_of_a_fifo_queue_count_messages_behind_their_group(sqs: Sqs) -> None:
    url = fifo(sqs)
    send(sqs, url, "a1", "a2", "b1")
    assert sqs.counts(url) == (3, 0, 0)
    sqs.receive(url)
    assert sqs.counts(url) == (2, 1, 0)


def test_a_receive_is_repeated_by_the_id_of_its_attempt(timed: Sqs, clock: FakeClock) -> None:
    url = fifo(timed, VisibilityTimeout="30")
    send(timed, url, "a1", "a2", "a3", "b1")
    attempt: dict[str, Any] = {"ReceiveRequestAttemptId": "one"}
    first = timed.receive(url, 2, **attempt)
    clock.advance(20)
    again = timed.receive(url, 2, **attempt)
    assert [one["MessageId"] for one in again] == [one["MessageId"] for one in first]
    clock.advance(20)
    timed.delete(url, first[0])
    timed.delete(url, again[1])
    assert "a1" not in timed.bodies(url, 10, ReceiveRequestAttemptId="two")


def test_an_attempt_whose_messages_were_changed_is_an_ordinary_receive(sqs: Sqs) -> None:
    url = fifo(sqs)
    send(sqs, url, "a1", "b1")
    attempt: dict[str, Any] = {"ReceiveRequestAttemptId": "one"}
    (first,) = sqs.receive(url, **attempt)
    sqs.delete(url, first)
    assert sqs.bodies(url, **attempt) == ["b1"]


@ON_BOTH
def test_a_repeated_receive_keeps_its_lease_when_the_first_one_is_given_up(sqs: Sqs) -> None:
    """A server learns late that the client of the first one is gone."""
    url = fifo(sqs)
    send(sqs, url, "a1", "a2")
    attempt: dict[str, Any] = {"ReceiveRequestAttemptId": "one"}
    assert sqs.bodies(url, **attempt) == ["a1", "a2"]
    again = sqs.receive(url, 10, **attempt)
    for undo in sqs.context.undo:
        sqs.run(undo)
    assert not sqs.receive(url)
    for message in again:
        sqs.delete(url, message)


def test_a_cancelled_receive_with_an_attempt_id_is_repeated(
    sqs: Sqs, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = fifo(sqs)
    send(sqs, url, "a1", "a2")
    attempt: dict[str, Any] = {"ReceiveRequestAttemptId": "one"}
    store: Any = sqs.app.store
    together, begun, may_end = store.together, threading.Event(), threading.Event()

    def held(calls: Any) -> Any:
        begun.set()
        may_end.wait(60)
        return together(calls)

    async def cancel() -> None:
        receive = asyncio.create_task(sqs.ask("ReceiveMessage", url, **attempt))
        await asyncio.to_thread(begun.wait, 60)
        receive.cancel()
        with pytest.raises(asyncio.CancelledError):
            await receive
        may_end.set()

    with monkeypatch.context() as patched:
        patched.setattr(store, "together", held)
        sqs.run(cancel)
    assert not sqs.receive(url)
    assert sqs.bodies(url, **attempt) == ["a1"]


def test_a_standard_queue_repeats_no_receive(sqs: Sqs) -> None:
    """Spring Cloud AWS sends an id with each receive, from queues of either kind."""
    url = sqs.queue()
    sqs.send(url, "x")
    sqs.send(url, "y")
    attempt: dict[str, Any] = {"ReceiveRequestAttemptId": "one"}
    assert [sqs.bodies(url, 1, **attempt) for _ in range(2)] == [["x"], ["y"]]
