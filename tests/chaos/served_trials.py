"""Messages of a FIFO queue that die, and come back to their groups by move tasks.

A consumer gives some messages back until they are buried as the first of their group. Move tasks
bring them to the end of the group, where they have a later sequence number.
"""

from __future__ import annotations

import itertools
import json
import random
import threading
import uuid
from collections.abc import Sequence
from typing import Any, Final

from tests.chaos.served_client import Client, Refused, Unanswered
from tests.chaos.served_ledger import Trial, Trials, Tried
from tests.chaos.served_queues import ARN, TRIALS, TRIALS_DEAD, VISIBILITY
from tests.chaos.served_takers import settle

#: Receives after which the next one buries a message.
RECEIVES: Final = 2
_GROUPS: Final = ("t1", "t2")
#: Of the messages: those that are given back.
_GIVEN_BACK: Final = 0.3
_PAUSE_SECONDS, _MOVE_SECONDS = 0.05, 1.0


def create(client: Client) -> None:
    """Create the queues."""
    policy = {"deadLetterTargetArn": f"{ARN}{TRIALS_DEAD}", "maxReceiveCount": RECEIVES}
    for queue, more in ((TRIALS_DEAD, {}), (TRIALS, {"RedrivePolicy": json.dumps(policy)})):
        attributes = {"FifoQueue": "true", "VisibilityTimeout": str(VISIBILITY[queue]), **more}
        client("CreateQueue", QueueName=queue, Attributes=attributes)


def send(client: Client, trials: Trials, stop: threading.Event) -> None:
    """Send messages of two groups in turn, each until it is answered."""
    for number in itertools.count(1):
        if stop.is_set():
            return
        group = _GROUPS[number % len(_GROUPS)]
        body = f"{group} {number}"
        trial = trials.messages[body] = Trial()
        client.again(
            "SendMessage",
            QueueUrl=client.url(TRIALS),
            MessageBody=body,
            MessageGroupId=group,
            MessageDeduplicationId=str(number),
        )
        trial.is_sent = True
        stop.wait(_PAUSE_SECONDS)


def take(client: Client, trials: Trials, stop: threading.Event) -> None:
    """Receive messages in order; delete them, or give them back and leave the rest of the batch."""
    while not stop.is_set():
        found = client.again(
            "ReceiveMessage",
            QueueUrl=client.url(TRIALS),
            MaxNumberOfMessages=3,
            WaitTimeSeconds=1,
            ReceiveRequestAttemptId=uuid.uuid4().hex,
            AttributeNames=["SequenceNumber"],
        )
        messages = found.get("Messages", [])
        for message in messages:
            number, body = int(message["Attributes"]["SequenceNumber"]), message["Body"]
            tried = Tried(body.split()[0], number, message["MessageId"], body)
            trials.received.append(tried)
        _judge(client, trials, messages)


def _judge(client: Client, trials: Trials, messages: Sequence[dict[str, Any]]) -> None:
    for at, message in enumerate(messages):
        if random.random() < _GIVEN_BACK:
            handles = [one["ReceiptHandle"] for one in messages[at:]]
            settle(client, "ChangeMessageVisibility", TRIALS, handles, VisibilityTimeout=0)
            return
        trial = trials.messages[message["Body"]]
        trial.is_deleting = True
        (error,) = settle(client, "DeleteMessage", TRIALS, [message["ReceiptHandle"]])
        if error is not None:
            return  # its lease has ended
        trial.is_deleted = True


def move(client: Client, tasks: list[str], stop: threading.Event) -> None:
    """Begin move tasks, one after another."""
    while not stop.wait(_MOVE_SECONDS):
        try:
            started = client("StartMessageMoveTask", SourceArn=f"{ARN}{TRIALS_DEAD}")
        except Unanswered:
            continue
        except Refused as error:
            if "already a task running" not in str(error):
                raise
            continue
        tasks.append(started["TaskHandle"])
