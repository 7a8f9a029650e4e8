"""Message move tasks over SQS: rate, progress, cancellation, failure, restart."""

import asyncio
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest

from durableq.engines.sql.redrive_steps import PAGE
from durableq.model.dead_letters import one_at_a_time
from durableq.model.errors import Busy
from durableq.serve.errors import ServiceError
from durableq.serve.sqs import attending
from durableq.serve.sqs.handles import move_handle, parse_move
from tests.engine import loops
from tests.serve.sqs_client import ON_BOTH, Sqs, client_of
from tests.support import scaled, sizes_of_steps

ARN = "arn:aws:sqs:us-east-1:000000000000:"
DEAD = f"{ARN}orders-dlq"


def dead_letters(sqs: Sqs, number: int) -> str:
    """Let so many messages of a queue die; return its URL."""
    sqs.app.queue("orders", max_receives=1)
    url: str = sqs("GetQueueUrl", QueueName="orders")["QueueUrl"]
    for start in range(0, number, 10):
        entries = [
            {"Id": str(n), "MessageBody": str(n)} for n in range(start, min(start + 10, number))
        ]
        sqs("SendMessageBatch", url, Entries=entries)
        returned = [
            {"Id": str(n), "ReceiptHandle": message["ReceiptHandle"], "VisibilityTimeout": 0}
            for n, message in enumerate(sqs.receive(url, 10))
        ]
        sqs("ChangeMessageVisibilityBatch", url, Entries=returned)
    assert sqs.counts(f"{url}-dlq") == (number, 0, 0)
    return url


def start(sqs: Sqs, **parameters: Any) -> str:
    """Start a task, and return its handle."""
    handle: str = sqs("StartMessageMoveTask", SourceArn=DEAD, **parameters)["TaskHandle"]
    return handle


def newest(sqs: Sqs) -> dict[str, Any]:
    """Return the newest task."""
    (found,) = sqs("ListMessageMoveTasks", SourceArn=DEAD)["Results"]
    return dict(found)


def attended(sqs: Sqs, fact: Callable[[dict[str, Any]], object], arn: str = DEAD) -> dict[str, Any]:
    """Carry out tasks until the newest one is as it should be; return it."""

    async def run() -> dict[str, Any]:
        beside = asyncio.create_task(attending.attend(sqs.app))
        try:
            async with asyncio.timeout(scaled(60)):
                while True:
                    found = await sqs.ask("ListMessageMoveTasks", SourceArn=arn)
                    if fact(found["Results"][0]):
                        return dict(found["Results"][0])
                    await loops.turns()
        finally:
            beside.cancel()
            await asyncio.wait({beside})

    return sqs.run(run)


def ended(found: dict[str, Any]) -> bool:
    return bool(found["Status"] != "RUNNING")


@ON_BOTH
def test_a_task_moves_dead_letters_back_as_new_messages(sqs: Sqs) -> None:
    url = dead_letters(sqs, 25)
    (letter,) = sqs.receive(f"{url}-dlq", VisibilityTimeout=0, AttributeNames=["All"])
    assert letter["Attributes"]["DeadLetterQueueSourceArn"] == f"{ARN}orders"
    start(sqs)
    found = attended(sqs, ended)
    assert found["Status"] == "COMPLETED"
    assert found["ApproximateNumberOfMessagesMoved"] == 25
    assert found["ApproximateNumberOfMessagesToMove"] == 25
    assert found["SourceArn"] == DEAD
    assert not {"TaskHandle", "DestinationArn", "MaxNumberOfMessagesPerSecond"} & set(found)
    received = [one for _ in range(3) for one in sqs.receive(url, 10, AttributeNames=["All"])]
    assert sorted(int(message["Body"]) for message in received) == [*range(25)]
    assert letter["MessageId"] not in {message["MessageId"] for message in received}
    assert {message["Attributes"]["ApproximateReceiveCount"] for message in received} == {"1"}
    sent = {message["Body"]: int(message["Attributes"]["SentTimestamp"]) for message in received}
    assert sent[letter["Body"]] >= int(letter["Attributes"]["SentTimestamp"])


