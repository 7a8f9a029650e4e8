"""The application under chaos: the demo's and the queues with limits, with ledgers of the calls."""

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
from durableq.model.message import DeadLetter
from durableq.model.settings import QueueOptions
from durableq.testing.chaos import limited
from durableq.testing.chaos.ledger import Ledger, Step
from durableq.testing.chaos.limited import CALLS, LEASE_SECONDS, PARCELS, STEPS

APP: Final = "durableq.testing.chaos.app:dq"
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
limited.declare(dq)


@functools.cache
def _ledger() -> Ledger:
    return Ledger.of_this_run()


@dq.handler(QUEUE)
def charge(message: Delivery) -> dict[str, int]:
    """Charge an order as the demo does, and log the attempt and its outcome."""
    with _ledger().attempt("charge", message) as note:
        order = demo.authorise(message)
        note(Step.PASSED)
        time.sleep(DWELL_SECONDS)
        return demo.record(message, order)


@dq.handler(CALLS)
def call(message: Delivery) -> None:
    """Call a service that bears so many calls, and is down at times."""
    with _ledger().attempt(CALLS, message) as note:
        limited.call(message, note, _ledger().folder)


@dq.handler(STEPS)
def step(message: Delivery) -> None:
    """Do a step of a group, in which each follows the one before."""
    with _ledger().attempt(STEPS, message) as note:
        limited.step(message, note)


@dq.handler(PARCELS)
def parcel(message: Delivery) -> None:
    """Deliver a parcel, which fails at first."""
    with _ledger().attempt(PARCELS, message) as note:
        limited.parcel(message, note, _ledger().folder)


@dq.recovery(QUEUE)
def recover(dead_letter: DeadLetter) -> Decision:
    """Decide as the demo does, and log the decision: only the policy may decide."""
    decision = demo.recover(dead_letter)
    _ledger().note(type(decision).__name__.lower(), Step.INVOKE, dead_letter.key, dead_letter.id)
    return decision
