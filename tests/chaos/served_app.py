"""Handlers of Python on the FIFO queue that clients of SQS use at the same time.

Some of them ask to be retried: their group waits for it.
"""

from __future__ import annotations

import os
import random

from durableq import DurableQ, RetryLater
from tests.chaos.served_queues import FIFO

#: Of the messages; and the time until the retry.
_RETRIED, _RETRY_SECONDS = 0.02, 0.1

dq = DurableQ()
_DESCRIPTOR = os.open(os.environ["SERVED_ORDER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


@dq.handler(FIFO)
def take(body: str) -> None:
    os.write(_DESCRIPTOR, f"{body} worker {os.getpid()}\n".encode())
    if random.random() < _RETRIED:
        raise RetryLater(_RETRY_SECONDS)
