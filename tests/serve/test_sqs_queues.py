"""Queues over SQS: created, found, listed, changed, tagged, purged and deleted."""

import json
import time
from typing import Any

import pytest

from durableq.model.endpoint import MAX_DOCUMENT_CHARS
from durableq.serve.context import Context
from durableq.serve.sqs import changing, queue_attributes
from durableq.store.core import Capability, Store
from durableq.testing.fakes import FakeClock
from tests.serve.sqs_client import ON_BOTH, Sqs, client_of

NO_QUEUE = "AWS.SimpleQueueService.NonExistentQueue: The specified queue does not exist."
ACCOUNT = "111111111111"


def test_the_url_of_a_queue_is_that_of_the_server(sqs: Sqs) -> None:
    assert sqs.queue("orders") == "http://localhost:4566/000000000000/orders"
    found = sqs("GetQueueUrl", QueueName="orders")
    assert found == {"QueueUrl": "http://localhost:4566/000000000000/orders"}


@ON_BOTH
def test_a_new_queue_takes_no_documents_but_those_that_name_it(
    sqs: Sqs, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead, arn = sqs.queue("dead"), "arn:aws:sqs:us-east-1:000000000000:dead"
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 3})
    sqs.queue("source", RedrivePolicy=policy)
    for number in range(20):
        sqs.queue(f"q{number}")
    sqs("DeleteQueue", dead)
    endpoint: Any = sqs.app.store.require(Capability.ENDPOINT)
    documents_with, taken = endpoint.documents_with, []

    def noted(*arguments: str) -> Any:
        found = documents_with(*arguments)
        taken.append([one.queue for one in found])
        return found

    monkeypatch.setattr(type(endpoint), "documents_with", lambda _, *given: noted(*given))
    sqs.queue("other")
    sqs.queue("dead")
    assert taken == [[], ["source"]]
    assert sqs.app.store.require(Capability.INSPECT).queue("source").dead_letter_queue == "dead"


@pytest.mark.parametrize(
    ("action", "parameters"),
    [
        ("SendMessage", {"MessageBody": "x"}),
        ("SendMessageBatch", {"Entries": [{"Id": "1", "MessageBody": "x"}]}),
        ("ReceiveMessage", {}),
        ("DeleteMessage", {"ReceiptHandle": "x"}),
        ("DeleteMessageBatch", {"Entries": [{"Id": "1", "ReceiptHandle": "x"}]}),
        ("ChangeMessageVisibility", {"ReceiptHandle": "x", "VisibilityTimeout": 1}),
        ("GetQueueAttributes", {"AttributeNames": ["All"]}),
        ("SetQueueAttributes", {"Attributes": {"DelaySeconds": "1"}}),
        ("PurgeQueue", {}),
        ("DeleteQueue", {}),
        ("ListDeadLetterSourceQueues", {}),
        ("ListQueueTags", {}),
        ("TagQueue", {"Tags": {"a": "b"}}),
        ("UntagQueue", {"TagKeys": ["a"]}),
        ("AddPermission", {"Label": "a", "AWSAccountIds": [ACCOUNT], "Actions": ["*"]}),
        ("RemovePermission", {"Label": "a"}),
    ],
)
def test_a_queue_that_does_not_exist_is_refused(
    sqs: Sqs, action: str, parameters: dict[str, object]
) -> None:
    url = "http://localhost:4566/000000000000/nowhere"
    assert sqs.refusal(action, url, **parameters) == NO_QUEUE


def test_the_url_of_a_queue_that_does_not_exist_is_refused(sqs: Sqs) -> None:
    assert sqs.refusal("GetQueueUrl", QueueName="nowhere") == NO_QUEUE
    assert sqs.refusal("GetQueueUrl", QueueName="a b") == NO_QUEUE


