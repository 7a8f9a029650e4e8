"""Bugs to plant in the progress of messages."""

from __future__ import annotations

from typing import Any

from durableq.client import progress
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


def write_each_report() -> None:
    """A handler that reports a thousand times a second writes as often."""
    cls: Any = progress.ProgressWriter
    take = cls._take

    def take_at_once(self: Any) -> Any:
        self._next_at = 0.0
        return take(self)

    cls._take = take_at_once


def drop_reports_between_two_writes() -> None:
    """A report that comes within the second is lost, also if it is the last."""
    cls: Any = progress.ProgressWriter
    report = cls.report

    def report_if_due(self: Any, delivery: Any, given: Any) -> None:
        if self._thread is None:
            report(self, delivery, given)

    cls.report = report_if_due


def drop_reports_of_a_busy_store() -> None:
    cls: Any = progress.ProgressWriter
    cls._put_back = lambda _self, _reports: None


BUGS = (
    write_each_report,
    drop_reports_between_two_writes,
    drop_reports_of_a_busy_store,
    report_under_any_receipt,
    show_reports_of_ended_leases,
    prune_reports_of_leased_messages,
)
_REPORTS = "tests/engine/test_reports.py::"
SEEN_BY = [
    (
        "write_each_report",
        _REPORTS + "test_of_many_reports_the_first_is_stored_at_once_and_the_newest_a_second_later",
    ),
    (
        "drop_reports_between_two_writes",
        _REPORTS + "test_reports_that_wait_are_stored_when_the_application_is_closed",
    ),
    (
        "drop_reports_of_a_busy_store",
        _REPORTS + "test_a_report_that_meets_a_busy_store_is_stored_later",
    ),
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
