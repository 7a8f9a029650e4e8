"""The queues with limits under chaos: their settings, their handlers, and the effects in the file.

`calls` have a rate, a number in flight and a circuit breaker: they stand for a service that bears
no more, and is down at times. `steps` have groups: each step of a group follows the one before.
`parcels` fail at first, and have a share of retries. A full queue of parcels refuses a send, one of
calls lets it wait.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from durableq.client.app import DurableQ
from durableq.client.delivery import Delivery
from durableq.model.errors import Unavailable
from durableq.model.queues import dead_letter_name
from durableq.model.settings import QueueOptions
from durableq.testing.chaos.ledger import Step

CALLS: Final = "calls"
STEPS: Final = "steps"
PARCELS: Final = "parcels"
#: Short, so that a worker need not be stopped for long to lose its lease.
LEASE_SECONDS: Final = 1
_COMMON: Final = QueueOptions(
    visibility_timeout=LEASE_SECONDS,
    # None dies, however often its worker is killed: there is no policy that would send it back.
    max_receives=1000,
    backoff_base=0.05,
    backoff_max=0.2,
)
SETTINGS: Final[Mapping[str, QueueOptions]] = {
    CALLS: QueueOptions(
        **_COMMON,
        # So low that a clump takes the last token also where a receive is slow.
        rate=5,
        burst=3,
        max_in_flight=2,
        breaker=True,
        breaker_open=0.3,
        breaker_open_max=0.6,
        breaker_probes=1,
        slow_start=1,
        # Less than a clump, so that each clump meets it.
        max_backlog=5,
        on_full="block",
        block_timeout=1,
    ),
    STEPS: QueueOptions(**_COMMON, group_concurrency=1, group_rate=2, group_burst=1),
    PARCELS: QueueOptions(
        **_COMMON,
        retry_share=0.2,
        # More than ever are; so high that a counter is kept on each engine.
        max_in_flight=200,
        max_backlog=4,
        on_full="raise",
    ),
}
QUEUES: Final = (*SETTINGS, *map(dead_letter_name, SETTINGS))
#: Duration of the first part of a handler, and of the second, after which it commits.
DWELL_SECONDS: Final = 0.06
#: The same for the calls of the first clump. More than may be are in flight together where no limit
#: holds them back, also if workers of a busy machine are slow to receive them.
FIRST_DWELL_SECONDS: Final = 0.4
GROUPS: Final = 4
#: The messages of a clump in each queue.
CLUMP: Final = 6
#: One step in so many fails at first.
FAILS_EVERY: Final = 7
#: Receives of a parcel that fail before one succeeds: far more retries than their share.
FAILURES: Final = 2
#: As many until a send met the full queue: the first parcels wait for producers that start late.
FAILURES_BEFORE_FULL: Final = 20
#: In the folder of the ledgers while the service is down.
DOWN: Final = "down"
#: In the folder of the ledgers after a send of a parcel met the full queue.
_FULL: Final = "full"
_EFFECT: Final = """
INSERT INTO chaos_effect (queue, message_id, receipt, place)
VALUES (:queue, :message_id, :receipt, :place)
"""


def declare(dq: DurableQ) -> None:
    """Declare the queues."""
    for name, settings in SETTINGS.items():
        dq.queue(name, **settings)


def call(message: Delivery, note: Callable[[Step], None], folder: Path) -> None:
    """Call the service.

    Args:
        message: the message.
        note: logs a step.
        folder: the folder of the ledgers.

    Raises:
        Unavailable: the service is down.
    """
    is_first = message.body["group"] + GROUPS * message.body["number"] < CLUMP
    time.sleep(FIRST_DWELL_SECONDS if is_first else DWELL_SECONDS)
    if (folder / DOWN).exists():
        raise Unavailable("the service is down")
    _finish(message, note)


def step(message: Delivery, note: Callable[[Step], None]) -> None:
    """Do a step, which may fail at its first receive.

    Raises:
        ConnectionError: it fails this time.
    """
    time.sleep(DWELL_SECONDS)
    if message.body["number"] % FAILS_EVERY == 0 and message.receive_count == 1:
        raise ConnectionError("the first attempt of this step fails")
    _finish(message, note)


def parcel(message: Delivery, note: Callable[[Step], None], folder: Path) -> None:
    """Deliver a parcel, which fails at first.

    Args:
        message: the message.
        note: logs a step.
        folder: the folder of the ledgers.

    Raises:
        ConnectionError: it fails this time.
    """
    failures = FAILURES if (folder / _FULL).exists() else FAILURES_BEFORE_FULL
    if message.receive_count <= failures:
        raise ConnectionError("the first attempts of a parcel fail")
    _finish(message, note)


def meet_full_queue(folder: Path) -> None:
    """Let the parcels that wait for a full queue go on."""
    (folder / _FULL).touch()


def begin_outage(folder: Path) -> None:
    """Let the service go down."""
    (folder / DOWN).touch()


def end_outage(folder: Path) -> None:
    """Let the service come back."""
    (folder / DOWN).unlink(missing_ok=True)


def place(body: Mapping[str, int]) -> str:
    """Return the place of a message in its queue, as GROUP:NUMBER."""
    return f"{body['group']}:{body['number']}"


def _finish(message: Delivery, note: Callable[[Step], None]) -> None:
    """Write the effect in the commit that ends the message."""
    note(Step.PASSED)
    time.sleep(DWELL_SECONDS)
    with message.transaction() as tx:
        values = {"queue": message.queue, "message_id": message.id}
        token = message.receipt.token
        tx.execute(_EFFECT, {**values, "receipt": token, "place": place(message.body)})
