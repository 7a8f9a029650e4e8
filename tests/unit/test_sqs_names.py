"""The parts of the SQS endpoint that need no store: names, handles, policies."""

import json
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durableq.model.message import Receipt
from durableq.model.queues import dead_letter_name
from durableq.serve.context import Context
from durableq.serve.errors import ServiceError
from durableq.serve.sqs import handles, names, policies
from durableq.serve.sqs import redrive_policies as redrive
from tests.sqs_context import context_without_store, refusal

TARGET = names.QueueName("dead")
SOURCE = names.QueueName("orders")


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://localhost:4566/111111111111/q", names.QueueName("q", "111111111111", "eu-west-1")),
        (
            "http://sqs.cn-north-1.x/111111111111/q",
            names.QueueName("q", "111111111111", "cn-north-1"),
        ),
        ("http://x/queue/us-east-1/000000000000/q", names.QueueName("q")),
        ("q", names.QueueName("q", "222222222222", "eu-west-1")),
        *((text, None) for text in ("http://x/q", "http://[/000000000000/q", "http://x/1/q")),
        (f"http://{'h' * 1024}/000000000000/q", None),  # no host is so long
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_url_names_a_queue(url: str, name: names.QueueName | None) -> None:
    context = replace(context_without_store(), account="222222222222", region="eu-west-1")
    if name is not None:
        assert names.of_url(context, {"QueueUrl": url}) == name
    else:
        said = refusal(lambda: names.of_url(context, {"QueueUrl": url}))
        assert said.endswith("The specified queue does not exist.")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("x", "Redrive policy is not a valid JSON map."),
        ("[]", "Redrive policy is not a valid JSON map."),
        ("{}", "Redrive policy does not contain mandatory attribute: deadLetterTargetArn."),
        (
            json.dumps({"deadLetterTargetArn": TARGET.arn}),
            "Redrive policy does not contain mandatory attribute: maxReceiveCount.",
        ),
        (
            json.dumps({"deadLetterTargetArn": TARGET.arn, "maxReceiveCount": 1001}),
            "Invalid value for maxReceiveCount: 1001, valid values are from 1 to 1000 both "
            "inclusive.",
        ),
        (
            json.dumps({"deadLetterTargetArn": "arn:aws:sns:x:y:z", "maxReceiveCount": 1}),
            "Invalid value for deadLetterTargetArn.",
        ),
    ],
)
def test_a_bad_redrive_policy_is_refused(text: str, reason: str) -> None:
    assert refusal(lambda: redrive.redrive_policy(text)) == (
        f"InvalidParameterValue: Value {text} for parameter RedrivePolicy is invalid. Reason: "
        f"{reason}"
    )


@pytest.mark.parametrize("count", [1, "1", 1000, "1000"], ids=repr)
def test_the_number_of_receives_may_be_a_text(count: object) -> None:
    text = json.dumps({"deadLetterTargetArn": TARGET.arn, "maxReceiveCount": count})
    assert redrive.redrive_policy(text) == (TARGET, int(str(count)))


def test_the_dead_letter_queue_decides_for_which_queues_it_is() -> None:
    policy = redrive.RedrivePolicy(TARGET, 3)
    by_queue = json.dumps({"redrivePermission": "byQueue", "sourceQueueArns": [SOURCE.arn]})
    allowed = redrive.redrive_allow_policy(by_queue)
    redrive.check_target("", policy, SOURCE, allowed)
    redrive.check_target("", policy, SOURCE, redrive.RedriveAllowPolicy())
    other = names.QueueName("other")
    denied = redrive.redrive_allow_policy('{"redrivePermission": "denyAll"}')
    for source, allow, part in (
        (other, allowed, "does not permit arn:aws:sqs:us-east-1:000000000000:other"),
        (SOURCE, denied, "does not permit"),
        (SOURCE, None, "Dead letter target does not exist."),
        (names.QueueName("x.fifo"), allowed, "must be same type of queue as the source."),
        (names.QueueName("x", "111111111111"), allowed, "owner should be same"),
    ):
        said = refusal(partial(redrive.check_target, "", policy, source, allow))
        assert part in said


@pytest.mark.parametrize(
    "content",
    [
        {"redrivePermission": "some"},
        {"redrivePermission": "byQueue"},
        {"redrivePermission": "byQueue", "sourceQueueArns": [SOURCE.arn] * 11},
        {"redrivePermission": "byQueue", "sourceQueueArns": ["x"]},
        {"redrivePermission": "denyAll", "sourceQueueArns": [SOURCE.arn]},
    ],
)
def test_a_bad_redrive_allow_policy_is_refused(content: dict[str, Any]) -> None:
    said = refusal(lambda: redrive.redrive_allow_policy(json.dumps(content)))
    assert "for parameter RedriveAllowPolicy is invalid." in said


def test_a_permission_is_a_statement_of_the_policy() -> None:
    one = policies.added("", SOURCE, "one", ["111111111111"], ["SendMessage"])
    assert json.loads(one) == {
        "Version": "2008-10-17",
        "Id": f"{SOURCE.arn}/SQSDefaultPolicy",
        "Statement": [
            {
                "Sid": "one",
                "Effect": "Allow",
                "Principal": {"AWS": "arn:aws:iam::111111111111:root"},
                "Action": "SQS:SendMessage",
                "Resource": SOURCE.arn,
            }
        ],
    }
    two = policies.added(one, SOURCE, "two", ["111111111111"] * 2, ["SendMessage", "*"])
    assert json.loads(two)["Statement"][1]["Action"] == ["SQS:SendMessage", "SQS:*"]
    assert json.loads(policies.removed(two, SOURCE, "two")) == json.loads(one)
    assert policies.removed(one, SOURCE, "one") == ""


