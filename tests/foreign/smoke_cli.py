"""The AWS CLI calls each action of SQS.

Version 1 takes the endpoint of SQS only from --endpoint-url.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.foreign.smoke import ACTIONS, ENDPOINT, ENVIRONMENT, new_name, wait_for

AWS = str(Path(sys.executable).with_name("aws"))


class Cli:
    """The program, and the actions that were called with it."""

    def __init__(self) -> None:
        self.called: set[str] = set()

    def __call__(self, action: str, **options: Any) -> dict[str, Any]:
        self.called.add(action.title().replace("-", ""))
        arguments = ["--endpoint-url", ENDPOINT, "sqs", action]
        for name, value in options.items():
            text = value if isinstance(value, str) else json.dumps(value)
            arguments += [f"--{name.replace('_', '-')}", text]
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        ended = subprocess.run(
            [AWS, *arguments],
            env=environment | ENVIRONMENT,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert ended.returncode == 0, (action, ended.stderr)
        answer: dict[str, Any] = json.loads(ended.stdout or "{}")
        return answer

    def attributes(self, url: str) -> dict[str, str]:
        found: dict[str, str] = self(
            "get-queue-attributes", queue_url=url, attribute_names=["All"]
        )["Attributes"]
        return found


def test_every_action_is_called() -> None:
    aws = Cli()
    url, dead = _queues(aws)
    _messages(aws, url)
    _dead_letters(aws, url, dead)
    aws("purge-queue", queue_url=url)
    for one in (url, dead):
        aws("delete-queue", queue_url=one)
    assert aws("list-queues", queue_name_prefix=url.rpartition("/")[2]).get("QueueUrls", []) == []
    assert aws.called == ACTIONS


def test_the_caller_is_known() -> None:
    ended = subprocess.run(
        [AWS, "--endpoint-url", ENDPOINT, "sts", "get-caller-identity"],
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    assert set(json.loads(ended.stdout)) == {"UserId", "Account", "Arn"}


def _queues(aws: Cli) -> tuple[str, str]:
    name = new_name("cli")
    dead = aws("create-queue", queue_name=f"{name}-letters")["QueueUrl"]
    arn = aws.attributes(dead)["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": "1"})
    url = aws("create-queue", queue_name=name, tags={"team": "shop", "stage": "test"})["QueueUrl"]
    aws("set-queue-attributes", queue_url=url, attributes={"RedrivePolicy": policy})
    assert aws("get-queue-url", queue_name=name)["QueueUrl"] == url
    aws("tag-queue", queue_url=url, tags={"owner": "us"})
    aws("untag-queue", queue_url=url, tag_keys=["stage"])
    assert aws("list-queue-tags", queue_url=url)["Tags"] == {"team": "shop", "owner": "us"}
    aws(
        "add-permission",
        queue_url=url,
        label="ours",
        aws_account_ids=["111122223333"],
        actions=["SendMessage"],
    )
    aws("remove-permission", queue_url=url, label="ours")
    assert aws("list-dead-letter-source-queues", queue_url=dead)["queueUrls"] == [url]
    return url, dead


def _messages(aws: Cli, url: str) -> None:
    sent = aws("send-message", queue_url=url, message_body="hello")
    [message] = aws("receive-message", queue_url=url, wait_time_seconds="5")["Messages"]
    assert (message["Body"], message["MessageId"]) == ("hello", sent["MessageId"])
    handle = message["ReceiptHandle"]
    aws("change-message-visibility", queue_url=url, receipt_handle=handle, visibility_timeout="60")
    entry = {"Id": "1", "ReceiptHandle": handle}
    changed = aws(
        "change-message-visibility-batch",
        queue_url=url,
        entries=[entry | {"VisibilityTimeout": 50}],
    )
    assert [one["Id"] for one in changed["Successful"]] == ["1"]
    aws("delete-message", queue_url=url, receipt_handle=handle)
    deleted = aws("delete-message-batch", queue_url=url, entries=[entry])
    assert [one["Id"] for one in deleted["Successful"]] == ["1"]


def _dead_letters(aws: Cli, url: str, dead: str) -> None:
    entries = [{"Id": str(n), "MessageBody": f"body {n}"} for n in range(3)]
    assert len(aws("send-message-batch", queue_url=url, entries=entries)["Successful"]) == 3

    def are_dead() -> bool:
        aws("receive-message", queue_url=url, visibility_timeout="0", max_number_of_messages="10")
        return aws.attributes(dead)["ApproximateNumberOfMessages"] == "3"

    wait_for(are_dead)
    arn = aws.attributes(dead)["QueueArn"]
    started = aws("start-message-move-task", source_arn=arn, max_number_of_messages_per_second="1")
    aws("cancel-message-move-task", task_handle=started["TaskHandle"])
    [found] = aws("list-message-move-tasks", source_arn=arn)["Results"]
    assert found["Status"] in {"CANCELLING", "CANCELLED"}
