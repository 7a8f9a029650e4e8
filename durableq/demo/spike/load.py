"""The load of the spike: its size, the settings of its queue, and the handler that calls."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field, replace
from typing import Final

from durableq.client.app import DurableQ
from durableq.client.delivery import Delivery
from durableq.demo import reading
from durableq.demo.spike.downstream import Client
from durableq.model.errors import Unavailable
from durableq.model.settings import QueueOptions

APP: Final = "durableq.demo.spike.load:dq"
QUEUE: Final = "calls"
MESSAGES: Final = 20_000
#: Calls a second that the downstream bears.
CAPACITY: Final = 200
OUTAGE_SECONDS: Final = 10.0
#: Names the file with the port of the downstream.
DOWNSTREAM_VARIABLE: Final = "DURABLEQ_DEMO_DOWNSTREAM"

dq = DurableQ()
dq.queue(QUEUE)


def limits(capacity: int, outage_seconds: float) -> QueueOptions:
    """Return the limits of a queue whose handler calls a downstream.

    In any second the workers receive at most `rate + burst` messages, and call at most
    `max_in_flight` times for those that they had received before: together the capacity.

    Args:
        capacity: the most calls that the downstream answers in a second, at least 3.
        outage_seconds: the length of the expected outage.
    """
    reserve = max(1, capacity // 20)
    return {
        "rate": capacity - 2 * reserve,
        "burst": reserve,
        "max_in_flight": reserve,
        "breaker": True,
        "breaker_open": 0.1 * outage_seconds,
        "breaker_open_max": 0.4 * outage_seconds,
        "slow_start": outage_seconds,
        "retry_share": 0.2,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """The size of a run, its database, and the settings of its queue."""

    messages: int = MESSAGES
    #: The number of worker processes.
    procs: int = 4
    capacity: int = CAPACITY
    #: The length of the outage, which begins when half of the messages have been called for.
    outage_seconds: float = OUTAGE_SECONDS
    #: The file or PostgreSQL database to use; None means a new file in a temporary directory.
    url: str | None = None
    #: Its limits; without any the queue has the default settings.
    settings: QueueOptions = field(default_factory=QueueOptions)

    def with_limits(self) -> Load:
        """Return the same load with the limits that suit its downstream."""
        return replace(self, settings=limits(self.capacity, self.outage_seconds))

    @property
    def is_limited(self) -> bool:
        """Whether the queue has limits."""
        return bool(self.settings)

    @property
    def place(self) -> str:
        """The place of its queue for people."""
        is_file = self.url is None or not reading.on_server(self.url)
        return "one SQLite file" if is_file else "one schema of PostgreSQL"

    @property
    def name(self) -> str:
        """Its name for people."""
        return "with limits" if self.is_limited else "unprotected"

    @property
    def limits(self) -> str:
        """The settings as they are written in Python; empty without limits."""
        return ", ".join(
            f"{name}={value:g}" if isinstance(value, float) else f"{name}={value!r}"
            for name, value in self.settings.items()
        )

    @property
    def expected_seconds(self) -> float:
        """The length of a run with limits: at the rate, the outage, and half of the slow start."""
        rate = self.settings.get("rate") or self.capacity
        return self.messages / rate + 1.5 * self.outage_seconds


_local = threading.local()


def _client() -> Client:
    """Return this thread's connection to the downstream."""
    if not hasattr(_local, "client"):
        _local.client = Client(os.environ[DOWNSTREAM_VARIABLE])
    client: Client = _local.client
    return client


@dq.handler(QUEUE)
def call(message: Delivery) -> None:
    """Call the downstream once.

    Raises:
        Unavailable: it is overloaded or down.
    """
    retry_after = _client().call(message.id)
    if retry_after is not None:
        raise Unavailable("503 Service Unavailable", retry_after=retry_after)
