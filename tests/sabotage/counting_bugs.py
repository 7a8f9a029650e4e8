"""Bugs to plant in the counts of queues and in the groups of dead letters."""

from __future__ import annotations

from typing import Any

from durableq.engines.sql import queues
from tests.sabotage.host_bugs import rewrite


def audit_the_counters_by_themselves() -> None:
    """An audit compares the counters with a number that comes from them."""
    module: Any = queues
    count = module.all_queues
    module.all_queues = lambda tx, **_: count(tx)


def bury_without_a_group() -> None:
    rewrite("BURY", "burial_fingerprint=:fingerprint", "burial_fingerprint=''")


def believe_each_group() -> None:
    """An audit compares no dead letter with its last burial."""
    rewrite("DEAD_LETTERS_MISGROUPED", "fingerprint <> m.burial_fingerprint", "0")