def test_a_step_ends_when_its_time_is_over(sqs: Sqs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attending, "REDRIVE_STEP_MS", 0)
    dead_letters(sqs, 25)
    sizes = sizes_of_steps(monkeypatch)
    start(sqs)
    assert attended(sqs, ended)["Status"] == "COMPLETED"
    assert sizes == [PAGE, PAGE, 5]


def policy(target: str) -> str:
    """Return the policy of a queue whose messages die at their second receive."""
    return json.dumps({"deadLetterTargetArn": f"{ARN}{target}", "maxReceiveCount": 1})


def die(sqs: Sqs, name: str, body: str, **parameters: Any) -> None:
    """Send a message to a queue, create it if it is missing, and let it die."""
    end = ".fifo" if name.endswith(".fifo") else ""
    url = sqs.queue(name, RedrivePolicy=policy(f"orders-dlq{end}"))
    sqs.send(url, body, **parameters)
    assert sqs.bodies(url, VisibilityTimeout=0) == [body]
    assert not sqs.receive(url)


@ON_BOTH
def test_a_task_moves_all_messages_of_a_queue(sqs: Sqs) -> None:
    """Also those of queues that have another dead-letter queue by now, or are gone."""
    dead, other = sqs.queue("orders-dlq"), sqs.queue("other")
    for name in ("orders", "elsewhere", "gone"):
        die(sqs, name, name)
    sqs("SetQueueAttributes", sqs.queue("elsewhere"), Attributes={"RedrivePolicy": ""})
    sqs("DeleteQueue", sqs.queue("gone", RedrivePolicy=policy("orders-dlq")))
    sent = {
        sqs.send(dead, body, **late)["MessageId"]
        for body, late in (("direct", {}), ("later", {"DelaySeconds": 9}))
    }
    start(sqs, DestinationArn=f"{ARN}other")
    late = sqs.send(dead, "late")
    found = attended(sqs, ended)
    assert found["Status"] == "COMPLETED"
    assert found["ApproximateNumberOfMessagesMoved"] == 5
    assert found["ApproximateNumberOfMessagesToMove"] == 5
    received = sqs.receive(other, 10, AttributeNames=["All"])
    bodies = ["direct", "elsewhere", "gone", "later", "orders"]
    assert sorted(message["Body"] for message in received) == bodies
    assert sent.isdisjoint(message["MessageId"] for message in received)
    assert {message["Attributes"]["ApproximateReceiveCount"] for message in received} == {"1"}
    assert not {one for each in received for one in each["Attributes"] if "DeadLetter" in one}
    assert [message["MessageId"] for message in sqs.receive(dead, 10)] == [late["MessageId"]]


@ON_BOTH
def test_a_task_keeps_groups_and_drops_no_duplicates(sqs: Sqs) -> None:
    dead, other = sqs.queue("orders-dlq.fifo"), sqs.queue("other.fifo")
    grouped = {"MessageGroupId": "a"}
    die(sqs, "orders.fifo", "0", MessageDeduplicationId="0", **grouped)
    for number in "123":
        sqs.send(dead, number, MessageDeduplicationId=number, **grouped)
    sqs.send(other, "there", MessageDeduplicationId="1", **grouped)
    arn = f"{DEAD}.fifo"
    sqs("StartMessageMoveTask", SourceArn=arn, DestinationArn=f"{ARN}other.fifo")
    assert attended(sqs, ended, arn)["ApproximateNumberOfMessagesMoved"] == 4
    sqs.send(other, "again", MessageDeduplicationId="2", **grouped)
    assert sqs.bodies(other) == ["there", "0", "1", "2", "3", "again"]


def test_a_task_without_a_target_fails_at_a_message_without_a_source(sqs: Sqs) -> None:
    dead = sqs.queue("orders-dlq")
    die(sqs, "orders", "first")
    sqs.send(dead, "direct")
    die(sqs, "orders", "last")
    start(sqs)
    found = attended(sqs, ended)
    assert found["Status"] == "FAILED"
    assert found["FailureReason"] == "CouldNotDetermineMessageSource"
    assert found["ApproximateNumberOfMessagesMoved"] == 1
    assert "TaskHandle" not in found
    assert sqs.bodies(sqs.queue("orders", RedrivePolicy=policy("orders-dlq"))) == ["first"]
    assert sqs.bodies(dead) == ["direct", "last"]


