"""The history of all messages: in the order of the writes, from a mark on."""
# ruff: noqa: D102, S101 - test names are sentences, and tests assert

from __future__ import annotations

import pytest

from durableq.model.errors import InvalidInput, UnknownQueue
from durableq.model.info import ALL_EVENTS, HistoryFilter
from durableq.model.limits import LOOKED_BACK, SEARCHED
from durableq.model.message import Event
from durableq.store.core import Capability
from durableq.testing.contract.case import (
    DEAD,
    ORDERS,
    FullStore,
    StoreCase,
    fail,
    kill,
    needs,
    send,
    take,
)
from durableq.testing.contract.queueing.clock_jumps import jumps, set_ahead
from durableq.testing.fakes import FakeClock

Told = list[tuple[str, str]]


def told(store: FullStore, after: str = "", wanted: HistoryFilter = ALL_EVENTS) -> Told:
    """Return message id and kind of all events after a mark, read in pages of two."""
    found: Told = []
    while True:
        page = store.events(after, 2, wanted)
        assert len(page.events) <= 2
        if page.mark == after:
            return found
        found += [(event.message_id, event.event.value) for event in page.events]
        after = page.mark


def fail_once(store: FullStore, queue: str = ORDERS) -> str:
    """Send a message that fails, and is to be retried in ten minutes; return its id."""
    message_id = send(store, queue=queue)
    fail(store, take(store, queue), retry_in_ms=600_000)
    return message_id


@needs(Capability.INSPECT)
class EventsContract(StoreCase):
    """The events of the Inspect capability."""

    def test_events_of_all_messages_come_in_the_order_of_their_writes(
        self, store: FullStore
    ) -> None:
        store.declare_queue("mail", {})
        assert told(store) == []
        first = fail_once(store)
        second = fail_once(store, "mail")
        third = kill(store)
        expected = [(first, "failed"), (second, "failed"), (third, "failed"), (third, "buried")]
        assert told(store) == expected

    @needs(Capability.DEAD_LETTERS)
    def test_an_event_is_whole(self, store: FullStore) -> None:
        message_id = kill(store)
        assert store.events().events == store.history(message_id)

    def test_a_page_begins_at_the_mark_of_the_page_before(self, store: FullStore) -> None:
        ids = [fail_once(store) for _ in range(3)]
        page = store.events("", 2)
        assert [event.message_id for event in page.events] == ids[:2]
        rest = store.events(page.mark, 2)
        assert [event.message_id for event in rest.events] == ids[2:]
        end = store.events(rest.mark, 2)
        assert (end.events, end.mark) == ([], rest.mark)
        later = fail_once(store)
        assert [event.message_id for event in store.events(end.mark).events] == [later]

    def test_events_by_queue_and_kind(self, store: FullStore) -> None:
        store.declare_queue("mail", {})
        first = kill(store)
        second = fail_once(store, "mail")
        failed, buried = (first, "failed"), (first, "buried")
        assert told(store, wanted=HistoryFilter([ORDERS])) == [failed, buried]
        assert told(store, wanted=HistoryFilter(["mail"])) == [(second, "failed")]
        assert told(store, wanted=HistoryFilter(kinds=[Event.BURIED])) == [buried]
        assert told(store, wanted=HistoryFilter([ORDERS, "mail"], [Event.FAILED])) == [
            failed,
            (second, "failed"),
        ]
        assert told(store, wanted=HistoryFilter([DEAD])) == []

    def test_the_last_events_come_after_the_mark_before_them(self, store: FullStore) -> None:
        assert store.mark_before(0) == store.mark_before(3) == ""
        for _ in range(3):
            kill(store)
        everything = told(store)
        for number in range(8):
            expected = everything[-number:] if number else []
            assert told(store, store.mark_before(number)) == expected
        wanted = HistoryFilter([ORDERS], [Event.BURIED])
        buried = [event for event in everything if event[1] == Event.BURIED.value]
        for number in range(1, 5):
            assert told(store, store.mark_before(number, wanted), wanted) == buried[-number:]

    def test_the_events_since_a_time(self, store: FullStore, clock: FakeClock) -> None:
        store.declare_queue("mail", {})
        assert store.mark_since(0) == ""
        kill(store)
        clock.advance(60)
        began_ms = clock.wall_ms()
        second, third = fail_once(store, "mail"), fail_once(store)
        clock.advance(60)
        later = [(second, "failed"), (third, "failed")]
        assert told(store, store.mark_since(began_ms)) == later
        assert told(store, store.mark_since(began_ms - 1)) == later
        assert len(told(store, store.mark_since(0))) == 4
        assert store.mark_since(began_ms + 1) == store.mark_before(0)

    @jumps
    def test_times_of_events_are_shown_as_the_wall_clock_is_now(
        self, store: FullStore, clock: FakeClock, jump_ms: int
    ) -> None:
        message_id = fail_once(store)
        mark = store.mark_before(0)
        set_ahead(clock, jump_ms)
        assert [event.at_ms for event in store.events().events] == [clock.wall_ms()]
        assert told(store, store.mark_since(clock.wall_ms())) == [(message_id, "failed")]
        assert told(store, store.mark_since(clock.wall_ms() + 1)) == []
        assert told(store, mark) == []

    @needs(Capability.CONTROL)
    def test_after_the_newest_events_are_removed_none_is_missed(self, store: FullStore) -> None:
        store.declare_queue("mail", {})
        first = fail_once(store)
        for _ in range(3):
            fail_once(store, "mail")
        mark = store.mark_before(0)
        store.delete_queue("mail", force=True)
        later = [(fail_once(store), "failed") for _ in range(5)]
        assert [event for event in told(store, mark) if event[0] != first] == later
        assert told(store, store.mark_before(5)) == later

    def test_an_unknown_queue_and_a_text_that_is_no_mark_are_refused(
        self, store: FullStore
    ) -> None:
        for text in ("1", "x", "1.-1", "-1.1", "1.1", "1.1.1\n", f"1.{'9' * 19}.1"):
            with pytest.raises(InvalidInput, match="is not a mark in the history"):
                store.events(text)
        nowhere = HistoryFilter(["nowhere"])
        with pytest.raises(UnknownQueue):
            store.events(wanted=nowhere)
        with pytest.raises(UnknownQueue):
            store.mark_before(1, nowhere)

    @pytest.mark.parametrize("wanted", [ALL_EVENTS, HistoryFilter([ORDERS])])
    def test_the_number_of_events_has_bounds(self, store: FullStore, wanted: HistoryFilter) -> None:
        fail_once(store)
        for limit in (0, -1, SEARCHED + 1, True, 1.0):
            with pytest.raises(InvalidInput, match="limit of a page of events is a whole number"):
                store.events("", limit, wanted)  # type: ignore[arg-type]
        for number in (-1, LOOKED_BACK + 1, 1.0):
            with pytest.raises(InvalidInput, match="last events is a whole number"):
                store.mark_before(number, wanted)  # type: ignore[arg-type]
        assert len(store.events("", SEARCHED, wanted).events) == 1
        assert store.mark_before(LOOKED_BACK, wanted) == ""
