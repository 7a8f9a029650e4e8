"""Leases over SQS: visibility, deletion, handles, delays, retention."""

from typing import Any

import pytest

from durableq.testing.fakes import FakeClock
from tests.serve.sqs_client import Sqs


def test_a_received_message_is_invisible_until_its_timeout(timed: Sqs, clock: FakeClock) -> None:
    url = timed.queue(VisibilityTimeout="5")
    timed.send(url)
    assert timed.receive(url)
    clock.advance(4.9)
    assert not timed.receive(url)
    clock.advance(0.2)
    assert timed.receive(url, AttributeNames=["All"])[0]["Attributes"][
        "ApproximateReceiveCount"
    ] == ("2")


def test_the_timeout_of_a_receive_replaces_that_of_the_queue(timed: Sqs, clock: FakeClock) -> None:
    url = timed.queue(VisibilityTimeout="5")
    timed.send(url)
    timed.receive(url, VisibilityTimeout=50)
    clock.advance(49)
    assert not timed.receive(url)
    clock.advance(2)
    assert timed.receive(url)


def test_a_message_received_with_a_timeout_of_0_is_ready_at_once(
    timed: Sqs, clock: FakeClock
) -> None:
    url = timed.queue()
    timed.send(url)
    (message,) = timed.receive(url, VisibilityTimeout=0)
    clock.advance(0.001)
    assert timed.receive(url, VisibilityTimeout=0)
    queue = timed.queue("zero", VisibilityTimeout="0")
    assert timed.attributes(queue)["VisibilityTimeout"] == "0"
    timed.send(queue)
    assert timed.receive(queue)
    clock.advance(0.001)
    assert timed.receive(queue)
    timed.delete(url, message)


def test_a_deleted_message_stays_deleted(timed: Sqs, clock: FakeClock) -> None:
    url = timed.queue(VisibilityTimeout="5")
    timed.send(url)
    (message,) = timed.receive(url)
    timed.delete(url, message)
    timed.delete(url, message)
    clock.advance(100)
    assert not timed.receive(url)
    assert timed.counts(url) == (0, 0, 0)


def test_a_message_is_deleted_after_its_timeout_if_it_was_not_received_again(
    timed: Sqs, clock: FakeClock
) -> None:
    url = timed.queue(VisibilityTimeout="5")
    timed.send(url)
    (message,) = timed.receive(url)
    clock.advance(6)
    timed.delete(url, message)
    assert not timed.receive(url)


def test_an_old_handle_of_a_standard_queue_deletes_nothing(timed: Sqs, clock: FakeClock) -> None:
    url = timed.queue(VisibilityTimeout="5")
    timed.send(url)
    (old,) = timed.receive(url)
    clock.advance(6)
    (new,) = timed.receive(url)
    timed.delete(url, old)
    clock.advance(6)
    (again,) = timed.receive(url)
    assert again["MessageId"] == new["MessageId"]


def test_a_changed_visibility_counts_from_now(timed: Sqs, clock: FakeClock) -> None:
    url = timed.queue(VisibilityTimeout="5")
    timed.send(url)
    (message,) = timed.receive(url)
    clock.advance(4)
    handle = message["ReceiptHandle"]
    timed("ChangeMessageVisibility", url, ReceiptHandle=handle, VisibilityTimeout=20)
    clock.advance(19)
    assert not timed.receive(url)
    clock.advance(2)
    assert timed.receive(url)


def test_a_visibility_of_0_returns_a_message_at_once_and_counts(timed: Sqs) -> None:
    url = timed.queue()
    timed.send(url)
    (message,) = timed.receive(url)
    handle = message["ReceiptHandle"]
    assert timed.counts(url) == (0, 1, 0)
    timed("ChangeMessageVisibility", url, ReceiptHandle=handle, VisibilityTimeout=0)
    assert timed.counts(url) == (1, 0, 0)
    (again,) = timed.receive(url, AttributeNames=["All"])
    assert again["Attributes"]["ApproximateReceiveCount"] == "2"


def test_the_visibility_of_a_deleted_message_cannot_be_changed(timed: Sqs) -> None:
    url = timed.queue()
    timed.send(url)
    (message,) = timed.receive(url)
    timed.delete(url, message)
    handle = message["ReceiptHandle"]
    said = timed.refusal("ChangeMessageVisibility", url, ReceiptHandle=handle, VisibilityTimeout=20)
    assert said == (
        f"InvalidParameterValue: Value {handle} for parameter ReceiptHandle is invalid. Reason: "
        "Message does not exist or is not available for visibility timeout change."
    )


def test_the_visibility_of_a_visible_message_of_a_fifo_queue_cannot_be_changed(
    timed: Sqs, clock: FakeClock
) -> None:
    url = timed.queue("q.fifo", VisibilityTimeout="5", ContentBasedDeduplication="true")
    timed.send(url, MessageGroupId="a")
    (message,) = timed.receive(url)
    clock.advance(6)
    handle = message["ReceiptHandle"]
    said = timed.refusal("ChangeMessageVisibility", url, ReceiptHandle=handle, VisibilityTimeout=20)
    assert said.startswith("AWS.SimpleQueueService.MessageNotInflight: ")
    assert timed.receive(url)


