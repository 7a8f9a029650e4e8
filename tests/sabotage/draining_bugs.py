"""Bugs to plant in the end of one worker of a fleet."""

from __future__ import annotations

from typing import Any

from durableq.supervisor import supervisor

DRAINED = "tests/process/test_fleet_drained.py::test_one_worker_drains_and_the_other_goes_on"


def replace_dismissed_workers() -> None:
    """A supervisor replaces the worker that was asked to end for good."""
    cls: Any = supervisor.Supervisor
    replaced = cls._is_replaced

    def forgetful(fleet: Any, worker: Any) -> Any:
        worker.is_dismissed = False
        return replaced(fleet, worker)

    cls._is_replaced = forgetful


BUGS = (replace_dismissed_workers,)
SEEN_BY = (("replace_dismissed_workers", DRAINED + "[sqlite]"),)
