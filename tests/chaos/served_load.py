"""Threads that use an SQS endpoint while it is killed, and note each request in ledgers."""

from __future__ import annotations

import itertools
import json
import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from tests.chaos import served_trials
from tests.chaos.served_client import Client, Refused, Unanswered
from tests.chaos.served_ledger import Holds, Ledger, Trials
from tests.chaos.served_queues import ARN, DEAD, FIFO, MOVED, SOURCE, STANDARD, VISIBILITY
from tests.chaos.served_takers import ParcelTaker, StepTaker

#: Groups of the FIFO queue, and the messages of each send.
GROUPS: Final = {"g1": 1, "g2": 1, "g3": 4}
#: Messages that wait before the senders pause.
BACKLOG: Final = 300
#: The rate of a move task: slow enough that kills meet it, and sends are no faster.
MOVES_PER_SECOND: Final = 20
_PAUSE_SECONDS: Final = 0.02


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
    holds: Holds = field(default_factory=Holds)
    trials: Trials = field(default_factory=Trials)
    calls: dict[str, bool] = field(default_factory=dict)
    moves: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._threads: list[threading.Thread] = []

    def create_queues(self) -> None:
        client = Client(self.port)
        policy = {"deadLetterTargetArn": f"{ARN}{DEAD}", "maxReceiveCount": 1}
        for queue in (STANDARD, FIFO, DEAD, MOVED, SOURCE):
            attributes = {"VisibilityTimeout": str(VISIBILITY[queue])}
            if queue == FIFO:
                attributes["FifoQueue"] = "true"
            if queue == SOURCE:
                attributes["RedrivePolicy"] = json.dumps(policy)
            made = client("CreateQueue", QueueName=queue, Attributes=attributes)
            assert made["QueueUrl"] == client.url(queue)
        served_trials.create(client)
        client.close()

    def start(self) -> None:
        works: list[Callable[[Client], None]] = [
            *(self._send_parcels, self._send_parcels_in_batches),
            *(self._take_parcels, self._take_parcels),
            *(partial(self._send_steps, group=group, size=size) for group, size in GROUPS.items()),
            *(self._take_steps, self._take_steps),
            self._move_calls,
            partial(served_trials.send, trials=self.trials, stop=self.stop),
            partial(served_trials.take, trials=self.trials, stop=self.stop),
            partial(served_trials.move, tasks=self.moves, stop=self.stop),
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

    def _send_parcels(self, client: Client) -> None:
        number = 0
        while not self.stop.is_set():
            number += 1
            body = f"single {number}"
            self.parcels.sending(body)
            try:
                sent = client("SendMessage", QueueUrl=client.url(STANDARD), MessageBody=body)
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
                sent = client("SendMessageBatch", QueueUrl=client.url(STANDARD), Entries=entries)
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
        ParcelTaker(client, self.parcels).take(self.stop)

    def _take_steps(self, client: Client) -> None:
        StepTaker(client, self.steps, self.holds, self.order_file).take(self.stop)

    def _send_steps(self, client: Client, group: str, size: int) -> None:
        """Send the messages of a group, and repeat what was not answered, under the same ids."""
        for start in itertools.count(1, size):
            if self.stop.is_set():
                return
            steps = [_step(group, number) for number in range(start, start + size)]
            for one in steps:
                self.steps.sending(one["MessageBody"])
            for one, message_id in zip(steps, _sent(client, steps), strict=True):
                self.steps.sent(one["MessageBody"], message_id)
            self.stop.wait(_PAUSE_SECONDS * size)

    def _move_calls(self, client: Client) -> None:
        number = 0
        while not self.stop.is_set():
            bodies = [f"call {number + more}" for more in range(10)]
            number += 10
            self._send_calls(client, SOURCE, bodies[:7])
            self._send_calls(client, DEAD, bodies[7:])  # a move task is for these, too
            self.bury(client)
            self.start_move(client)
            self.stop.wait(len(bodies) / MOVES_PER_SECOND)  # the moves keep up

    def _send_calls(self, client: Client, queue: str, bodies: list[str]) -> None:
        entries = [{"Id": str(at), "MessageBody": body} for at, body in enumerate(bodies)]
        self.calls |= dict.fromkeys(bodies, False)
        try:
            client("SendMessageBatch", QueueUrl=client.url(queue), Entries=entries)
            self.calls |= dict.fromkeys(bodies, True)
        except Unanswered:
            self.stop.wait(_PAUSE_SECONDS)

    def bury(self, client: Client) -> None:
        """Receive calls until all have been received once too often."""
        receive = {
            "QueueUrl": client.url(SOURCE),
            "MaxNumberOfMessages": 10,
            "VisibilityTimeout": 0,
        }
        while client.again("ReceiveMessage", **receive).get("Messages"):
            pass

    def start_move(self, client: Client) -> None:
        """Start to move all calls that have died, or were sent to the dead-letter queue."""
        try:
            started = client(
                "StartMessageMoveTask",
                SourceArn=f"{ARN}{DEAD}",
                DestinationArn=f"{ARN}{MOVED}",
                MaxNumberOfMessagesPerSecond=MOVES_PER_SECOND,
            )
        except Unanswered:
            return
        except Refused as error:
            if "already a task running" not in str(error):
                raise
            return
        self.moves.append(started["TaskHandle"])


def _step(group: str, number: int) -> dict[str, str]:
    return {
        "MessageBody": f"{group} {number}",
        "MessageGroupId": group,
        "MessageDeduplicationId": f"{group}-{number}",
    }


def _sent(client: Client, steps: Sequence[dict[str, str]]) -> list[str]:
    """Send messages, one by itself and several as a batch; return their ids."""
    url = client.url(FIFO)
    if len(steps) == 1:
        return [client.again("SendMessage", QueueUrl=url, **steps[0])["MessageId"]]
    entries = [{"Id": str(at), **one} for at, one in enumerate(steps)]
    found = client.again("SendMessageBatch", QueueUrl=url, Entries=entries)["Successful"]
    return [one["MessageId"] for one in sorted(found, key=lambda one: int(one["Id"]))]