def test_a_new_queue_has_the_attributes_of_aws(timed: Sqs, clock: FakeClock) -> None:
    now = str(clock.wall_ms() // 1000)
    standard = {
        "ApproximateNumberOfMessages": "0",
        "ApproximateNumberOfMessagesDelayed": "0",
        "ApproximateNumberOfMessagesNotVisible": "0",
        "CreatedTimestamp": now,
        "DelaySeconds": "0",
        "LastModifiedTimestamp": now,
        "MaximumMessageSize": "1048576",
        "MessageRetentionPeriod": "345600",
        "QueueArn": "arn:aws:sqs:us-east-1:000000000000:q",
        "ReceiveMessageWaitTimeSeconds": "0",
        "SqsManagedSseEnabled": "true",
        "VisibilityTimeout": "30",
    }
    assert timed.attributes(timed.queue()) == standard
    fifo = {
        "ContentBasedDeduplication": "false",
        "DeduplicationScope": "queue",
        "FifoQueue": "true",
        "FifoThroughputLimit": "perQueue",
        "QueueArn": "arn:aws:sqs:us-east-1:000000000000:q.fifo",
    }
    assert timed.attributes(timed.queue("q.fifo")) == standard | fifo


def test_attributes_are_those_that_are_asked_for(sqs: Sqs) -> None:
    url = sqs.queue(VisibilityTimeout="7")
    assert sqs.attributes(url, "VisibilityTimeout") == {"VisibilityTimeout": "7"}
    assert sqs("GetQueueAttributes", url) == {}
    assert sqs("GetQueueAttributes", url, AttributeNames=["Policy"]) == {}
    said = sqs.refusal("GetQueueAttributes", url, AttributeNames=["not-existing"])
    assert said == "InvalidAttributeName: Unknown Attribute not-existing."


@ON_BOTH
def test_a_queue_is_found_again_by_the_same_attributes(sqs: Sqs) -> None:
    url = sqs.queue(DelaySeconds="5", VisibilityTimeout="7")
    assert sqs.queue() == url
    assert sqs.queue(DelaySeconds="5") == url
    said = sqs.refusal("CreateQueue", QueueName="q", Attributes={"DelaySeconds": "6"})
    assert said == (
        "QueueAlreadyExists: A queue already exists with the same name and a different value for "
        "attribute DelaySeconds"
    )
    fifo = sqs.queue("q.fifo", ContentBasedDeduplication="true")
    assert sqs.queue("q.fifo") == fifo
    attributes = {"FifoQueue": "true", "ContentBasedDeduplication": "false"}
    said = sqs.refusal("CreateQueue", QueueName="q.fifo", Attributes=attributes)
    assert said.endswith("a different value for attribute ContentBasedDeduplication")


def test_attributes_are_changed(timed: Sqs, clock: FakeClock) -> None:
    url = timed.queue(VisibilityTimeout="7")
    created = timed.attributes(url)
    clock.advance(60)
    changed = {"VisibilityTimeout": "8", "ReceiveMessageWaitTimeSeconds": "3", "Policy": "{}"}
    assert timed("SetQueueAttributes", url, Attributes=changed) == {}
    found = timed.attributes(url)
    assert found == created | changed | {
        "LastModifiedTimestamp": str(int(created["CreatedTimestamp"]) + 60)
    }
    timed("SetQueueAttributes", url, Attributes={"Policy": ""})
    assert "Policy" not in timed.attributes(url)


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"FifoQueue": "true"}, "InvalidAttributeName: Unknown Attribute FifoQueue."),
        ({"QueueArn": "x"}, "InvalidAttributeName: Unknown Attribute QueueArn."),
        (
            {"VisibilityTimeout": "x"},
            "InvalidAttributeValue: Invalid value for the parameter VisibilityTimeout.",
        ),
    ],
)
def test_a_change_of_other_attributes_is_refused(
    sqs: Sqs, attributes: dict[str, str], said: str
) -> None:
    assert sqs.refusal("SetQueueAttributes", sqs.queue(), Attributes=attributes) == said


def test_the_type_of_a_queue_is_not_changed(sqs: Sqs) -> None:
    url = sqs.queue("q.fifo")
    said = sqs.refusal("SetQueueAttributes", url, Attributes={"FifoQueue": "false"})
    assert said == (
        "InvalidAttributeValue: Invalid value for the parameter FifoQueue. Reason: Modifying queue "
        "type is not supported."
    )


def test_python_sees_the_settings_and_sets_them(sqs: Sqs) -> None:
    url = sqs.queue(VisibilityTimeout="7", MessageRetentionPeriod="60")
    settings = sqs.app.store.settings("q")
    assert (settings.visibility_timeout_ms, settings.retention_ms) == (7000, 60_000)
    sqs.app.queue("q", visibility_timeout=9)
    assert sqs.attributes(url)["VisibilityTimeout"] == "9"


