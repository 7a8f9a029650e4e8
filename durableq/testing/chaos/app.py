"""The application under chaos: the demo's, with a ledger of its handler's and policy's calls."""

from __future__ import annotations

import functools
import importlib
import time
from typing import Final

from durableq.client.app import DurableQ
from durableq.client.delivery import Delivery
from durableq.demo import app as demo
from durableq.demo.app import QUEUE
from durableq.model.decisions import Decision
from durableq.model.errors import NOT_ITS_FAULT, StaleReceipt
from durableq.model.message import DeadLetter
from durableq.model.settings import QueueOptions
from durableq.testing.chaos.ledger import Ledger, Step

APP: Final = "durableq.testing.chaos.app:dq"
#: Short, so that a worker need not be stopped for long to lose its lease.
LEASE_SECONDS: Final = 1
SETTINGS: Final = QueueOptions(
    visibility_timeout=LEASE_SECONDS,
    # Each death of a worker counts as a receive. With the demo's limit, good orders die too, and
    # the dead-letter queue has work. They must come back however often that happens, so the limit
    # of recoveries is one that no run reaches. No order ends held: all are charged or discarded.
    max_receives=demo.SETTINGS["max_receives"],
    max_recoveries=1000,
    backoff_base=0.05,
    backoff_max=0.2,
)
#: Added to the time of the demo's handler, so that faults find workers inside one.
DWELL_SECONDS: Final = 0.08

# At the start: in the first transaction it takes half a second, and a stopped worker would then
# use its receipt so late that another one has completed the message.
importlib.import_module("sqlalchemy")

dq = DurableQ()
dq.queue(QUEUE, **SETTINGS)


@functools.cache
def _ledger() -> Ledger:
    return Ledger.of_this_run()


@dq.handler(QUEUE)
def charge(message: Delivery) -> dict[str, int]:
    """Charge an order as the demo does, and log the attempt and its outcome."""
    attempt = f"{message.recovery_count}.{message.receive_count}"
    details = (message.key, message.id, message.receipt.token, attempt)

    def note(step: Step) -> None:
        _ledger().note("charge", step, *details)

    note(Step.INVOKE)
    try:
        order = demo.authorise(message)
        note(Step.PASSED)
        time.sleep(DWELL_SECONDS)
        payment = demo.record(message, order)
    except StaleReceipt:
        note(Step.REFUSED)
        raise
    except NOT_ITS_FAULT:
        note(Step.UNSETTLED)
        raise
    except BaseException:
        note(Step.FAILED)
        raise
    note(Step.OK)
    return payment


@dq.recovery(QUEUE)
def recover(dead_letter: DeadLetter) -> Decision:
    """Decide as the demo does, and log the decision: only the policy may decide."""
    decision = demo.recover(dead_letter)
    _ledger().note(type(decision).__name__.lower(), Step.INVOKE, dead_letter.key, dead_letter.id)
    return decision