@pytest.mark.parametrize("is_noticed", [False, True])
def test_a_handle_hides_its_message_again_after_its_timeout(
    timed: Sqs, clock: FakeClock, is_noticed: bool
) -> None:
    """A receive that is too small takes both leases back, and leases one."""
    url = timed.queue(VisibilityTimeout="5")
    for body in "ab":
        timed.send(url, body)
    first, second = timed.receive(url, 2)
    clock.advance(6)
    if is_noticed:
        assert timed.bodies(url, 1) == ["a"]
    for message in first, second:
        handle = message["ReceiptHandle"]
        timed("ChangeMessageVisibility", url, ReceiptHandle=handle, VisibilityTimeout=20)
    clock.advance(19)
    assert timed.counts(url) == (0, 2, 0)
    assert timed.bodies(url) == []
    clock.advance(2)
    assert timed.bodies(url) == ["a", "b"]


def test_an_older_handle_of_a_standard_queue_ends_a_newer_timeout(timed: Sqs) -> None:
    url = timed.queue()
    timed.send(url)
    (old,) = timed.receive(url)
    change = ("ChangeMessageVisibility", url)
    timed(*change, ReceiptHandle=old["ReceiptHandle"], VisibilityTimeout=0)
    assert timed.receive(url, VisibilityTimeout=50)
    timed(*change, ReceiptHandle=old["ReceiptHandle"], VisibilityTimeout=0)
    assert timed.receive(url)


def test_a_handle_deletes_its_message_after_a_visibility_of_0(timed: Sqs) -> None:
    url = timed.queue()
    timed.send(url)

    def received_and_returned() -> dict[str, Any]:
        (message,) = timed.receive(url)
        handle = message["ReceiptHandle"]
        timed("ChangeMessageVisibility", url, ReceiptHandle=handle, VisibilityTimeout=0)
        return message

    older, newer = received_and_returned(), received_and_returned()
    timed.delete(url, older)
    assert timed.counts(url) == (1, 0, 0)
    timed.delete(url, newer)
    assert timed.counts(url) == (0, 0, 0)


def test_a_message_with_a_key_that_was_given_back_is_refused_by_its_handle(timed: Sqs) -> None:
    url = timed.queue()
    timed.app.queue("q").send("x", key="k")
    (message,) = timed.receive(url)
    handle = {"ReceiptHandle": message["ReceiptHandle"]}
    change = ("ChangeMessageVisibility", url)
    timed(*change, **handle, VisibilityTimeout=0)
    said = timed.refusal("DeleteMessage", url, **handle)
    assert said.endswith("is invalid. Reason: The receipt handle has expired.")
    said = timed.refusal(*change, **handle, VisibilityTimeout=60)
    assert said.startswith("AWS.SimpleQueueService.MessageNotInflight: ")
    assert timed.counts(url) == (1, 0, 0)


@pytest.mark.parametrize("name", ["q", "q.fifo"])
def test_a_lease_is_extended_after_a_step_of_the_wall_clock(
    timed: Sqs, clock: FakeClock, name: str
) -> None:
    url = timed.queue(name)
    timed.send(
        url, **({"MessageGroupId": "a", "MessageDeduplicationId": "b"} if "." in name else {})
    )
    (message,) = timed.receive(url, VisibilityTimeout=30)
    clock.set_wall(clock.wall_ms() + 13 * 3_600_000)
    handle = message["ReceiptHandle"]
    timed("ChangeMessageVisibility", url, ReceiptHandle=handle, VisibilityTimeout=60)
    clock.advance(40)
    assert not timed.receive(url)
    timed.delete(url, message)


def test_a_message_is_leased_for_12_hours_at_most(timed: Sqs, clock: FakeClock) -> None:
    url = timed.queue()
    timed.send(url)
    (message,) = timed.receive(url, VisibilityTimeout=43_200)
    clock.advance(3600)
    handle = message["ReceiptHandle"]
    timed("ChangeMessageVisibility", url, ReceiptHandle=handle, VisibilityTimeout=39_600)
    said = timed.refusal(
        "ChangeMessageVisibility", url, ReceiptHandle=handle, VisibilityTimeout=39_601
    )
    assert said == (
        "InvalidParameterValue: Value 39601 for parameter VisibilityTimeout is invalid. Reason: "
        "Total VisibilityTimeout for the message is beyond the limit [43200 seconds]"
    )


