"""Bugs to plant among several hosts."""

from __future__ import annotations

from typing import Any

from durableq.engines.sql import hosts
from durableq.runtime import clock
from tests.sabotage.texts import rewrite


def know_one_host_only() -> None:
    """Each boot is a restart of the one host, as release 0.1 had it."""
    module: Any = hosts
    known_boots = module.known_boots

    def of_one_host(tx: Any) -> dict[str, str]:
        boots = list(known_boots(tx).values())
        return {"": boots[-1]} if boots else {}

    module.known_boots = of_one_host


def take_boot_clocks_for_one() -> None:
    """Lease time is the boot clock of whichever host reads it."""
    module: Any = clock
    advance = module.advance
    module.advance = lambda anchor, now: advance(anchor, now)._replace(lease_offset_ms=0)


def forget_the_hosts_of_workers() -> None:
    rewrite("WORKERS", "durableq_worker.host_id", "'' AS host_id")


def enter_a_boot_before_all_its_leases_are_back() -> None:
    """A slice that was full is taken for the last one."""
    module: Any = hosts
    reclaim_from = module.reclaim_from
    module.reclaim_from = lambda tx, owner, limit: min(reclaim_from(tx, owner, limit), limit - 1)


BUGS = (
    know_one_host_only,
    take_boot_clocks_for_one,
    forget_the_hosts_of_workers,
    enter_a_boot_before_all_its_leases_are_back,
)
