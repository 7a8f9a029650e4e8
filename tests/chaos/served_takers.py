"""Consumers of an SQS endpoint: they receive, handle, delete, extend leases and give back."""

from __future__ import annotations

import os
import random
import threading
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.chaos.served_client import Client, Refused, Unanswered
from tests.chaos.served_ledger import Held, Holds, Ledger
from tests.chaos.served_queues import FIFO, STANDARD, VISIBILITY

_PAUSE_SECONDS: Final = 0.02
#: Of the batches: those of which only some messages are handled, and those that are extended.
_PARTIAL, _EXTENDED = 0.3, 0.3
_EXTENSION_SECONDS: Final = 6
#: How long after a receive a message of the standard queue is given back.
_SOON_SECONDS: Final = 2


def settle(
    client: Client, action: str, queue: str, handles: Sequence[str], **more: Any
) -> list[str | None]:
    """Call an action for messages, as a batch if there are several; repeat it until it is answered.

    Returns:
        The error of each message, or None.
    """
    url = client.url(queue)
    if len(handles) == 1:
        try:
            client.again(action, QueueUrl=url, ReceiptHandle=handles[0], **more)
        except Refused as error:
            if error.status != 400:
                raise
            return [str(error)]
        return [None]
    entries = [
        {"Id": str(at), "ReceiptHandle": handle, **more} for at, handle in enumerate(handles)
    ]
    if not entries:
        return []
    answer = client.again(f"{action}Batch", QueueUrl=url, Entries=entries)
    failed = {int(one["Id"]): one["Message"] for one in answer.get("Failed", [])}
    return [failed.get(at) for at in range(len(handles))]


class ParcelTaker:
    """Receives from the standard queue, deletes most messages, and gives the others back."""

    def __init__(self, client: Client, ledger: Ledger) -> None:
        self._client, self._ledger, self._random = client, ledger, random.Random()

    def take(self, stop: threading.Event) -> None:
        receive = {"QueueUrl": self._client.url(STANDARD), "MaxNumberOfMessages": 10}
        while not stop.is_set():
            began, asked = time.monotonic(), self._ledger.event()
            try:
                found = self._client("ReceiveMessage", **receive, WaitTimeSeconds=1)
            except Unanswered:
                stop.wait(_PAUSE_SECONDS)
                continue
            messages = found.get("Messages", [])
            for message in messages:
                self._ledger.received(asked, message["MessageId"], message["Body"])
            number = len(messages)
            if self._random.random() < _PARTIAL:
                number = self._random.randint(0, number)
            self._delete(messages[:number], began + VISIBILITY[STANDARD])
            self._give_back(messages[number:], began)

    def _give_back(self, messages: Sequence[dict[str, Any]], began: float) -> None:
        """Give messages back soon after their receive, or leave them.

        On a standard queue an old handle ends the lease of a later receive, whose deletion may then
        delete nothing. So the request is not repeated, and not sent when the lease may have ended.
        """
        if messages and time.monotonic() < began + _SOON_SECONDS:
            entries = [
                {"Id": str(at), "ReceiptHandle": one["ReceiptHandle"], "VisibilityTimeout": 0}
                for at, one in enumerate(messages)
            ]
            with suppress(Unanswered):
                url = self._client.url(STANDARD)
                self._client("ChangeMessageVisibilityBatch", QueueUrl=url, Entries=entries)

    def _delete(self, messages: Sequence[dict[str, Any]], end: float) -> None:
        """Delete messages; a delete counts whose answer comes within the lease."""
        for message in messages:
            self._ledger.deleting(message["Body"])
        handles = [message["ReceiptHandle"] for message in messages]
        errors = settle(self._client, "DeleteMessage", STANDARD, handles)
        if time.monotonic() < end:
            for message, error in zip(messages, errors, strict=True):
                assert error is None, error
                self._ledger.deleted(message["Body"])


class _Taken(NamedTuple):
    """A received message, and how long it is held."""

    body: str
    handle: str
    held: Held