def test_a_permission_that_is_not_possible_is_refused() -> None:
    one = policies.added("", SOURCE, "one", ["111111111111"], ["SendMessage"])
    account, send = ["111111111111"], ["SendMessage"]
    for accounts, actions, part in (
        (account, [], "MissingParameter: The request must contain the parameter Actions."),
        ([], send, "Value [] for parameter PrincipalId is invalid. Reason: Unable to verify."),
        (account, ["RemovePermission"], "Only the queue owner is allowed to invoke this action."),
        (account, ["SendMessage"] * 8, "OverLimit: 8 Actions were found, maximum allowed is 7."),
    ):
        assert part in refusal(partial(policies.added, one, SOURCE, "two", accounts, actions))
    assert refusal(lambda: policies.added(one, SOURCE, "one", account, send)).endswith(
        "Value one for parameter Label is invalid. Reason: Already exists."
    )
    assert refusal(lambda: policies.removed(one, SOURCE, "two")).endswith(
        "Value two for parameter Label is invalid. Reason: can't find label."
    )
    assert "not JSON" in refusal(lambda: policies.removed("x", SOURCE, "one"))


def test_a_queue_has_one_key_in_the_store() -> None:
    elsewhere = names.QueueName("orders", "111111111111", "cn-north-1")
    assert SOURCE.key == "orders"
    assert elsewhere.key == "orders@111111111111.cn-north-1"
    assert elsewhere.arn == "arn:aws-cn:sqs:cn-north-1:111111111111:orders"
    dead = elsewhere._replace(name="orders-dlq")
    assert dead.key == "orders@111111111111.cn-north-1-dlq" == dead_letter_name(elsewhere.key)
    for name in (SOURCE, elsewhere, dead, names.QueueName("orders-dlq")):
        assert names.from_key(name.key) == names.from_arn(name.arn) == name


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://localhost:4566/000000000000/orders", SOURCE),
        ("https://other.example/000000000000/orders/", SOURCE),
        ("http://h/queue/eu-west-1/000000000000/q", ("q", "000000000000", "eu-west-1")),
        ("http://sqs.eu-west-1.example.org/000000000000/q", ("q", "000000000000", "eu-west-1")),
        ("http://eu-west-1.queue.example.org/000000000000/q", ("q", "000000000000", "eu-west-1")),
        ("orders", SOURCE),
    ],
)
def test_the_host_of_a_queue_url_may_be_any(url: str, expected: tuple[str, str, str]) -> None:
    assert names.of_url(context_without_store(), {"QueueUrl": url}) == expected


@pytest.mark.parametrize(
    "url", ["http://h/x/orders", "http://h/orders", "http://[", "a b", "http://h/1/2/3", "../x"]
)
def test_another_url_is_that_of_no_queue(url: str) -> None:
    said = refusal(lambda: names.of_url(context_without_store(), {"QueueUrl": url}))
    assert said == ("AWS.SimpleQueueService.NonExistentQueue: The specified queue does not exist.")


def test_the_name_of_a_new_queue_is_one_of_aws() -> None:
    context = context_without_store()
    plain = "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length"
    for name in ("a" * 81, "a.b", "ä", "a.fifo"):
        assert plain in refusal(partial(names.new_name, name, context, is_fifo=False))
    for name in ("a", "a.fif"):
        assert "must end with .fifo suffix" in refusal(
            partial(names.new_name, name, context, is_fifo=True)
        )
    assert names.new_name("a" * 75 + ".fifo", context, is_fifo=True).is_fifo
    assert plain in refusal(lambda: names.new_name("a" * 76 + ".fifo", context, is_fifo=True))


def test_a_receipt_handle_is_read_as_it_was_written() -> None:
    handle = handles.Handle(Receipt("orders", "12", "ab" * 16), 1_700_000_000_000, 2, 1)
    assert handles.parse(str(handle), "orders") == handle
    for text in ("garbage", str(handle)[:-2], "ä", "", "A" * 3000, str(handle) + "AAAA"):
        said = refusal(partial(handles.parse, text, "orders"))
        assert said == (
            f'ReceiptHandleIsInvalid: The input receipt handle "{text}" is not a valid receipt '
            "handle."
        )
    assert "ReceiptHandleIsInvalid" in refusal(lambda: handles.parse(str(handle), "others"))


def test_a_task_handle_is_read_as_it_was_written() -> None:
    assert handles.parse_move(handles.move_handle("7", SOURCE.arn)) == ("7", SOURCE.arn)
    for text in ("x", "e30=", "W10=", "bnVsbA==", "eyJ0YXNrSWQiOjEsInNvdXJjZUFybiI6MX0="):
        said = refusal(partial(handles.parse_move, text))
        assert said == "InvalidParameterValue: Value for parameter TaskHandle is invalid."


@given(st.text(max_size=60))
def test_any_text_as_a_handle_or_a_url_is_read_or_refused(text: str) -> None:
    context: Context = context_without_store()
    for read in (
        lambda: handles.parse(text, "orders"),
        lambda: handles.parse_move(text),
        lambda: names.of_url(context, {"QueueUrl": text}),
        lambda: names.new_name(text, context, is_fifo=True),
        lambda: redrive.redrive_policy(text),
        lambda: redrive.redrive_allow_policy(text),
    ):
        with suppress(ServiceError):
            assert read() is not None
