"""Bugs to plant in the counts of queues and in the groups of dead letters."""

from __future__ import annotations

from typing import Any

from durableq.engines.sql import queues, settling
from tests.sabotage.texts import rewrite


def audit_the_counters_by_themselves() -> None:
    """An audit compares the counters with a number that comes from them."""
    module: Any = queues
    count = module.all_queues
    module.all_queues = lambda tx, **_: count(tx)


def bury_without_a_group() -> None:
    column = "burial_fingerprint"
    rewrite("BURY", f"{column}=:fingerprint", f"{column}=substr(:fingerprint, 1, 0)")


def believe_each_group() -> None:
    """An audit compares no dead letter with its last burial."""
    rewrite("DEAD_LETTERS_MISGROUPED", "fingerprint <> m.burial_fingerprint", "false")


def lose_the_keys_of_counted_messages() -> None:
    """A queue that counts what it stores completes a message, and not its key."""
    module: Any = settling
    complete = module.complete_counted
    module.complete_counted = lambda *of: [(ended, None) for ended, _ in complete(*of)]


BUGS = (
    audit_the_counters_by_themselves,
    bury_without_a_group,
    believe_each_group,
    lose_the_keys_of_counted_messages,
)
SEEN_BY = (
    (
        "lose_the_keys_of_counted_messages",
        "tests/contract/test_sqlite.py::TestSQLite::"
        "test_success_completes_the_key_in_a_queue_with_any_limit[False-settings2-None]",
    ),
    (
        "audit_the_counters_by_themselves",
        "tests/engine/test_counts.py::test_an_audit_counts_each_message_and_trusts_no_counter",
    ),
    (
        "bury_without_a_group",
        "tests/contract/test_sqlite.py::TestSQLite::"
        "test_dead_letters_killed_by_the_same_failure_are_one_group",
    ),
    (
        "believe_each_group",
        "tests/cli/test_audit.py::test_a_dead_letter_in_a_wrong_group_is_counted[fingerprint]",
    ),
)