def test_a_change_by_python_is_used_after_a_second(sqs: Sqs) -> None:
    url = sqs.queue()
    sqs.send(url, "x" * 2000)
    sqs.app.queue("q", max_body_bytes=1024)
    deadline = time.monotonic() + 60
    while not (said := sqs("SendMessageBatch", url, Entries=[large()]).get("Failed")):
        assert time.monotonic() < deadline
    assert said[0]["Code"] == "InvalidParameterValue"


def large() -> dict[str, str]:
    return {"Id": "1", "MessageBody": "x" * 2000}


@ON_BOTH
def test_queues_are_listed_by_prefix_and_page(sqs: Sqs) -> None:
    assert sqs("ListQueues") == {}
    urls = [sqs.queue(name) for name in ("a-1", "a-2", "a-3", "b")]
    assert sqs("ListQueues") == {"QueueUrls": urls}
    assert sqs("ListQueues", QueueNamePrefix="b") == {"QueueUrls": urls[3:]}
    page = sqs("ListQueues", QueueNamePrefix="a", MaxResults=2)
    assert page["QueueUrls"] == urls[:2]
    following = sqs("ListQueues", QueueNamePrefix="a", MaxResults=2, NextToken=page["NextToken"])
    assert following == {"QueueUrls": urls[2:3]}
    assert "MaxResults" in sqs.refusal("ListQueues", MaxResults=1001)
    assert sqs.refusal("ListQueues", NextToken="!").endswith("Invalid or expired next token.")


def test_queues_of_python_are_listed(sqs: Sqs) -> None:
    sqs.app.queue("orders")
    assert sqs("ListQueues") == {"QueueUrls": ["http://localhost:4566/000000000000/orders"]}


@ON_BOTH
def test_tags_are_added_and_taken_away(sqs: Sqs) -> None:
    url = sqs("CreateQueue", QueueName="q", tags={"a": "1"})["QueueUrl"]
    assert sqs("TagQueue", url, Tags={"b": "2", "a": "3"}) == {}
    assert sqs("ListQueueTags", url) == {"Tags": {"a": "3", "b": "2"}}
    assert sqs("UntagQueue", url, TagKeys=["a", "x"]) == {}
    assert sqs("ListQueueTags", url) == {"Tags": {"b": "2"}}
    sqs("UntagQueue", url, TagKeys=["b"])
    assert sqs("ListQueueTags", url) == {}


def test_bad_tags_are_refused(sqs: Sqs) -> None:
    url = sqs("CreateQueue", QueueName="q", tags={"a": "1"})["QueueUrl"]
    many = {str(number): "x" for number in range(50)}
    for tags, part in (
        ({}, "The request must contain the parameter Tags."),
        (many, "Too many tags added for queue q."),
        ({"k" * 129: "x"}, "Tag keys must be between 1 and 128 characters in length."),
        ({"k": "x" * 257}, "Tag values must be between 0 and 256 characters in length."),
    ):
        assert sqs.refusal("TagQueue", url, Tags=tags).endswith(part)
    assert sqs.refusal("UntagQueue", url, TagKeys=[]).endswith("characters in length.")
    assert sqs("ListQueueTags", url) == {"Tags": {"a": "1"}}


def test_permissions_are_stored_in_the_policy(sqs: Sqs) -> None:
    url = sqs.queue()
    options = {"AWSAccountIds": [ACCOUNT], "Actions": ["SendMessage"]}
    sqs("AddPermission", url, Label="one", **options)
    (statement,) = json.loads(sqs.attributes(url)["Policy"])["Statement"]
    assert statement["Sid"] == "one"
    said = sqs.refusal("AddPermission", url, Label="one", **options)
    assert said.endswith("Value one for parameter Label is invalid. Reason: Already exists.")
    said = sqs.refusal("RemovePermission", url, Label="two")
    assert said.endswith("Value two for parameter Label is invalid. Reason: can't find label.")
    sqs("RemovePermission", url, Label="one")
    assert "Policy" not in sqs.attributes(url)


@ON_BOTH
def test_a_purge_removes_all_messages(sqs: Sqs) -> None:
    url = sqs.queue()
    for _ in range(3):
        sqs.send(url)
    sqs.send(url, DelaySeconds=900)
    sqs.receive(url)
    assert sqs("PurgeQueue", url) == {}
    assert sqs.counts(url) == (0, 0, 0)
    sqs("PurgeQueue", url)


