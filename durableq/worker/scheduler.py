"""The scheduler: a thread of a worker that sends the messages of schedules when they are due."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Final

from durableq.model.errors import (
    GONE_MEANWHILE,
    PASSING,
    Busy,
    DurableQError,
    OutcomeUnknown,
)
from durableq.model.slots import Fired
from durableq.runtime import logs
from durableq.runtime.outage import PAUSE_SECONDS, Outage, describe, logged
from durableq.store.core import Capability
from durableq.worker.state import WorkerState

log = logging.getLogger("durableq.worker")

#: Longest wait between two looks at the schedules: another process may have changed one, or the
#: wall clock was set.
LONGEST_WAIT_SECONDS: Final = 5.0
#: The wait before a slot whose message could not be sent is tried again.
AGAIN_SECONDS: Final = 1.0


class Scheduler:
    """A thread that waits for the next slot of an application's schedules, until the worker stops.

    All workers do so. The first one that writes sends the message of a slot; the others find that
    it is not due any more. The thread is apart from the fetcher, which does not wait while there is
    work.

    Args:
        state: of the worker.
        names: the schedules that the application has.
    """

    def __init__(self, state: WorkerState, names: Sequence[str]) -> None:
        self._state = state
        self._stopping = state.stopping
        self._schedules = state.store.require(Capability.SCHEDULES)
        self._names = names
        self._outage = Outage(logged(log))
        #: Those whose messages were refused at the last look; each is logged once.
        self._refused: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="scheduler")

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Wait for the end of the thread, once the worker stops."""
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set:
                self._stopping.wait(self._fire_due())
        except BaseException as error:  # noqa: BLE001 - the worker ends, not this thread
            self._state.give_up(error)

    def _fire_due(self) -> float:
        """Fire the schedules that are due; return the seconds until the next look."""
        try:
            waits = self._schedules.next_slots_in_ms(self._names)
            fired = [self._fire(name) for name, wait_ms in waits.items() if wait_ms == 0]
            self._outage.end()
        except PASSING as error:
            self._outage.report(error)
            return PAUSE_SECONDS
        if fired:
            return 0.0 if all(fired) else AGAIN_SECONDS
        return min([LONGEST_WAIT_SECONDS, *(wait_ms / 1000 for wait_ms in waits.values())])

    def _fire(self, name: str) -> bool:
        """Send the messages of one schedule; return False if its queue takes none."""
        try:
            fired = self._schedules.fire_schedule(name)
        except (Busy, OutcomeUnknown, *GONE_MEANWHILE):
            raise
        except DurableQError as error:
            if name not in self._refused:
                text, facts = "schedule %s: no message is sent: %s", {"schedule": name}
                log.warning(text, name, describe(error), extra=logs.facts("unfired", **facts))
            self._refused.add(name)
            return False
        self._refused.discard(name)
        _log(name, fired)
        return True


def _log(name: str, fired: Fired) -> None:
    if fired.slots:
        facts = logs.facts("fired", schedule=name, number=len(fired.slots))
        log.debug("schedule %s: %s sent", name, len(fired.slots), extra=facts)
    if fired.skipped:
        facts = logs.facts("slots_skipped", schedule=name, number=fired.skipped)
        log.warning("schedule %s: %s slots were skipped", name, fired.skipped, extra=facts)
