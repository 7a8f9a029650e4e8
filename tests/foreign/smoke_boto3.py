"""boto3 calls each action of SQS, and gets AWS's answers and errors."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.foreign.smoke import ACTIONS, ENDPOINT, client, new_name, wait_for


@pytest.fixture
def sqs() -> Any:
    return client()


def attributes(sqs: Any, url: str) -> dict[str, str]:
    found: dict[str, str] = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])[
        "Attributes"
    ]
    return found


def received(sqs: Any, url: str, **options: Any) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = sqs.receive_message(
        QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=5, **options
    ).get("Messages", [])
    return messages


def test_the_actions_are_those_of_the_service(sqs: Any) -> None:
    assert frozenset(sqs.meta.service_model.operation_names) == ACTIONS


def test_a_queue_lives(sqs: Any) -> None:
    name = new_name("life")
    url = sqs.create_queue(QueueName=name, Attributes={"VisibilityTimeout": "7"})["QueueUrl"]
    assert url.startswith(ENDPOINT)
    assert sqs.get_queue_url(QueueName=name)["QueueUrl"] == url
    assert url in sqs.list_queues(QueueNamePrefix=name)["QueueUrls"]
    assert attributes(sqs, url)["VisibilityTimeout"] == "7"
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "8"})
    assert attributes(sqs, url)["VisibilityTimeout"] == "8"
    sqs.tag_queue(QueueUrl=url, Tags={"team": "shop", "stage": "test"})
    sqs.untag_queue(QueueUrl=url, TagKeys=["stage"])
    assert sqs.list_queue_tags(QueueUrl=url)["Tags"] == {"team": "shop"}
    sqs.add_permission(
        QueueUrl=url, Label="ours", AWSAccountIds=["111122223333"], Actions=["SendMessage"]
    )
    [statement] = json.loads(attributes(sqs, url)["Policy"])["Statement"]
    assert statement["Sid"] == "ours"
    sqs.remove_permission(QueueUrl=url, Label="ours")
    assert "ours" not in attributes(sqs, url).get("Policy", "")
    sqs.delete_queue(QueueUrl=url)
    with pytest.raises(sqs.exceptions.QueueDoesNotExist) as caught:
        sqs.get_queue_url(QueueName=name)
    assert caught.value.response["Error"]["Code"] == "AWS.SimpleQueueService.NonExistentQueue"


def test_a_message_lives(sqs: Any) -> None:
    url = sqs.create_queue(QueueName=new_name("message"))["QueueUrl"]
    body = '{"order":  1, "text": "Grüße\\n"}'
    typed = {
        "kind": {"DataType": "String", "StringValue": "new"},
        "count": {"DataType": "Number.int", "StringValue": "007"},
        "raw": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
    }
    sent = sqs.send_message(QueueUrl=url, MessageBody=body, MessageAttributes=typed)
    [message] = received(
        sqs, url, MessageAttributeNames=["All"], MessageSystemAttributeNames=["All"]
    )
    assert (message["MessageId"], message["Body"]) == (sent["MessageId"], body)
    assert message["MessageAttributes"] == typed
    for digest in ("MD5OfBody", "MD5OfMessageAttributes"):
        assert message[digest] == sent[digest.replace("OfBody", "OfMessageBody")]
    assert message["Attributes"]["ApproximateReceiveCount"] == "1"
    handle = {"QueueUrl": url, "ReceiptHandle": message["ReceiptHandle"]}
    sqs.change_message_visibility(**handle, VisibilityTimeout=0)
    [again] = received(sqs, url, AttributeNames=["ApproximateReceiveCount"])
    assert again["Attributes"] == {"ApproximateReceiveCount": "2"}
    sqs.delete_message(QueueUrl=url, ReceiptHandle=again["ReceiptHandle"])
    assert received(sqs, url, VisibilityTimeout=0) == []


def test_a_batch_has_an_answer_for_each_entry(sqs: Any) -> None:
    url = sqs.create_queue(QueueName=new_name("batch"))["QueueUrl"]
    entries = [{"Id": str(n), "MessageBody": f"body {n}"} for n in range(10)]
    bad_body = {"Id": "9", "MessageBody": "\x01"}
    sent = sqs.send_message_batch(QueueUrl=url, Entries=[*entries[:9], bad_body])
    assert [one["Id"] for one in sent["Successful"]] == [one["Id"] for one in entries[:9]]
    assert [(one["Id"], one["SenderFault"]) for one in sent["Failed"]] == [("9", True)]
    messages = received(sqs, url)
    assert sorted(message["Body"] for message in messages) == [f"body {n}" for n in range(9)]
    handles = [
        {"Id": str(n), "ReceiptHandle": one["ReceiptHandle"]} for n, one in enumerate(messages)
    ]
    returned = sqs.change_message_visibility_batch(
        QueueUrl=url, Entries=[handle | {"VisibilityTimeout": 60} for handle in handles]
    )
    assert len(returned["Successful"]) == 9
    bad = {"Id": "bad", "ReceiptHandle": "garbage"}
    deleted = sqs.delete_message_batch(QueueUrl=url, Entries=[*handles, bad])
    assert len(deleted["Successful"]) == 9
    assert [one["Code"] for one in deleted["Failed"]] == ["ReceiptHandleIsInvalid"]


def test_a_fifo_queue_keeps_order_and_knows_duplicates(sqs: Any) -> None:
    url = sqs.create_queue(QueueName=f"{new_name('order')}.fifo", Attributes={"FifoQueue": "true"})[
        "QueueUrl"
    ]
    sent = [
        sqs.send_message(
            QueueUrl=url, MessageBody=str(n), MessageGroupId="one", MessageDeduplicationId=str(n)
        )
        for n in (1, 2, 3, 1)
    ]
    assert sent[3]["MessageId"] == sent[0]["MessageId"]
    assert sent[3]["SequenceNumber"] == sent[0]["SequenceNumber"]
    assert sent[0]["SequenceNumber"] < sent[1]["SequenceNumber"] < sent[2]["SequenceNumber"]
    assert [message["Body"] for message in received(sqs, url)] == ["1", "2", "3"]
    assert sqs.receive_message(QueueUrl=url).get("Messages", []) == []


def test_dead_letters_move_and_are_moved_back(sqs: Any) -> None:
    name = new_name("dead")
    dead = sqs.create_queue(QueueName=f"{name}-letters")["QueueUrl"]
    arn = attributes(sqs, dead)["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 1})
    url = sqs.create_queue(QueueName=name, Attributes={"RedrivePolicy": policy})["QueueUrl"]
    assert sqs.list_dead_letter_source_queues(QueueUrl=dead)["queueUrls"] == [url]
    sent = sqs.send_message(QueueUrl=url, MessageBody="hopeless")
    assert len(received(sqs, url, VisibilityTimeout=0)) == 1
    assert sqs.receive_message(QueueUrl=url).get("Messages", []) == []
    [letter] = received(sqs, dead, VisibilityTimeout=0)
    assert letter["MessageId"] == sent["MessageId"]
    handle = sqs.start_message_move_task(SourceArn=arn)["TaskHandle"]
    wait_for(
        lambda: sqs.list_message_move_tasks(SourceArn=arn)["Results"][0]["Status"] == "COMPLETED"
    )
    [back] = received(sqs, url)
    assert back["Body"] == "hopeless"
    assert back["MessageId"] != sent["MessageId"]
    with pytest.raises(ClientError, match="Only active tasks can be cancelled"):
        sqs.cancel_message_move_task(TaskHandle=handle)


def test_a_move_task_is_cancelled(sqs: Any) -> None:
    name = new_name("cancel")
    dead = sqs.create_queue(QueueName=f"{name}-letters")["QueueUrl"]
    arn = attributes(sqs, dead)["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 1})
    url = sqs.create_queue(QueueName=name, Attributes={"RedrivePolicy": policy})["QueueUrl"]
    for _ in range(3):
        entries = [{"Id": str(n), "MessageBody": str(n)} for n in range(10)]
        sqs.send_message_batch(QueueUrl=url, Entries=entries)
    count = 0
    while count < 30:
        count += len(received(sqs, url, VisibilityTimeout=0))
    wait_for(
        lambda: (
            sqs.receive_message(QueueUrl=url, VisibilityTimeout=0).get("Messages", []) == []
            and attributes(sqs, dead)["ApproximateNumberOfMessages"] == "30"
        )
    )
    handle = sqs.start_message_move_task(SourceArn=arn, MaxNumberOfMessagesPerSecond=1)[
        "TaskHandle"
    ]
    sqs.cancel_message_move_task(TaskHandle=handle)

    def ended() -> bool:
        [found] = sqs.list_message_move_tasks(SourceArn=arn)["Results"]
        return bool(found["Status"] == "CANCELLED")

    wait_for(ended)
    counts = [int(attributes(sqs, one)["ApproximateNumberOfMessages"]) for one in (url, dead)]
    assert sum(counts) == 30
    assert counts[1] > 20


def test_a_purge_leaves_nothing(sqs: Any) -> None:
    url = sqs.create_queue(QueueName=new_name("purge"))["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="one")
    sqs.purge_queue(QueueUrl=url)
    wait_for(lambda: attributes(sqs, url)["ApproximateNumberOfMessages"] == "0")
    assert sqs.receive_message(QueueUrl=url).get("Messages", []) == []
