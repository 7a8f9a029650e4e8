"""Looks at the whole store that pages share: rates between two samples, and the health."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from durableq.admin import operations
from durableq.admin.status import Overview, look
from durableq.client.app import DurableQ
from durableq.dashboard import charts
from durableq.dashboard.charts import Spark
from durableq.dashboard.errors import log
from durableq.dashboard.redaction import Redaction
from durableq.model.health import Finding, Level
from durableq.model.info import QueueInfo
from durableq.runtime.outage import describe
from durableq.store.core import Capability

#: A rate is the mean over this time, at least: shorter ones jump.
RATE_SECONDS: Final = 5.0
#: A sample before a longer pause says nothing about the rate now.
FORGET_SECONDS: Final = 120.0
#: A health check may read the whole file, so its result is shown for a while.
HEALTH_SECONDS: Final = 60.0
#: Samples are a minute apart.
SPARK_SECONDS: Final = 20.0


@dataclass(frozen=True)
class Health:
    """The findings of a doctor's check."""

    findings: list[Finding]
    #: The begin and the end of the check, on the monotonic clock.
    began: float
    at: float

    def number(self, level: str) -> int:
        """Return the number of findings of a level: ok, warn or bad."""
        return sum(finding.level.value == level for finding in self.findings)

    @property
    def age_ms(self) -> int:
        """The time since the check."""
        return round(1000 * (time.monotonic() - self.at))

    @property
    def worst(self) -> Level:
        """The worst level of a finding."""
        return worst_first(self.findings)[0].level if self.findings else Level.OK


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings in order of their level."""
    order = [Level.BAD, Level.WARN, Level.OK]
    return sorted(findings, key=lambda finding: order.index(finding.level))


class Look:
    """Samples of a store. Safe to use from several threads.

    Args:
        dq: the application with the store.
        redaction: the fields that are hidden.
    """

    def __init__(self, dq: DurableQ, redaction: Redaction) -> None:
        self._dq = dq
        self._redaction = redaction
        self._lock = threading.Lock()
        self._samples: deque[Overview] = deque()
        self._health: Health | None = None
        #: Held by the one thread that checks the health.
        self._checking = threading.Lock()
        self._sparks: dict[str, tuple[float, Spark | None]] = {}

    @property
    def address(self) -> str:
        """The URL of the store, without its passwords."""
        return self._dq.address

    def overview(self) -> Overview:
        """Return a sample of now, with the rates since an earlier one."""
        before = self._before()
        seen = look(self._redaction.store(self._dq.store), before)
        with self._lock:
            self._samples.append(seen)
        return seen

    def _before(self) -> Overview | None:
        """Return the newest sample that is RATE_SECONDS old, or the oldest that there is."""
        now, samples = time.monotonic(), self._samples
        with self._lock:
            while len(samples) > 1 and samples[1].at <= now - RATE_SECONDS:
                samples.popleft()
            while samples and samples[0].at <= now - FORGET_SECONDS:
                samples.popleft()
            return samples[0] if samples else None

    def spark(self, info: QueueInfo, now_ms: int) -> Spark | None:
        """Return the last minutes of a queue, as they were at most SPARK_SECONDS ago."""
        at, drawn = self._sparks.get(info.name, (0.0, None))
        if time.monotonic() >= at + SPARK_SECONDS:
            inspect = self._dq.store.require(Capability.INSPECT)
            samples = inspect.samples(info.name, now_ms - charts.SPARK_MS)
            drawn = charts.spark(samples, info, now_ms)
            self._sparks[info.name] = time.monotonic(), drawn
        return drawn

    def health(self) -> Health | None:
        """Return the newest health; begin a check in another thread if that is old.

        None: the first check has not ended.
        """
        newest = self._health
        is_old = newest is None or not _is_recent(newest)
        if is_old and not self._checking.locked():
            threading.Thread(target=self._refresh, name="durableq health", daemon=True).start()
        return newest

    def recent(self) -> Health:
        """Return the newest health if it is not old; otherwise that of a check."""
        return self._checked(_is_recent)

    def check(self) -> Health:
        """Return the health of a check that begins now, or of the next one, for all who wait."""
        asked = time.monotonic()
        return self._checked(lambda health: health.began >= asked)

    def _checked(self, is_new: Callable[[Health], bool]) -> Health:
        """Return the newest health if it is new enough; otherwise check.

        One thread checks at a time, and the others wait: its result may be new enough for them.
        """
        if self._health is not None and is_new(self._health):
            return self._health
        with self._checking:
            if self._health is None or not is_new(self._health):
                began = time.monotonic()
                found = map(self._redaction.finding, operations.examine(self._dq.url))
                self._health = Health(list(found), began, time.monotonic())
            return self._health

    def _refresh(self) -> None:
        try:
            self.recent()
        except Exception as error:  # noqa: BLE001 - the page that is open shows no health
            log.warning("The health cannot be checked: %s", describe(error))


def _is_recent(health: Health) -> bool:
    return health.at >= time.monotonic() - HEALTH_SECONDS
