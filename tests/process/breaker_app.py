"""An application whose service is up or down: it is down while a file says so.

The message with the body "outage" makes that file. Each call is a line of the ledger, "up" or
"down", with the receive count of its message.
"""

from __future__ import annotations

from pathlib import Path

from durableq import Delivery, DurableQ, Unavailable
from tests.process.app import Ledger

APP = "tests.process.breaker_app:dq"
PREFETCH = 4

dq = DurableQ()


def outage(db: str | Path) -> Path:
    """Return the file that is there while the service is down."""
    return Path(db).with_suffix(".down")


@dq.handler("orders", prefetch=PREFETCH)
def call(message: Delivery) -> None:
    ledger = Ledger(dq.url)
    if message.body == "outage" and ledger.first("outage"):
        outage(dq.url).touch()
    is_down = outage(dq.url).exists()
    ledger.note("down" if is_down else "up", f"{message.id}#{message.receive_count}")
    if message.body == "hang" and not is_down and ledger.first("hang"):
        ledger.note("hangs", message.id)
        ledger.wait_at_gate()
    if is_down:
        raise Unavailable("the service is down")


@dq.handler("bulk")
def note(message: Delivery) -> None:
    Ledger(dq.url).note("bulk", message.id)
