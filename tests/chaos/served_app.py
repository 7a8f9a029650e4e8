"""Handlers of Python on the FIFO queue that clients of SQS use at the same time."""

from __future__ import annotations

import os

from durableq import DurableQ
from tests.chaos.served_load import FIFO

dq = DurableQ()
_DESCRIPTOR = os.open(os.environ["SERVED_ORDER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


@dq.handler(FIFO)
def take(body: str) -> None:
    os.write(_DESCRIPTOR, f"{body} worker {os.getpid()}\n".encode())