def test_batches_of_deletions_and_changes_answer_each_entry(timed: Sqs) -> None:
    url = timed.queue()
    for body in "ab":
        timed.send(url, body)
    first, second = timed.receive(url, 10)
    answered = timed(
        "ChangeMessageVisibilityBatch",
        url,
        Entries=[
            {"Id": "a", "ReceiptHandle": first["ReceiptHandle"], "VisibilityTimeout": 0},
            {"Id": "b", "ReceiptHandle": second["ReceiptHandle"], "VisibilityTimeout": 50},
            {"Id": "c", "ReceiptHandle": "garbage", "VisibilityTimeout": 5},
            {"Id": "d", "ReceiptHandle": second["ReceiptHandle"], "VisibilityTimeout": 50_000},
        ],
    )
    assert answered["Successful"] == [{"Id": "a"}, {"Id": "b"}]
    assert {one["Id"]: one["Code"] for one in answered["Failed"]} == {
        "c": "ReceiptHandleIsInvalid",
        "d": "InvalidParameterValue",
    }
    assert timed.bodies(url) == ["a"]
    answered = timed(
        "DeleteMessageBatch",
        url,
        Entries=[
            {"Id": "1", "ReceiptHandle": second["ReceiptHandle"]},
            {"Id": "2", "ReceiptHandle": "garbage"},
            {"Id": "3", "ReceiptHandle": second["ReceiptHandle"]},
        ],
    )
    assert answered["Successful"] == [{"Id": "1"}, {"Id": "3"}]
    assert answered["Failed"] == [
        {
            "Id": "2",
            "SenderFault": True,
            "Code": "ReceiptHandleIsInvalid",
            "Message": 'The input receipt handle "garbage" is not a valid receipt handle.',
        }
    ]


@pytest.mark.parametrize("end", ["", ".fifo"])
def test_a_handle_that_comes_twice_in_a_batch_is_answered_twice(timed: Sqs, end: str) -> None:
    """As by two requests, one after the other."""
    url = timed.queue(f"q{end}")
    timed.send(url, **({"MessageGroupId": "a", "MessageDeduplicationId": "a"} if end else {}))
    handle = timed.receive(url)[0]["ReceiptHandle"]

    def batch(action: str, *seconds: int) -> dict[str, str]:
        """Return the code of each entry, in order of the ids; empty: it was successful."""
        entries: list[dict[str, Any]] = [
            {"Id": str(number), "ReceiptHandle": handle}
            | ({"VisibilityTimeout": each} if each >= 0 else {})
            for number, each in enumerate(seconds)
        ]
        answered = timed(action, url, Entries=entries)
        found = {one["Id"]: "" for one in answered.get("Successful", [])}
        found |= {one["Id"]: one["Code"] for one in answered.get("Failed", [])}
        return dict(sorted(found.items()))

    change = "ChangeMessageVisibilityBatch"
    assert batch(change, 50, 60) == {"0": "", "1": ""}
    gone = "AWS.SimpleQueueService.MessageNotInflight" if end else ""
    assert batch(change, 70, 0, 80, 0) == {"0": "", "1": "", "2": gone, "3": gone}
    handle = timed.receive(url)[0]["ReceiptHandle"]
    assert batch("DeleteMessageBatch", -1, -1) == {"0": "", "1": ""}
    assert timed.counts(url) == (0, 0, 0)


def test_a_handle_of_another_queue_is_refused(timed: Sqs) -> None:
    url, other = timed.queue(), timed.queue("other")
    timed.send(url)
    (message,) = timed.receive(url)
    handle = message["ReceiptHandle"]
    said = timed.refusal("DeleteMessage", other, ReceiptHandle=handle)
    assert said.startswith("ReceiptHandleIsInvalid: The input receipt handle ")


@pytest.mark.parametrize("is_of_queue", [False, True])
def test_a_delayed_message_is_ready_after_its_delay(
    timed: Sqs, clock: FakeClock, is_of_queue: bool
) -> None:
    url = timed.queue(DelaySeconds="10" if is_of_queue else "0")
    if is_of_queue:
        timed.send(url)
    else:
        timed.send(url, DelaySeconds=10)
    assert timed.counts(url) == (0, 0, 1)
    clock.advance(9)
    assert not timed.receive(url)
    clock.advance(2)
    assert timed.receive(url)


def test_a_delay_of_0_replaces_that_of_the_queue(timed: Sqs) -> None:
    url = timed.queue(DelaySeconds="10")
    timed.send(url, DelaySeconds=0)
    assert timed.receive(url)


def test_a_message_is_gone_after_the_retention_of_its_queue(timed: Sqs, clock: FakeClock) -> None:
    url = timed.queue(MessageRetentionPeriod="60")
    timed.send(url)
    clock.advance(61)
    assert not timed.receive(url)
    assert timed.counts(url) == (0, 0, 0)


def test_without_a_redrive_policy_a_message_is_received_without_end(
    timed: Sqs, clock: FakeClock
) -> None:
    url = timed.queue(VisibilityTimeout="1")
    timed.send(url)
    for count in range(1, 30):
        (message,) = timed.receive(url, AttributeNames=["All"])
        assert message["Attributes"]["ApproximateReceiveCount"] == str(count)
        clock.advance(1.1)
