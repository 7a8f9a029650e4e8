"""Progress: reports of handlers about messages in flight, each as long as its lease."""
# ruff: noqa: D102, S101 - test names are sentences, and tests assert

from __future__ import annotations

import pytest

from durableq.model.errors import UnknownQueue
from durableq.model.message import Completion, Failure, Outcome, Reason, Receipt
from durableq.model.progress import Progress, progress_report
from durableq.store.core import Capability
from durableq.testing.contract.case import (
    DEAD,
    ORDERS,
    VISIBILITY_SECONDS,
    FullStore,
    StoreCase,
    needs,
    receive,
    send,
    take,
)
from durableq.testing.fakes import FakeClock


def leased(store: FullStore, body: str = "a") -> Receipt:
    """Send a message and receive it."""
    send(store, body)
    return take(store)


def report(store: FullStore, receipt: Receipt, fraction: float, text: str = "") -> Outcome:
    """Report the progress of one message."""
    [outcome] = store.report_progress([progress_report(receipt, fraction, text)])
    return outcome


def fail(store: FullStore, receipt: Receipt, reason: Reason = Reason.HANDLER_ERROR) -> Outcome:
    """Fail a message; it is ready again at once."""
    [outcome] = store.fail([(receipt, Failure(reason, "ValueError", "no", retry_in_ms=0))])
    return outcome


@needs(Capability.PROGRESS)
class ProgressContract(StoreCase):
    """Reports about messages in flight."""

    def test_a_report_is_read_by_the_id_of_its_message(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        receipt = leased(store)
        assert store.progress_of([receipt.message_id]) == []
        clock.advance(2)
        assert report(store, receipt, 0.4, "page 4 of 10 ✓") is Outcome.DONE
        [found] = store.progress_of([receipt.message_id])
        assert found == Progress(receipt.message_id, ORDERS, 0.4, "page 4 of 10 ✓", clock.wall_ms())
        assert found.percent == 40

    def test_a_later_report_replaces_the_one_before(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        receipt = leased(store)
        report(store, receipt, 0.4, "first half")
        clock.advance(1)
        report(store, receipt, 0.3)
        assert store.progress_of([receipt.message_id]) == [
            Progress(receipt.message_id, ORDERS, 0.3, "", clock.wall_ms())
        ]

    def test_a_text_of_any_characters_is_kept(self, store: FullStore) -> None:
        receipt = leased(store)
        report(store, receipt, 0.4, "\0 and \ud800, \n and \x1b[1m")
        [found] = store.progress_of([receipt.message_id])
        assert found.text == "\\x00 and \\ud800, \n and \x1b[1m"

    def test_messages_of_one_receive_have_progress_of_their_own(self, store: FullStore) -> None:
        for body in "abc":
            send(store, body)
        first, second, _ = [one.receipt for one in receive(store, limit=3)]
        assert first is not None
        assert second is not None
        reports = [progress_report(second, 1), progress_report(first, 0)]
        assert store.report_progress(reports) == [Outcome.DONE, Outcome.DONE]
        ids = [second.message_id, first.message_id]
        assert [one.fraction for one in store.progress_of(ids)] == [0, 1]

    def test_reports_are_listed_by_queue(self, store: FullStore) -> None:
        store.declare_queue("mail", {})
        send(store, queue="mail")
        of_mail = take(store, "mail")
        of_orders = [leased(store), leased(store)]
        for receipt in (*of_orders, of_mail):
            report(store, receipt, 0.5)
        ids = [receipt.message_id for receipt in of_orders]
        assert [one.message_id for one in store.progress_in(ORDERS, 10)] == ids
        assert [one.message_id for one in store.progress_in(ORDERS, 1)] == ids[:1]
        everything = [of_mail.message_id, *ids]
        assert [one.message_id for one in store.progress_in(None, 10)] == everything
        assert {one.queue for one in store.progress_in("mail", 10)} == {"mail"}
        with pytest.raises(UnknownQueue):
            store.progress_in("missing", 10)

    def test_a_message_that_was_completed_has_no_progress(self, store: FullStore) -> None:
        receipt = leased(store)
        report(store, receipt, 0.9)
        store.complete([Completion(receipt)])
        assert store.progress_in(None, 10) == []
        assert report(store, receipt, 1) is Outcome.GONE
        assert store.progress_of([receipt.message_id]) == []

    def test_a_retry_begins_without_progress(self, store: FullStore) -> None:
        receipt = leased(store)
        report(store, receipt, 0.9)
        assert fail(store, receipt) is Outcome.RETRY
        assert store.progress_in(None, 10) == []
        again = take(store)
        assert again.message_id == receipt.message_id
        assert store.progress_in(None, 10) == []
        assert report(store, again, 0.1) is Outcome.DONE
        assert [one.fraction for one in store.progress_in(None, 10)] == [0.1]

    def test_a_dead_letter_has_no_progress(self, store: FullStore) -> None:
        receipt = leased(store)
        report(store, receipt, 0.9)
        assert fail(store, receipt, Reason.REJECTED) is Outcome.BURIED
        assert store.progress_in(None, 10) == []
        assert store.progress_in(DEAD, 10) == []
        assert report(store, receipt, 1) is Outcome.STALE

    def test_a_report_under_a_lease_that_was_lost_is_refused(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        lost = leased(store)
        report(store, lost, 0.9, "slow")
        clock.advance(VISIBILITY_SECONDS)
        owner = take(store)
        assert owner.message_id == lost.message_id
        assert report(store, owner, 0.1, "new") is Outcome.DONE
        assert report(store, lost, 1, "late") is Outcome.STALE
        [found] = store.progress_of([lost.message_id])
        assert (found.fraction, found.text) == (0.1, "new")

    def test_a_message_that_is_released_has_no_progress(self, store: FullStore) -> None:
        receipt = leased(store)
        report(store, receipt, 0.5)
        store.release([receipt])
        assert store.progress_in(None, 10) == []
        assert report(store, receipt, 0.6) is Outcome.STALE

    def test_reports_of_several_are_refused_one_by_one(self, store: FullStore) -> None:
        kept, ended = leased(store), leased(store)
        store.complete([Completion(ended)])
        unknown = Receipt("missing", "1", "ab")
        reports = [progress_report(receipt, 0.5) for receipt in (ended, kept, unknown)]
        outcomes = store.report_progress(reports)
        assert outcomes[:2] == [Outcome.GONE, Outcome.DONE]
        assert outcomes[2].refused
        assert [one.message_id for one in store.progress_in(None, 10)] == [kept.message_id]

    @needs(Capability.CONTROL)
    def test_purged_messages_have_no_progress(self, store: FullStore) -> None:
        receipt = leased(store)
        report(store, receipt, 0.5)
        store.purge(ORDERS)
        assert store.progress_in(None, 10) == []

    @needs(Capability.MAINTENANCE)
    def test_reports_stay_in_maintenance_while_their_leases_last(self, store: FullStore) -> None:
        kept, ended = leased(store), leased(store)
        for receipt in (kept, ended):
            report(store, receipt, 0.5)
        store.complete([Completion(ended)])
        store.maintain()
        store.prune()
        assert [one.message_id for one in store.progress_in(None, 10)] == [kept.message_id]
