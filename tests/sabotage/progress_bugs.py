"""Bugs to plant in the progress of messages."""

from __future__ import annotations

from tests.sabotage.texts import rewrite

_CONTRACT = "tests/contract/test_sqlite.py::TestSQLite::"


def report_under_any_receipt() -> None:
    """A worker that lost its lease reports under that of the new owner."""
    receipt = "durableq_message.receipt = :token"
    rewrite("REPORT_PROGRESS", receipt, f"({receipt} OR true)")


def show_reports_of_ended_leases() -> None:
    for name in ("PROGRESS_OF", "PROGRESS_IN"):
        rewrite(name, "durableq_message.receipt = durableq_progress.receipt", "true")


def prune_reports_of_leased_messages() -> None:
    rewrite("PRUNE_PROGRESS", "durableq_message.receipt = durableq_progress.receipt", "false")


BUGS = (
    report_under_any_receipt,
    show_reports_of_ended_leases,
    prune_reports_of_leased_messages,
)
SEEN_BY = [
    (
        "report_under_any_receipt",
        _CONTRACT + "test_a_report_under_a_lease_that_was_lost_is_refused",
    ),
    ("show_reports_of_ended_leases", _CONTRACT + "test_a_retry_begins_without_progress"),
    (
        "prune_reports_of_leased_messages",
        _CONTRACT + "test_reports_stay_in_maintenance_while_their_leases_last",
    ),
]
