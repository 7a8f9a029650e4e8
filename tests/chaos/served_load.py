"""Threads that use an SQS endpoint while it is killed, and note each request in ledgers."""

from __future__ import annotations

import json
import os
import threading
import time
import traceback
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.chaos.served_client import Client, Refused, Unanswered
from tests.chaos.served_ledger import Ledger

STANDARD: Final = "parcels"
FIFO: Final = "steps.fifo"
SOURCE: Final = "calls"
DEAD: Final = "calls-dead"
MOVED: Final = "calls-moved"
#: Leases outlive the restart of a server, except where a lost answer must not hold a group.
VISIBILITY: Final = {STANDARD: 20, FIFO: 3, SOURCE: 30, DEAD: 5, MOVED: 30}
GROUPS: Final = ("g1", "g2", "g3")
#: Messages that wait before the senders pause.
BACKLOG: Final = 300
#: The rate of a move task: slow enough that kills meet it, and sends are no faster.
MOVES_PER_SECOND: Final = 20
_PAUSE_SECONDS: Final = 0.02
_ARN: Final = "arn:aws:sqs:us-east-1:000000000000:"


@dataclass
class Load:
    """The threads of a run, and their ledgers.

    Args:
        port: of the endpoint.
        order_file: each message of the FIFO queue, as it is received, by the workers of Python too.
    """

    port: int
    order_file: Path
    parcels: Ledger = field(default_factory=Ledger)
    steps: Ledger = field(default_factory=Ledger)
    calls: dict[str, bool] = field(default_factory=dict)
    moves: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._threads: list[threading.Thread] = []

    def url(self, queue: str) -> str:
        return f"http://127.0.0.1:{self.port}/000000000000/{queue}"

    def create_queues(self) -> None:
        client = Client(self.port)
        policy = {"deadLetterTargetArn": f"{_ARN}{DEAD}", "maxReceiveCount": 1}
        for queue in (STANDARD, FIFO, DEAD, MOVED, SOURCE):
            attributes = {"VisibilityTimeout": str(VISIBILITY[queue])}
            if queue == FIFO:
                attributes["FifoQueue"] = "true"
            if queue == SOURCE:
                attributes["RedrivePolicy"] = json.dumps(policy)
            made = client("CreateQueue", QueueName=queue, Attributes=attributes)
            assert made["QueueUrl"] == self.url(queue)
        client.close()

    def start(self) -> None:
        works: list[Callable[[Client], None]] = [
            *(self._send_parcels, self._send_parcels_in_batches),
            *(self._take_parcels, self._take_parcels),
            *((lambda client, group=group: self._send_steps(client, group)) for group in GROUPS),
            *(self._take_steps, self._take_steps),
            self._move_calls,
        ]
        for work in works:
            self._threads.append(threading.Thread(target=self._run, args=(work,)))
            self._threads[-1].start()

    def end(self) -> None:
        self.stop.set()
        for thread in self._threads:
            thread.join(120)
            assert not thread.is_alive()

    def _run(self, work: Callable[[Client], None]) -> None:
        client = Client(self.port)
        try:
            work(client)
        except Exception:  # noqa: BLE001 - the run fails with it
            self.errors.append(traceback.format_exc())
            self.stop.set()
        finally:
            client.close()

    def again(self, client: Client, action: str, **parameters: Any) -> dict[str, Any]:
        """Call an action that may be repeated until it is answered, by whichever server."""
        while True:
            try:
                return client(action, **parameters)
            except Unanswered:
                time_to_retry.wait(_PAUSE_SECONDS)

    def _send_parcels(self, client: Client) -> None:
        number = 0
        while not self.stop.is_set():
            number += 1
            body = f"single {number}"
            self.parcels.sending(body)
            try:
                sent = client("SendMessage", QueueUrl=self.url(STANDARD), MessageBody=body)
            except Unanswered:
                self.stop.wait(_PAUSE_SECONDS)
                continue
            self.parcels.sent(body, sent["MessageId"])
            self._let_catch_up(self.parcels)

    def _send_parcels_in_batches(self, client: Client) -> None:
        number = 0
        while not self.stop.is_set():
            bodies = [f"batch {number + more}" for more in range(10)]
            number += 10
            for body in bodies:
                self.parcels.sending(body)
            entries = [{"Id": str(at), "MessageBody": body} for at, body in enumerate(bodies)]
            try:
                sent = client("SendMessageBatch", QueueUrl=self.url(STANDARD), Entries=entries)
            except Unanswered:
                self.stop.wait(_PAUSE_SECONDS)
                continue
            for one in sent["Successful"]:
                self.parcels.sent(bodies[int(one["Id"])], one["MessageId"])
            self._let_catch_up(self.parcels)

    def _let_catch_up(self, ledger: Ledger) -> None:
        while ledger.waiting() > BACKLOG and not self.stop.is_set():
            self.stop.wait(_PAUSE_SECONDS)

    def _take_parcels(self, client: Client) -> None:
        url = self.url(STANDARD)
        while not self.stop.is_set():
            began, asked = time.monotonic(), self.parcels.event()
            try:
                found = client(
                    "ReceiveMessage", QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1
                )
            except Unanswered:
                self.stop.wait(_PAUSE_SECONDS)
                continue
            messages = found.get("Messages", [])
            for message in messages:
                self.parcels.received(asked, message["MessageId"], message["Body"])
            self._delete_parcels(client, messages, began + VISIBILITY[STANDARD])

    def _delete_parcels(self, client: Client, messages: list[dict[str, Any]], end: float) -> None:
        """Delete messages; a delete counts whose answer comes within the lease."""
        url = self.url(STANDARD)
        for message in messages:
            self.parcels.deleting(message["Body"])
        entries = [
            {"Id": str(at), "ReceiptHandle": message["ReceiptHandle"]}
            for at, message in enumerate(messages)
        ]
        if len(entries) > 1:
            answer = self.again(client, "DeleteMessageBatch", QueueUrl=url, Entries=entries)
            deleted = [int(one["Id"]) for one in answer["Successful"]]
        else:
            for entry in entries:
                handle = entry["ReceiptHandle"]
                self.again(client, "DeleteMessage", QueueUrl=url, ReceiptHandle=handle)
            deleted = [*range(len(entries))]
        if time.monotonic() < end:
            for at in deleted:
                self.parcels.deleted(messages[at]["Body"])

    def _send_steps(self, client: Client, group: str) -> None:
        number = 0
        while not self.stop.is_set():
            number += 1
            body = f"{group} {number}"
            self.steps.sending(body)
            sent = self.again(
                client,
                "SendMessage",
                QueueUrl=self.url(FIFO),
                MessageBody=body,
                MessageGroupId=group,
                MessageDeduplicationId=f"{group}-{number}",
            )
            self.steps.sent(body, sent["MessageId"])
            self.stop.wait(_PAUSE_SECONDS)

    def _take_steps(self, client: Client) -> None:
        descriptor = os.open(self.order_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            while not self.stop.is_set():
                self._take_some_steps(client, descriptor)
        finally:
            os.close(descriptor)

    def _take_some_steps(self, client: Client, descriptor: int) -> None:
        asked = self.steps.event()
        found = self.again(
            client,
            "ReceiveMessage",
            QueueUrl=self.url(FIFO),
            MaxNumberOfMessages=5,
            WaitTimeSeconds=1,
            ReceiveRequestAttemptId=uuid.uuid4().hex,
        )
        messages = found.get("Messages", [])
        for message in messages:
            self.steps.received(asked, message["MessageId"], message["Body"])
        for message in messages:
            os.write(descriptor, f"{message['Body']} client {threading.get_native_id()}\n".encode())
            self.steps.deleting(message["Body"])
            handle = message["ReceiptHandle"]
            try:
                self.again(client, "DeleteMessage", QueueUrl=self.url(FIFO), ReceiptHandle=handle)
            except Refused as error:
                if "expired" not in str(error):
                    raise
                return  # its lease has ended, and with it the right to go on in the group
            self.steps.deleted(message["Body"])

    def _move_calls(self, client: Client) -> None:
        number = 0
        while not self.stop.is_set():
            bodies = [f"call {number + more}" for more in range(10)]
            number += 10
            entries = [{"Id": str(at), "MessageBody": body} for at, body in enumerate(bodies)]
            self.calls |= dict.fromkeys(bodies, False)
            try:
                client("SendMessageBatch", QueueUrl=self.url(SOURCE), Entries=entries)
                self.calls |= dict.fromkeys(bodies, True)
            except Unanswered:
                self.stop.wait(_PAUSE_SECONDS)
                continue
            self.bury(client)
            self._start_move(client)
            self.stop.wait(len(bodies) / MOVES_PER_SECOND)  # the moves keep up

    def bury(self, client: Client) -> None:
        """Receive calls until all have been received once too often."""
        receive = {"QueueUrl": self.url(SOURCE), "MaxNumberOfMessages": 10, "VisibilityTimeout": 0}
        while self.again(client, "ReceiveMessage", **receive).get("Messages"):
            pass

    def _start_move(self, client: Client) -> None:
        try:
            started = client(
                "StartMessageMoveTask",
                SourceArn=f"{_ARN}{DEAD}",
                DestinationArn=f"{_ARN}{MOVED}",
                MaxNumberOfMessagesPerSecond=MOVES_PER_SECOND,
            )
        except Unanswered:
            return
        except Refused as error:
            if "already a task running" not in str(error):
                raise
            return
        self.moves.append(started["TaskHandle"])


#: Is never set: its waits are pauses.
time_to_retry: Final = threading.Event()