@ON_BOTH
def test_of_two_servers_one_starts_a_task(sqs: Sqs) -> None:
    dead_letters(sqs, 1)
    ready = threading.Barrier(2)

    def attempt(_: int) -> str:
        with client_of(sqs.app.url) as server:
            ready.wait(scaled(60))
            try:
                return start(server)
            except ServiceError as error:
                return str(error)

    with ThreadPoolExecutor(2) as pool:
        refused, handle = sorted(pool.map(attempt, range(2)))
    assert refused.startswith("InvalidParameterValue: There is already a task running.")
    assert newest(sqs)["TaskHandle"] == handle
    task_id, arn = parse_move(handle)
    assert (str(UUID(task_id)), arn) == (task_id, DEAD)


def test_a_task_is_refused_beside_one_that_has_ended_since(
    sqs: Sqs, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead_letters(sqs, 1)
    store: Any = sqs.app.store

    def refuse(*_: Any, **__: Any) -> Any:
        raise one_at_a_time("orders-dlq")

    monkeypatch.setattr(store, "start_redrive", refuse)
    said = sqs.refusal("StartMessageMoveTask", SourceArn=DEAD)
    assert said.startswith("InvalidParameterValue: There is already a task running.")


def test_a_task_moves_messages_to_another_queue(sqs: Sqs) -> None:
    dead_letters(sqs, 3)
    other = sqs.queue("other")
    start(sqs, DestinationArn=f"{ARN}other", MaxNumberOfMessagesPerSecond=500)
    found = attended(sqs, ended)
    assert found["DestinationArn"] == f"{ARN}other"
    assert found["MaxNumberOfMessagesPerSecond"] == 500
    assert sorted(sqs.bodies(other)) == ["0", "1", "2"]


def test_a_task_keeps_its_rate_and_is_cancelled(sqs: Sqs) -> None:
    url = dead_letters(sqs, 30)
    handle = start(sqs, MaxNumberOfMessagesPerSecond=1)
    assert newest(sqs)["TaskHandle"] == handle
    found = attended(sqs, lambda one: one["ApproximateNumberOfMessagesMoved"])
    assert found["Status"] == "RUNNING"
    assert found["ApproximateNumberOfMessagesMoved"] < 10
    said = sqs.refusal("StartMessageMoveTask", SourceArn=DEAD)
    assert said == (
        "InvalidParameterValue: There is already a task running. Only one active task is allowed "
        "for a source queue arn at a given time."
    )
    moved = sqs("CancelMessageMoveTask", TaskHandle=handle)["ApproximateNumberOfMessagesMoved"]
    assert newest(sqs)["Status"] == "CANCELLED"
    assert sqs.counts(url)[0] == moved
    assert sqs.counts(f"{url}-dlq")[0] == 30 - moved
    assert sqs.refusal("CancelMessageMoveTask", TaskHandle=handle).startswith(
        "InvalidParameterValue: "
    )


def test_a_task_goes_on_when_another_server_starts(sqs: Sqs) -> None:
    url = dead_letters(sqs, 5)
    start(sqs)
    with client_of(sqs.app.url) as other:
        assert attended(other, ended)["Status"] == "COMPLETED"
    assert sqs.counts(url) == (5, 0, 0)


def test_a_task_whose_target_is_deleted_has_failed(sqs: Sqs) -> None:
    dead_letters(sqs, 3)
    other = sqs.queue("other")
    start(sqs, DestinationArn=f"{ARN}other")
    sqs("DeleteQueue", other)
    found = attended(sqs, ended)
    assert found["Status"] == "FAILED"
    assert found["FailureReason"] == "AWS.SimpleQueueService.NonExistentQueue"
    start(sqs)
    assert attended(sqs, ended)["Status"] == "COMPLETED"
    listed = sqs("ListMessageMoveTasks", SourceArn=DEAD, MaxResults=10)["Results"]
    assert [one["Status"] for one in listed] == ["COMPLETED", "FAILED"]


def test_a_task_of_a_deleted_queue_is_gone_and_others_go_on(
    sqs: Sqs, caplog: pytest.LogCaptureFixture
) -> None:
    gone, other = sqs.queue("gone-dead"), sqs.queue("other")
    sqs.queue("gone", RedrivePolicy=policy("gone-dead"))
    sqs.send(gone)
    arn = f"{ARN}gone-dead"
    sqs("StartMessageMoveTask", SourceArn=arn, DestinationArn=f"{ARN}other")
    sqs("DeleteQueue", gone)
    dead_letters(sqs, 3)
    start(sqs)
    assert attended(sqs, ended)["Status"] == "COMPLETED"
    sqs.queue("gone-dead")
    assert sqs("ListMessageMoveTasks", SourceArn=arn) == {"Results": []}
    assert sqs.counts(other) == (0, 0, 0)
    assert not caplog.records


def test_a_task_goes_on_after_the_store_was_busy(sqs: Sqs, monkeypatch: pytest.MonkeyPatch) -> None:
    dead_letters(sqs, 3)
    store: Any = sqs.app.store
    go_on, calls = store.continue_redrive, []

    def busy(task_id: str, limit: int, **within: int) -> Any:
        calls.append(task_id)
        if len(calls) == 1:
            raise Busy("Another process is writing.")
        return go_on(task_id, limit, **within)

    monkeypatch.setattr(store, "continue_redrive", busy)
    monkeypatch.setattr(attending, "PAUSE_SECONDS", 0.01)
    start(sqs)
    assert attended(sqs, ended)["Status"] == "COMPLETED"


@pytest.mark.parametrize(
    ("action", "parameters", "said"),
    [
        (
            "StartMessageMoveTask",
            {"SourceArn": f"{ARN}nowhere"},
            "ResourceNotFoundException: The resource that you specified for the SourceArn "
            "parameter doesn't exist.",
        ),
        (
            "StartMessageMoveTask",
            {"SourceArn": "x"},
            "InvalidParameterValue: You must use this format to specify the SourceArn: "
            "arn:<partition>:<service>:<region>:<account-id>:<resource-id>",
        ),
        (
            "StartMessageMoveTask",
            {"SourceArn": f"{ARN}orders"},
            "InvalidParameterValue: Source queue must be configured as a Dead Letter Queue.",
        ),
        (
            "StartMessageMoveTask",
            {"SourceArn": DEAD, "DestinationArn": f"{ARN}nowhere"},
            "ResourceNotFoundException: The resource that you specified for the DestinationArn "
            "parameter doesn't exist.",
        ),
        (
            "StartMessageMoveTask",
            {"SourceArn": DEAD, "DestinationArn": f"{ARN}steps.fifo"},
            "InvalidParameterValue: Destination queue must be same type of queue as the source.",
        ),
        (
            "StartMessageMoveTask",
            {"SourceArn": DEAD, "DestinationArn": DEAD},
            "InvalidParameterValue: Queue 'orders-dlq' cannot be moved to itself.",
        ),
        (
            "StartMessageMoveTask",
            {"SourceArn": DEAD, "MaxNumberOfMessagesPerSecond": 501},
            "InvalidParameterValue: Value 501 for parameter MaxNumberOfMessagesPerSecond is "
            "invalid. Reason: Must be between 1 and 500, if provided.",
        ),
        (
            "ListMessageMoveTasks",
            {"SourceArn": f"{ARN}nowhere"},
            "ResourceNotFoundException: The resource that you specified for the SourceArn "
            "parameter doesn't exist.",
        ),
        (
            "CancelMessageMoveTask",
            {"TaskHandle": "x"},
            "InvalidParameterValue: Value for parameter TaskHandle is invalid.",
        ),
        (
            "CancelMessageMoveTask",
            {"TaskHandle": move_handle("1", f"{ARN}nowhere")},
            "ResourceNotFoundException: The resource that you specified for the SourceArn "
            "parameter doesn't exist.",
        ),
        (
            "CancelMessageMoveTask",
            {"TaskHandle": move_handle("1", DEAD)},
            "ResourceNotFoundException: Task does not exist.",
        ),
    ],
)
def test_a_task_that_is_not_possible_is_refused(
    sqs: Sqs, action: str, parameters: dict[str, Any], said: str
) -> None:
    dead_letters(sqs, 1)
    sqs.queue("steps.fifo")
    assert sqs.refusal(action, **parameters) == said
    assert sqs("ListMessageMoveTasks", SourceArn=DEAD) == {"Results": []}
