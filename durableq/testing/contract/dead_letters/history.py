"""The history of messages, and of dead letters."""
# ruff: noqa: D102, S101 - test names are sentences, and tests assert

from __future__ import annotations

import pytest

from durableq.model.dead_letters import DeadLetterFilter
from durableq.model.decisions import Requeue
from durableq.model.errors import InvalidInput
from durableq.model.limits import MAX_HISTORY
from durableq.model.message import Event, Reason
from durableq.store.core import Capability
from durableq.testing.contract.case import (
    DEAD,
    ORDERS,
    VISIBILITY_SECONDS,
    FullStore,
    StoreCase,
    decide,
    fail,
    kill,
    look,
    needs,
    send,
    story,
    take,
)
from durableq.testing.fakes import FakeClock


@needs(Capability.DEAD_LETTERS)
class HistoryContract(StoreCase):
    """The exceptional events of a message."""

    @needs(Capability.FLEET, Capability.INSPECT)
    def test_a_dead_letter_comes_with_its_history(self, store: FullStore, clock: FakeClock) -> None:
        store.declare_queue(ORDERS, {"max_receives": 2, "max_recoveries": 7})
        message_id = send(store, [1], key="k")
        fail(store, take(store), retry_in_ms=0)
        take(store)
        clock.advance(VISIBILITY_SECONDS)
        store.reclaim()
        dead_letter = store.dead_letter(message_id)
        assert dead_letter is not None
        assert dead_letter.message == look(store, message_id)
        assert (dead_letter.source_queue, dead_letter.reason) == (ORDERS, Reason.LEASE_EXPIRED)
        assert dead_letter.died_at_ms == clock.wall_ms()
        assert dead_letter.max_recoveries == 7
        assert list(dead_letter.history) == store.history(message_id)
        assert [e.event for e in dead_letter.failures] == [Event.FAILED, Event.LEASE_EXPIRED]
        assert (dead_letter.key, dead_letter.body) == ("k", [1])

    def test_dead_letters_come_page_by_page_in_order_of_id(self, store: FullStore) -> None:
        ids = [kill(store, body) for body in range(3)]
        send(store)
        first = store.dead_letters(DeadLetterFilter(), 2)
        rest = store.dead_letters(DeadLetterFilter(), 2, first[-1].id)
        assert [*first, *rest] == [store.dead_letter(message_id) for message_id in ids]
        assert store.dead_letters(DeadLetterFilter(), 2, ids[-1]) == []

    def test_the_newest_dead_letters_come_first_on_request(self, store: FullStore) -> None:
        ids, wanted = [kill(store, body) for body in range(5)], DeadLetterFilter(ORDERS)
        first = store.dead_letters(wanted, 2, newest_first=True)
        rest = store.dead_letters(wanted, 9, first[-1].id, newest_first=True)
        assert [each.id for each in (*first, *rest)] == ids[::-1]
        assert store.dead_letters(wanted, 2, ids[0], newest_first=True) == []
        with pytest.raises(InvalidInput, match="is not a message id"):
            store.dead_letters(wanted, 1, "x", newest_first=True)

    def test_dead_letters_are_filtered(self, store: FullStore, clock: FakeClock) -> None:
        old = kill(store)
        clock.advance(10)
        now_ms = clock.wall_ms()
        kill(store, 2)
        for wanted in (
            DeadLetterFilter(ORDERS),
            DeadLetterFilter(reason=Reason.REJECTED, error_type="ValueError"),
            DeadLetterFilter(fingerprint=store.dead_letters(DeadLetterFilter(), 1)[0].fingerprint),
        ):
            assert len(store.dead_letters(wanted, 9)) == 2
        before = store.dead_letters(DeadLetterFilter(died_before_ms=now_ms), 9)
        assert [dead_letter.id for dead_letter in before] == [old]
        assert store.dead_letters(DeadLetterFilter(reason=Reason.TIMEOUT), 9) == []
        assert store.dead_letters(DeadLetterFilter("mail"), 9) == []

    @pytest.mark.parametrize("after_id", ["", "x", "-1"])
    def test_dead_letters_after_an_invalid_id_are_refused(
        self, store: FullStore, after_id: str
    ) -> None:
        with pytest.raises(InvalidInput, match="is not a message id"):
            store.dead_letters(DeadLetterFilter(), 1, after_id)

    def test_a_living_message_is_no_dead_letter(self, store: FullStore) -> None:
        assert store.dead_letter(send(store)) is None
        assert store.dead_letter("0") is None

    def test_a_burial_follows_its_failure_in_history(self, store: FullStore) -> None:
        message_id = kill(store)
        failed, buried = store.history(message_id)
        assert (failed.event, failed.error_type) == (Event.FAILED, "ValueError")
        assert (buried.event, buried.queue) == (Event.BURIED, ORDERS)
        assert (buried.reason, buried.actor) == (Reason.REJECTED, "worker-1")
        assert (buried.error_type, buried.error_message) == (
            failed.error_type,
            failed.error_message,
        )
        assert (buried.fingerprint, buried.place) == (failed.fingerprint, failed.place)
        assert buried.fingerprint
        assert buried.traceback == ""

    def test_a_message_that_dies_twice_keeps_its_whole_history(self, store: FullStore) -> None:
        message_id = kill(store)
        decide(store, Requeue("again"))
        fail(store, take(store), reason=Reason.UNDECODABLE)
        assert story(store, message_id) == [
            ("failed", "rejected"),
            ("buried", "rejected"),
            ("requeued", "again"),
            ("failed", "undecodable"),
            ("buried", "undecodable"),
        ]
        dead_letter = store.dead_letter(message_id)
        assert dead_letter is not None
        assert (dead_letter.reason, dead_letter.recovery_count) == (Reason.UNDECODABLE, 1)

    @needs(Capability.INSPECT)
    @pytest.mark.parametrize("message_id", ["0", "12", "x", "", "-1", "²", "٣", "9" * 30])
    def test_an_unknown_message_id_has_no_message_and_no_history(
        self, store: FullStore, message_id: str
    ) -> None:
        send(store)
        assert store.message(message_id) is None
        assert store.history(message_id) == []
        assert store.dead_letter(message_id) is None

    def test_history_keeps_the_newest_events(self, store: FullStore, clock: FakeClock) -> None:
        store.declare_queue(ORDERS, {"max_receives": 1000})
        message_id = send(store)
        for _ in range(MAX_HISTORY + 2):
            fail(store, take(store), retry_in_ms=0)
            clock.advance(1)
        events = store.history(message_id)
        assert len(events) == MAX_HISTORY
        assert events[-1].at_ms == clock.wall_ms() - 1_000
        assert events[0].at_ms == clock.wall_ms() - 1_000 * MAX_HISTORY

    def test_a_dead_letter_with_an_endless_history_is_still_one(self, store: FullStore) -> None:
        message_id = kill(store)
        for _ in range(MAX_HISTORY):
            fail(store, take(store, DEAD), retry_in_ms=0)
        dead_letter = store.dead_letter(message_id)
        assert dead_letter is not None
        assert {event.event for event in dead_letter.history} == {Event.FAILED}
        assert dead_letter.died_at_ms == dead_letter.message.enqueued_at_ms
