"""Bugs to plant among several hosts, and the tool to plant one in a statement."""

from __future__ import annotations

from typing import Any

from durableq.engines.sql import fleet, hosts
from durableq.engines.sql.dialect import Statement, Statements
from durableq.engines.sqlite.dialect import DIALECT
from durableq.runtime import clock


def rewrite(statement: Statement, old: str, new: str) -> None:
    """Change the text that a statement is compiled to, in each engine instance."""
    compiled = Statements(DIALECT)[statement]
    if old not in compiled:
        raise AssertionError(f"{old!r} is not in {compiled!r}: plant the bug anew")
    changed = compiled.replace(old, new)
    cls: Any = Statements
    compile_one = cls.__missing__

    def compile_or_change(self: Any, wanted: Statement) -> Any:
        if wanted is not statement:
            return compile_one(self, wanted)
        self[wanted] = changed
        return changed

    cls.__missing__ = compile_or_change


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
    rewrite(fleet._WORKERS, "durableq_worker.host_id", "'' AS host_id")
