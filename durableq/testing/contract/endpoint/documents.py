"""An identity of the database, and documents of queues."""
# ruff: noqa: D102, S101 - test names are sentences, and tests assert

from __future__ import annotations

from functools import partial

import pytest

from durableq.model.endpoint import MAX_DOCUMENT_CHARS, Readiness
from durableq.model.errors import Conflict, InvalidInput, UnknownQueue
from durableq.model.message import FOREVER_MS
from durableq.model.wire_message import DATABASE_BITS, to_draft
from durableq.store.core import Capability
from durableq.testing.contract.case import (
    DEAD,
    ORDERS,
    VISIBILITY_SECONDS,
    FullStore,
    StoreCase,
    kill,
    needs,
    receive,
    send,
)
from durableq.testing.fakes import FakeClock


@needs(Capability.ENDPOINT)
class DocumentsContract(StoreCase):
    """The identity of the database, envelopes by id, and documents of queues."""

    def test_the_identity_of_a_database_stays(self, store: FullStore) -> None:
        first = store.database_id()
        assert 0 <= first < 1 << DATABASE_BITS
        assert store.database_id() == first

    def test_envelopes_are_looked_up_by_id(self, store: FullStore, clock: FakeClock) -> None:
        first, second = store.send(ORDERS, [to_draft("x"), to_draft("7", None, {"SenderId": "1"})])
        receive(store, 1)
        found = store.envelopes([first, second, "999"])
        assert found.keys() == {first, second}
        assert found[first].first_received_at_ms == clock.wall_ms()
        assert found[first].body_format == 1
        assert found[second].first_received_at_ms == FOREVER_MS
        assert found[second].system_attributes == '{"system":{"SenderId":"1"}}'
        assert store.envelopes([]) == {}

    def test_several_queues_are_looked_at_together(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        """As `ready_in_ms` and `count_ready` see each, at most as many as are of interest."""
        for name in ("delayed", "leased", "paused", "empty"):
            store.declare_queue(name, {"paused": int(name == "paused")})
        for _ in range(3):
            send(store)
        send(store, queue="delayed", delay=5)
        send(store, queue="leased")
        receive(store, 1, "leased")
        send(store, queue="paused")
        wanted = {ORDERS: 2, "delayed": 1, "leased": 1, "paused": 1, "empty": 1, "gone": 1}
        assert store.readiness(wanted) == {
            ORDERS: Readiness(0, 2),
            "delayed": Readiness(5_000, 0),
            "leased": Readiness(VISIBILITY_SECONDS * 1000, 0),
            "paused": Readiness(None, 0),
            "empty": Readiness(None, 0),
        }
        clock.advance(VISIBILITY_SECONDS)
        both = Readiness(0, 1)
        assert store.readiness({"delayed": 9, "leased": 9}) == {"delayed": both, "leased": both}
        assert store.readiness({}) == {}

    def test_a_queue_without_a_document_has_an_empty_one(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        found = store.queue_document(ORDERS)
        assert found[2:] == ("{}", "{}", clock.wall_ms(), 0, 0)
        assert found.created_at_ms == clock.wall_ms()
        with pytest.raises(UnknownQueue):
            store.queue_document("nowhere")

    def test_the_second_of_two_writers_is_refused(self, store: FullStore, clock: FakeClock) -> None:
        clock.advance(5)
        assert store.store_queue_document(ORDERS, '{"a":1}', "{}", expected=0)
        assert not store.store_queue_document(ORDERS, '{"b":1}', "{}", expected=0)
        found = store.queue_document(ORDERS)
        assert (found.attributes, found.tags, found.version) == ('{"a":1}', "{}", 1)
        assert found.modified_at_ms == clock.wall_ms()
        assert store.store_queue_document(ORDERS, '{"b":1}', "{}", expected=1)
        assert store.queue_document(ORDERS).attributes == '{"b":1}'

    def test_tags_do_not_modify_a_queue(self, store: FullStore, clock: FakeClock) -> None:
        assert store.store_queue_document(ORDERS, '{"a":1}', "{}", expected=0)
        before = store.queue_document(ORDERS)
        clock.advance(5)
        assert store.store_queue_document(ORDERS, '{"a":1}', '{"t":"x"}', expected=1)
        found = store.queue_document(ORDERS)
        assert found == before._replace(tags='{"t":"x"}', version=2)

    def test_a_document_has_a_bound(self, store: FullStore) -> None:
        text = "x" * (MAX_DOCUMENT_CHARS + 1)
        for texts in ((text, "{}"), ("{}", text)):
            with pytest.raises(InvalidInput, match="at most"):
                store.store_queue_document(ORDERS, *texts, expected=0)
        with pytest.raises(UnknownQueue):
            store.store_queue_document("nowhere", "{}", "{}", expected=0)
        assert store.queue_document(ORDERS).version == 0

    def test_documents_are_listed_by_name_in_pages(self, store: FullStore) -> None:
        for name in ("orders-b", "orders.fifo", "mail", "orders_x"):
            store.declare_queue(name, {})
        first = store.queue_documents(2, prefix="orders")
        assert [one.queue for one in first] == ["orders", "orders-b"]
        second = store.queue_documents(9, prefix="orders", after=first[-1].queue)
        assert [one.queue for one in second] == ["orders.fifo", "orders_x"]
        assert [one.queue for one in store.queue_documents(9, prefix="orders_")] == ["orders_x"]
        assert store.queue_documents(9, prefix="%") == []
        assert [one.queue for one in store.queue_documents(9, prefix="m")] == ["mail"]

    def test_pages_find_a_prefix_among_many_others(self, store: FullStore) -> None:
        here = [f"mail-{n:03}" for n in range(120)]
        for name in (*here, *(f"a-{n}" for n in range(110)), "mai", "mail", "mail.x", "maim"):
            store.declare_queue(name, {})
        names, after = list[str](), ""
        while page := store.queue_documents(50, prefix="mail-", after=after):
            names += [one.queue for one in page]
            after = names[-1]
        assert names == here
        assert [one.queue for one in store.queue_documents(2, prefix="mail")] == ["mail", here[0]]

    def test_documents_are_found_by_a_text_of_their_attributes(self, store: FullStore) -> None:
        place = "@123456789012.eu-west-1"
        texts = {ORDERS: '{"a":"50%_x"}', "mail" + place: '{"a":"50%_x"}', "other": '{"a":"50aax"}'}
        for name, text in texts.items():
            store.declare_queue(name, {})
            assert store.store_queue_document(name, text, '{"t":"words"}', expected=0)
        assert [one.queue for one in store.documents_with("50%_x", "")] == [ORDERS]
        assert [one.queue for one in store.documents_with("%_x", place)] == ["mail" + place]
        assert store.documents_with("words", "") == store.documents_with("50%_X", "") == []
        assert store.documents_with("50%_x", "") == [store.queue_document(ORDERS)]

    def test_the_sources_of_a_queue_are_those_with_a_limit_of_receives(
        self, store: FullStore
    ) -> None:
        store.declare_queue("failed", {})
        limits = {"mail": 3, "a": 1, "unlimited": 0}
        for name, max_receives in limits.items():
            store.declare_queue(name, {"max_receives": max_receives, "dead_letter_queue": "failed"})
        assert store.sources_of("failed") == ["a", "mail"]
        assert store.sources_of(DEAD) == [ORDERS]
        assert store.sources_of(ORDERS) == store.sources_of("nowhere") == []

    def test_a_dead_letter_queue_is_listed_once_it_has_a_message_or_a_document(
        self, store: FullStore
    ) -> None:
        store.declare_queue("mail", {})
        assert [one.queue for one in store.queue_documents(9)] == ["mail", ORDERS]
        kill(store)
        assert store.store_queue_document("mail-dlq", "{}", "{}", expected=0)
        names = [one.queue for one in store.queue_documents(9)]
        assert names == ["mail", "mail-dlq", ORDERS, DEAD]

    def test_queues_of_an_account_and_region_are_listed_apart(self, store: FullStore) -> None:
        place = "@123456789012.eu-west-1"
        store.declare_queue("mail" + place, {})
        store.store_queue_document("mail" + place + "-dlq", "{}", "{}", expected=0)
        names = [one.queue for one in store.queue_documents(9, place=place)]
        assert names == ["mail" + place, "mail" + place + "-dlq"]
        [found] = store.queue_documents(9, place=place, prefix="mail-d")
        assert found.queue == "mail" + place + "-dlq"
        assert [one.queue for one in store.queue_documents(9)] == [ORDERS]

    @needs(Capability.INSPECT)
    def test_a_queue_is_purged_once_within_a_time(self, store: FullStore, clock: FakeClock) -> None:
        send(store)
        assert store.purge_once(ORDERS, 60_000)
        assert store.peek(ORDERS, 1) == []
        clock.advance(59)
        send(store)
        assert not store.purge_once(ORDERS, 60_000)
        assert len(store.peek(ORDERS, 9)) == 1
        assert store.purge_once(ORDERS, 0)
        clock.advance(60)
        assert store.purge_once(ORDERS, 60_000)
        found = store.queue_document(ORDERS)
        assert (found.purged_at_ms, found.version) == (clock.wall_ms(), 0)
        assert store.queue(ORDERS).counters.purged == 2
        with pytest.raises(UnknownQueue):
            store.purge_once("nowhere", 60_000)

    @needs(Capability.INSPECT)
    def test_a_queue_is_created_with_its_document_once(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        changes = {"delay_ms": 7, "dead_letter_queue": ORDERS}
        create = partial(store.store_queue_document, expected=None, changes=changes)
        assert create("mail", '{"a":1}', '{"t":"x"}')
        found = store.queue_document("mail")
        now_ms = clock.wall_ms()
        assert found == ("mail", now_ms, '{"a":1}', '{"t":"x"}', now_ms, 0, 1)
        info = store.queue("mail")
        assert (info.settings.delay_ms, info.dead_letter_queue) == (7, ORDERS)
        for name in ("mail", DEAD):
            before = store.queue(name), store.queue_document(name)
            assert not create(name, '{"b":1}', "{}")
            assert (store.queue(name), store.queue_document(name)) == before

    @needs(Capability.INSPECT)
    def test_a_queue_becomes_the_dead_letter_queue_of_others_with_its_document(
        self, store: FullStore
    ) -> None:
        store.declare_queue("mail", {})
        store.store_queue_document("mail", '{"a":1}', "{}", expected=0)
        before = store.queue_document("mail")
        create = partial(store.store_queue_document, "late", "{}", "{}", expected=None)
        assert not create(sources={ORDERS: 0, "mail": 0})
        with pytest.raises(UnknownQueue):
            create(sources={ORDERS: 0, "nowhere": 0})
        with pytest.raises(UnknownQueue):
            store.queue("late")
        assert create(sources={ORDERS: 0, "mail": 1})
        pointed = {name: store.queue(name).dead_letter_queue for name in (ORDERS, "mail", "late")}
        assert pointed == {ORDERS: "late", "mail": "late", "late": "late-dlq"}
        assert store.queue_document("mail") == before

    def test_settings_change_with_the_document_or_not_at_all(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        clock.advance(5)
        assert store.store_queue_document(ORDERS, "{}", "{}", expected=0, changes={"delay_ms": 7})
        found = store.queue_document(ORDERS)
        assert (found.modified_at_ms, found.version) == (clock.wall_ms(), 1)
        for late in (0, 2):
            changes = {"delay_ms": 8}
            assert not store.store_queue_document(
                ORDERS, "{}", "{}", expected=late, changes=changes
            )
        for wrong in ({"dead_letter_queue": "nowhere"}, {"delay_ms": -1}):
            with pytest.raises((UnknownQueue, InvalidInput)):
                store.store_queue_document(ORDERS, '{"b":1}', "{}", expected=1, changes=wrong)
        assert store.settings(ORDERS).delay_ms == 7
        assert store.queue_document(ORDERS) == found

    @needs(Capability.CONTROL)
    def test_a_document_goes_with_its_queue(self, store: FullStore) -> None:
        store.store_queue_document(ORDERS, '{"a":1}', "{}", expected=0)
        store.store_queue_document(DEAD, '{"a":1}', "{}", expected=0)
        store.delete_queue(ORDERS)
        store.declare_queue(ORDERS, {})
        assert store.queue_document(ORDERS).version == 0
        assert store.queue_document(DEAD).version == 0

    def test_a_deletion_is_remembered(self, store: FullStore, clock: FakeClock) -> None:
        for name in ("nowhere", DEAD):
            with pytest.raises((UnknownQueue, Conflict)):
                store.remove_queue(name)
            assert store.deleted_ms_ago(name) is None
        send(store)
        store.remove_queue(ORDERS)
        clock.advance(5)
        assert store.deleted_ms_ago(ORDERS) == 5_000
        store.declare_queue(ORDERS, {})
        assert store.queue_document(ORDERS).version == 0
        store.remove_queue(ORDERS)
        assert store.deleted_ms_ago(ORDERS) == 0

    @needs(Capability.MAINTENANCE)
    def test_maintenance_forgets_deletions(self, store: FullStore, clock: FakeClock) -> None:
        store.remove_queue(ORDERS)
        clock.advance(3_599)
        store.prune()
        assert store.deleted_ms_ago(ORDERS) == 3_599_000
        clock.advance(1)
        store.prune()
        assert store.deleted_ms_ago(ORDERS) is None