def test_a_strict_server_purges_once_a_minute(timed: Sqs, clock: FakeClock) -> None:
    url = timed.queue()
    timed("PurgeQueue", url)
    timed.context = Context(timed.app, is_strict=True)
    timed.send(url)
    clock.advance(59)
    assert timed.refusal("PurgeQueue", url) == (
        "AWS.SimpleQueueService.PurgeQueueInProgress: Only one PurgeQueue operation on q is "
        "allowed every 60 seconds."
    )
    assert timed.counts(url) == (1, 0, 0)
    clock.advance(1)
    timed("PurgeQueue", url)
    assert timed.counts(url) == (0, 0, 0)


@ON_BOTH
def test_a_deleted_queue_is_gone_with_its_messages(sqs: Sqs) -> None:
    url = sqs.queue(VisibilityTimeout="7")
    sqs("TagQueue", url, Tags={"a": "b"})
    sqs.send(url)
    assert sqs("DeleteQueue", url) == {}
    assert sqs.refusal("SendMessage", url, MessageBody="x") == NO_QUEUE
    assert sqs.refusal("DeleteQueue", url) == NO_QUEUE
    assert sqs("ListQueues") == {}
    sqs.queue()
    assert sqs.counts(url) == (0, 0, 0)
    assert sqs.attributes(url)["VisibilityTimeout"] == "30"
    assert sqs("ListQueueTags", url) == {}


def test_a_strict_server_waits_a_minute_after_a_deletion(timed: Sqs, clock: FakeClock) -> None:
    timed("DeleteQueue", timed.queue())
    timed.context = Context(timed.app, is_strict=True)
    clock.advance(59)
    assert timed.refusal("CreateQueue", QueueName="q") == (
        "AWS.SimpleQueueService.QueueDeletedRecently: You must wait 60 seconds after deleting a "
        "queue before you can create another with the same name."
    )
    clock.advance(1)
    assert timed.queue()


@ON_BOTH
def test_the_rules_of_a_minute_hold_for_all_servers_of_a_database(sqs: Sqs) -> None:
    url = sqs.queue()
    sqs("PurgeQueue", url)
    sqs("DeleteQueue", sqs.queue("gone"))
    with client_of(sqs.app.url, is_strict=True) as other:
        assert "PurgeQueueInProgress" in other.refusal("PurgeQueue", url)
        assert "QueueDeletedRecently" in other.refusal("CreateQueue", QueueName="gone")


@ON_BOTH
def test_attributes_and_tags_have_room_for_the_most_of_aws(sqs: Sqs) -> None:
    """A policy of 64 KiB, and 50 tags of 128 and 256 characters."""
    policy = json.dumps({"Statement": [], "Id": "é" * (32 << 10)}, ensure_ascii=False)
    url = sqs.queue(Policy=policy)
    tags = {f"{number:02}" + "ß" * 126: '"' * 256 for number in range(50)}
    sqs("TagQueue", url, Tags=tags)
    assert sqs.attributes(url)["Policy"] == policy
    assert sqs("ListQueueTags", url) == {"Tags": tags}


def test_a_queue_has_one_kind_of_encryption(timed: Sqs) -> None:
    url = timed.queue()
    names = ("KmsMasterKeyId", "KmsDataKeyReusePeriodSeconds", "SqsManagedSseEnabled")

    def after(**attributes: str) -> list[str | None]:
        timed("SetQueueAttributes", url, Attributes=attributes)
        return [timed.attributes(url).get(name) for name in names]

    assert after(KmsMasterKeyId="key") == ["key", "300", "false"]
    assert after(KmsDataKeyReusePeriodSeconds="6000") == ["key", "6000", "false"]
    assert after(KmsMasterKeyId="") == [None, None, "false"]
    assert after(KmsMasterKeyId="key") == ["key", "6000", "false"]
    assert after(SqsManagedSseEnabled="true") == [None, None, "true"]
    both = {"KmsMasterKeyId": "key", "SqsManagedSseEnabled": "true"}
    assert timed.refusal("SetQueueAttributes", url, Attributes=both) == (
        "InvalidAttributeName: You can use one type of server-side encryption (SSE) at one time. "
        "You can either enable KMS SSE or SQS SSE."
    )
    made = timed.queue("made", KmsMasterKeyId="key")
    assert timed.queue("made", KmsMasterKeyId="key") == made
    assert timed.attributes(made)["SqsManagedSseEnabled"] == "false"


