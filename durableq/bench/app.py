"""The application that `durableq bench fleet` runs: it logs the start of each handler."""

from __future__ import annotations

import os
import time
from typing import Final

from durableq.client.app import DurableQ
from durableq.client.delivery import Delivery

QUEUE: Final = "bench"
NOTES_VARIABLE: Final = "DURABLEQ_BENCH_NOTES"
#: The body of a message whose first handler runs until its worker is killed.
HOLD: Final = "hold"

dq = DurableQ()
dq.queue(QUEUE, visibility_timeout=60, max_receives=1000)


@dq.handler(QUEUE)
def note(message: Delivery) -> None:
    """Append the message, this process and the time to the file of notes."""
    line = f"{message.id} {os.getpid()} {time.monotonic_ns()}\n"
    handle = os.open(os.environ[NOTES_VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(handle, line.encode())
    os.close(handle)
    while message.body == HOLD and message.receive_count == 1:
        time.sleep(60)