class StepTaker:
    """Receives from the FIFO queue, and handles the messages in order.

    It repeats a receive whose answer was lost under the id of its attempt, extends some leases,
    and gives some messages back, which the next consumer gets in order.

    Args:
        client: of the endpoint.
        ledger: of the queue.
        holds: what consumers hold, and what they lost.
        order_file: gets a line for each message that is handled.
    """

    def __init__(self, client: Client, ledger: Ledger, holds: Holds, order_file: Path) -> None:
        self._client, self._ledger, self._holds = client, ledger, holds
        self._order_file, self._random = order_file, random.Random()

    def take(self, stop: threading.Event) -> None:
        descriptor = os.open(self._order_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            while not stop.is_set():
                taken = self._receive()
                if self._random.random() < _EXTENDED and not self._extend(taken):
                    continue
                number = len(taken)
                if self._random.random() < _PARTIAL:
                    number = self._random.randint(0, number)
                if self._handle(taken[:number], descriptor):
                    self._give_back(taken[number:])
        finally:
            os.close(descriptor)

    def _receive(self) -> list[_Taken]:
        event, asked, unanswered = (
            self._ledger.event(),
            time.monotonic(),
            self._client.unanswered,
        )
        found = self._client.again(
            "ReceiveMessage",
            QueueUrl=self._client.url(FIFO),
            MaxNumberOfMessages=5,
            WaitTimeSeconds=1,
            ReceiveRequestAttemptId=uuid.uuid4().hex,
        )
        self._holds.repeated += self._client.unanswered > unanswered
        answered, until, taken = time.monotonic(), asked + VISIBILITY[FIFO], list[_Taken]()
        for message in found.get("Messages", []):
            body = message["Body"]
            self._ledger.received(event, message["MessageId"], body)
            held = self._holds.hold(body, asked, answered, until)
            taken.append(_Taken(body, message["ReceiptHandle"], held))
        return taken

    def _handle(self, taken: Sequence[_Taken], descriptor: int) -> bool:
        """Handle messages and delete each, or all at the end; return whether all were held."""
        each = [[one] for one in taken]
        for part in self._random.choice((each, [taken])):
            for one in part:
                os.write(descriptor, f"{one.body} client {threading.get_native_id()}\n".encode())
                self._ledger.deleting(one.body)
            if not self._delete(part):
                return False  # a lease has ended, and with it the right to go on in the group
        return True

    def _delete(self, taken: Sequence[_Taken]) -> bool:
        promised = self._let_go(taken)
        errors = settle(self._client, "DeleteMessage", FIFO, [one.handle for one in taken])
        for one, error in zip(taken, errors, strict=True):
            if error is None:
                self._ledger.deleted(one.body)
        return self._were_held(taken, errors, promised)

    def _extend(self, taken: Sequence[_Taken]) -> bool:
        began, promised = time.monotonic(), self._let_go(taken)
        handles, seconds = [one.handle for one in taken], _EXTENSION_SECONDS
        change = "ChangeMessageVisibility"
        errors = settle(self._client, change, FIFO, handles, VisibilityTimeout=seconds)
        for one, error in zip(taken, errors, strict=True):
            if error is None:
                one.held.until = began + seconds
        return self._were_held(taken, errors, promised)

    def _give_back(self, taken: Sequence[_Taken]) -> None:
        """Give messages back at once, or one by one in any order."""
        self._let_go(taken)
        each = [[one] for one in taken]
        self._random.shuffle(each)
        for part in self._random.choice((each, [taken])):
            handles = [one.handle for one in part]
            # A second request, after a lost answer, finds that it was given back.
            settle(self._client, "ChangeMessageVisibility", FIFO, handles, VisibilityTimeout=0)

    def _let_go(self, taken: Sequence[_Taken]) -> list[float]:
        """Note that the leases may end now; return their ends before that."""
        promised = [one.held.until for one in taken]
        for one in taken:
            one.held.until = min(one.held.until, time.monotonic())
        return promised

    def _were_held(
        self, taken: Sequence[_Taken], errors: Sequence[str | None], promised: Sequence[float]
    ) -> bool:
        """Return whether no message was refused; note those whose lease should have been there."""
        now = time.monotonic()
        for one, error, until in zip(taken, errors, promised, strict=True):
            if error is not None and now < until:
                left = f"{until - now:.3f} s before the end of its lease"
                self._holds.lost.append(f"{one.body} was refused {left}: {error}")
        return not any(errors)
