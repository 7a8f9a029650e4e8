"""The overview: every queue in a row."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

from durableq.admin import limits
from durableq.admin.status import Overview, QueueView
from durableq.cli import rendering
from durableq.dashboard.charts import Spark
from durableq.dashboard.visit import Visit
from durableq.model.dead_letters import RECOVERY_ACTOR, RedriveState
from durableq.model.errors import Unsupported
from durableq.model.flow.breaker import Phase
from durableq.store.core import Capability, Store


class Row(NamedTuple):
    """A queue in the table."""

    view: QueueView
    #: Its limits in words.
    limits: list[str]
    #: The time until no message is ready, if the rates stay as they are; None: not known, or never.
    empty_ms: int | None
    #: That no worker handles its messages, as a sentence, or empty.
    neglect: str
    #: The number of its messages in the last minutes; None: not known.
    spark: Spark | None


def values(visit: Visit) -> dict[str, Any]:
    """Return the values of the page."""
    seen = visit.look.overview()
    return {
        "redriving": _running(visit.store),
        "recovering": sum(each.info.name.startswith(RECOVERY_ACTOR) for each in seen.workers),
        "stopped": [name for name, state in seen.breakers.items() if state.phase is Phase.OPEN],
        "address": visit.look.address,
        "health": visit.look.health(),
        "queues": [_row(visit, seen, view) for view in seen.queues],
        "seen": seen,
        "states": sorted(Counter(worker.state for worker in seen.workers).items()),
    }


def _running(store: Store) -> int:
    """Return the number of redrive tasks that run."""
    try:
        tasks = store.require(Capability.REDRIVE).redrive_tasks()
    except Unsupported:  # of a store in memory
        return 0
    return sum(task.state is RedriveState.RUNNING for task in tasks)


def _row(visit: Visit, seen: Overview, view: QueueView) -> Row:
    neglect = seen.readers.neglect(view.info)
    spark = visit.look.spark(view.info, rendering.now_ms())
    return Row(view, list(limits.words(view.info)), time_to_empty(view), neglect, spark)


def time_to_empty(view: QueueView) -> int | None:
    """Return the ms until no message is ready if the rates stay as they are; None if never."""
    ready, flow = view.info.counts.ready, view.flow
    if not ready or flow is None or flow.out_per_second <= flow.in_per_second:
        return None
    return round(1000 * ready / (flow.out_per_second - flow.in_per_second))
