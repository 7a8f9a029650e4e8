"""The search for messages: newest first, by state, key or text, page by page."""
# ruff: noqa: D102, S101 - test names are sentences, and tests assert

from __future__ import annotations

import pytest

from durableq.model.errors import InvalidInput, UnknownQueue
from durableq.model.info import Search
from durableq.model.message import Reason, State
from durableq.store.core import Capability
from durableq.testing.contract.case import (
    DEAD,
    ORDERS,
    FullStore,
    StoreCase,
    drafts,
    fail,
    needs,
    send,
    take,
)


def found(
    store: FullStore, wanted: Search, queue: str = ORDERS, limit: int = 10
) -> tuple[list[str], str | None]:
    """Return the ids of the first page of a search, and where it ended."""
    page = store.search(queue, limit, wanted)
    return [message.id for message in page.messages], page.looked_to


@needs(Capability.INSPECT)
class SearchContract(StoreCase):
    """The search of the Inspect capability."""

    def test_a_search_without_conditions_goes_from_the_newest_page_by_page(
        self, store: FullStore
    ) -> None:
        store.declare_queue("mail", {})
        ids = []
        for number in range(7):
            ids.append(send(store, number, priority=number % 3))
            store.send("mail", drafts(number))
        seen: list[str] = []
        page = store.search(ORDERS, 3)
        while page.looked_to is not None:
            assert page.looked_to == page.messages[-1].id
            seen += [message.id for message in page.messages]
            page = store.search(ORDERS, 3, before_id=page.looked_to)
        assert seen + [message.id for message in page.messages] == ids[::-1]

    def test_a_search_shows_the_messages_that_peek_shows(self, store: FullStore) -> None:
        send(store, 1, key="k")
        send(store, 2, delay=10)
        send(store, 3)
        take(store)
        assert store.search(ORDERS, 10).messages == store.peek(ORDERS, 10)[::-1]

    def test_a_search_by_state(self, store: FullStore) -> None:
        store.declare_queue(ORDERS, {"group_concurrency": 1})
        in_flight = send(store, 1)
        take(store)
        delayed = send(store, 2, delay=10)
        heads = [send(store, 3, group="g"), send(store, 4)]
        blocked = send(store, 5, group="g")
        assert found(store, Search(State.IN_FLIGHT)) == ([in_flight], None)
        assert found(store, Search(State.DELAYED)) == ([delayed], None)
        assert found(store, Search(State.READY)) == (heads[::-1], None)
        assert found(store, Search(State.BLOCKED)) == ([blocked], None)

    def test_a_search_by_key(self, store: FullStore) -> None:
        store.declare_queue("mail", {})
        first = send(store, 1, key="k")
        send(store, 2, key="other")
        send(store, 3)
        second = send(store, 4, key="k")
        store.send("mail", drafts(5))
        assert found(store, Search(key="k")) == ([second, first], None)
        assert found(store, Search(key="missing")) == ([], None)

    def test_a_search_by_text_compares_json_as_it_is_stored(self, store: FullStore) -> None:
        first = send(store, {"name": "Müller", "note": 'says "hi"'})
        second = send(store, {"name": "müller"})
        assert found(store, Search(text="Müller")) == ([first], None)
        assert found(store, Search(text='"name":"')) == ([second, first], None)
        assert found(store, Search(text='\\"hi\\"')) == ([first], None)
        assert found(store, Search(text="%")) == ([], None)

    def test_bodies_of_bytes_are_not_searched(self, store: FullStore) -> None:
        send(store, b"text")
        send(store, bytes(range(256)))
        for text in ("text", "x", "74657874", "\\"):
            assert found(store, Search(text=text)) == ([], None)

    def test_all_conditions_must_be_met(self, store: FullStore) -> None:
        wanted = send(store, "blue", key="a", delay=10)
        send(store, "blue", key="b", delay=10)
        send(store, "red", key="c", delay=10)
        send(store, "blue")
        assert found(store, Search(State.DELAYED, "a", "blue")) == ([wanted], None)

    def test_dead_letters_are_searched_in_their_queue(self, store: FullStore) -> None:
        dead = send(store, "lost")
        fail(store, take(store), reason=Reason.REJECTED)
        assert found(store, Search(text="lost"), DEAD) == ([dead], None)
        assert found(store, Search(text="lost")) == ([], None)

    def test_a_search_looks_at_a_bounded_number_of_messages(self, store: FullStore) -> None:
        first = send(store, "needle")
        ids = [id_ for _ in range(10) for id_ in store.send(ORDERS, drafts(*["hay"] * 1_000))]
        page = store.search(ORDERS, 5, Search(text="needle"))
        assert (page.messages, page.looked_to) == ([], ids[0])
        page = store.search(ORDERS, 5, Search(text="needle"), page.looked_to)
        assert [message.id for message in page.messages] == [first]
        assert page.looked_to is None
        store.declare_queue("mail", {})
        store.send("mail", drafts("hay"))
        assert [message.id for message in store.search(ORDERS, 2).messages] == ids[:-3:-1]

    @pytest.mark.parametrize("wanted", [Search(key=""), Search(text=""), Search(text="a\0b")])
    def test_an_impossible_condition_is_refused(self, store: FullStore, wanted: Search) -> None:
        with pytest.raises(InvalidInput, match="of a search has characters"):
            store.search(ORDERS, 5, wanted)

    def test_an_invalid_id_and_an_unknown_queue_are_refused(self, store: FullStore) -> None:
        with pytest.raises(InvalidInput, match="is not a message id"):
            store.search(ORDERS, 5, before_id="x")
        with pytest.raises(UnknownQueue):
            store.search("nowhere", 5)
