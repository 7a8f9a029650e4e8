"""The workers: state, messages in flight, memory and CPU."""

from __future__ import annotations

from typing import Any

from durableq.dashboard.visit import Visit
from durableq.model.dead_letters import RECOVERY_ACTOR
from durableq.model.info import WorkerInfo
from durableq.supervisor.liveness import may_be_alive


def values(visit: Visit) -> dict[str, Any]:
    """Return the values of the page."""
    return {"workers": visit.look.overview().workers, "may_drain": _may_drain}


def _may_drain(worker: WorkerInfo) -> bool:
    """Return whether a worker lives, is not asked to end yet, and is no recovery process."""
    is_recovery = worker.name.startswith(RECOVERY_ACTOR)
    return not (is_recovery or worker.draining) and may_be_alive(worker)