@pytest.mark.parametrize("region", ["us-east-1", "eu-west-1"])
@pytest.mark.parametrize("host", ["localhost", "sqs.eu-west-1.x", "us-east-1.queue.x"])
def test_a_url_that_names_its_region_finds_the_queue_alone(
    sqs: Sqs, region: str, host: str
) -> None:
    here = Context(sqs.app, region=region, base_url=f"http://{host}:4566", names_regions=True)
    sqs.context = here
    url = sqs.queue()
    plain = f"http://{host}:4566/000000000000/q"
    assert (url == plain) == (region == ("us-east-1" if host[0] != "s" else "eu-west-1"))
    sqs.send(url, region)
    sqs.context = Context(sqs.app, region="us-east-1" if region[0] == "e" else "eu-west-1")
    if host != "localhost" or region != "us-east-1":
        assert sqs.bodies(url) == [region]


@ON_BOTH
def test_accounts_and_regions_have_queues_of_their_own(sqs: Sqs) -> None:
    here = sqs.queue()
    sqs.send(here, "here")
    sqs.context = Context(sqs.app, account=ACCOUNT, region="eu-west-1")
    assert sqs("ListQueues") == {}
    there = sqs.queue()
    assert there == f"http://localhost:4566/{ACCOUNT}/q"
    assert sqs.attributes(there)["QueueArn"] == f"arn:aws:sqs:eu-west-1:{ACCOUNT}:q"
    sqs.send(there, "there")
    assert sqs.bodies(there) == ["there"]
    assert sqs.app.store.settings(f"q@{ACCOUNT}.eu-west-1").max_receives == 0
    sqs.context = Context(sqs.app)
    assert sqs("ListQueues") == {"QueueUrls": [here]}
    assert sqs.bodies(here) == ["here"]


def test_attributes_and_tags_are_there_after_a_restart(sqs: Sqs) -> None:
    url = sqs.queue("q.fifo", DeduplicationScope="messageGroup")
    sqs("TagQueue", url, Tags={"a": "b"})
    before = sqs.attributes(url)
    with client_of(sqs.app.url) as other:
        assert other.attributes(url) == before
        assert other("ListQueueTags", url) == {"Tags": {"a": "b"}}


def test_the_numbers_of_a_queue_are_those_of_this_moment(timed: Sqs, clock: FakeClock) -> None:
    """No client receives after the delay and the lease have ended."""
    url = timed.queue("orders", VisibilityTimeout="5")
    timed.send(url)
    timed.receive(url)
    timed.send(url, DelaySeconds=3)
    assert timed.counts(url) == (0, 1, 1)
    clock.advance(3)
    assert timed.counts(url) == (1, 1, 0)
    clock.advance(2)
    assert timed.counts(url) == (2, 0, 0)


def test_a_change_does_not_bring_back_a_queue_that_was_deleted_meanwhile(
    sqs: Sqs, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, change = sqs.queue("orders.fifo"), changing.change

    def late(store: Store, *of_change: Any) -> None:
        store.require(Capability.CONTROL).delete_queue("orders.fifo", force=True)
        change(store, *of_change)

    monkeypatch.setattr(queue_attributes, "change", late)
    changed = {"Attributes": {"DelaySeconds": "1"}}
    assert sqs.refusal("SetQueueAttributes", url, **changed) == NO_QUEUE
    assert sqs("ListQueues") == {}


def test_a_refused_change_changes_nothing(sqs: Sqs) -> None:
    url = sqs.queue("orders")
    too_long = json.dumps({"Statement": "x" * MAX_DOCUMENT_CHARS})
    before = sqs("GetQueueAttributes", url, AttributeNames=["All"])
    attributes = {"Policy": too_long, "DelaySeconds": "9"}
    said = sqs.refusal("SetQueueAttributes", url, Attributes=attributes)
    assert "at most" in said
    assert sqs("GetQueueAttributes", url, AttributeNames=["All"]) == before


def test_a_queue_of_python_that_keeps_no_groups_is_no_fifo_queue(sqs: Sqs) -> None:
    sqs.app.store.declare_queue("orders.fifo", {})
    created: dict[str, Any] = {"QueueName": "orders.fifo", "Attributes": {"FifoQueue": "true"}}
    assert sqs.refusal("CreateQueue", **created).endswith("different value for attribute FifoQueue")
    sqs.app.store.declare_queue("orders.fifo", {"group_concurrency": 1})
    assert sqs("CreateQueue", **created)
