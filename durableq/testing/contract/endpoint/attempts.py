"""Receives that are repeated by their attempt id."""
# ruff: noqa: D102, S101 - test names are sentences, and tests assert

from __future__ import annotations

from typing import Any

import pytest

from durableq.model.endpoint import ATTEMPT_MS
from durableq.model.errors import InvalidInput
from durableq.model.message import Message, Outcome, Served
from durableq.model.wire_message import body_of, to_draft
from durableq.store.core import Capability, Receive
from durableq.testing.contract.case import (
    ORDERS,
    VISIBILITY_SECONDS,
    FullStore,
    StoreCase,
    complete,
    fail,
    needs,
    receipt,
    receive,
    send,
)
from durableq.testing.fakes import FakeClock

ATTEMPT = Served(fill_groups=True, attempt_id="attempt-1")


@needs(Capability.ENDPOINT)
class AttemptsContract(StoreCase):
    """Receives that are repeated under an id."""

    @pytest.fixture
    def grouped(self, store: FullStore) -> FullStore:
        """The store, with three messages of a group, and two of another."""
        store.declare_queue(ORDERS, {"group_concurrency": 1})
        texts = (("a", "1"), ("b", "2"), ("a", "3"), ("a", "4"), ("b", "5"))
        store.send(ORDERS, [to_draft(text, group=group) for group, text in texts])
        return store

    def attempt(self, store: FullStore, limit: int = 3, **options: Any) -> list[Message]:
        """Receive under the id."""
        return receive(store, limit, served=ATTEMPT, **options)

    def test_the_same_messages_come_again_under_the_same_receipts(self, grouped: FullStore) -> None:
        first = self.attempt(grouped)
        assert [body_of(one) for one in first] == ["1", "3", "4"]
        again = self.attempt(grouped, 10)
        assert again == first
        assert [one.receive_count for one in again] == [1, 1, 1]
        complete(grouped, *map(receipt, first))
        assert [body_of(one) for one in self.attempt(grouped, 10)] == ["2", "5"]

    def test_a_repeated_receive_leases_from_now(self, grouped: FullStore, clock: FakeClock) -> None:
        first = self.attempt(grouped)
        clock.advance(VISIBILITY_SECONDS - 1)
        again = self.attempt(grouped, visibility_ms=60_000)
        assert [one.lease_left_ms for one in again] == [60_000] * 3
        clock.advance(59)
        assert self.attempt(grouped)[0].receipt == first[0].receipt
        assert complete(grouped, *map(receipt, first)) == [Outcome.DONE] * 3

    def test_another_id_gets_other_messages(self, grouped: FullStore) -> None:
        self.attempt(grouped)
        other = receive(grouped, 3, served=ATTEMPT._replace(attempt_id="attempt-2"))
        assert [body_of(one) for one in other] == ["2", "5"]

    @pytest.mark.parametrize("how", ["complete", "fail", "extend", "release"])
    def test_a_receive_of_which_one_message_was_changed_is_not_repeated(
        self, grouped: FullStore, how: str
    ) -> None:
        _, second, _ = map(receipt, self.attempt(grouped))
        if how == "complete":
            complete(grouped, second)
        elif how == "fail":
            fail(grouped, second)
        elif how == "extend":
            grouped.extend([second], 31_000)
        else:
            grouped.release([second])
        assert [body_of(one) for one in self.attempt(grouped)] == ["2", "5"]

    def test_a_receive_whose_leases_have_ended_is_not_repeated(
        self, grouped: FullStore, clock: FakeClock
    ) -> None:
        grouped.declare_queue(ORDERS, {"backoff_base_ms": 0, "backoff_max_ms": 0})
        first = self.attempt(grouped)
        clock.advance(VISIBILITY_SECONDS)
        again = self.attempt(grouped)
        assert again[0].receipt != first[0].receipt

    def test_a_receive_is_repeated_for_five_minutes(
        self, grouped: FullStore, clock: FakeClock
    ) -> None:
        self.attempt(grouped, visibility_ms=2 * ATTEMPT_MS)
        clock.advance(ATTEMPT_MS / 1_000 - 1)
        assert len(self.attempt(grouped, visibility_ms=2 * ATTEMPT_MS)) == 3
        clock.advance(1)
        assert [body_of(one) for one in self.attempt(grouped)] == ["2", "5"]

    def test_an_empty_receive_is_not_remembered(self, store: FullStore) -> None:
        assert self.attempt(store) == []
        send(store, 1)
        assert [body_of(one) for one in self.attempt(store)] == ["1"]

    def test_an_id_is_one_of_its_queue(self, grouped: FullStore) -> None:
        grouped.declare_queue("mail", {})
        self.attempt(grouped)
        assert receive(grouped, 3, "mail", served=ATTEMPT) == []
        [received] = grouped.together([Receive(ORDERS, 3, served=ATTEMPT)])
        assert not isinstance(received, Exception | list)
        assert [body_of(one) for one in received.messages] == ["1", "3", "4"]

    def test_ids_go_with_their_queue(self, grouped: FullStore) -> None:
        self.attempt(grouped)
        grouped.delete_queue(ORDERS, force=True)
        grouped.declare_queue(ORDERS, {})
        assert self.attempt(grouped) == []

    @pytest.mark.parametrize("attempt_id", ["", "x" * 129, 7])
    def test_an_id_out_of_bounds_is_refused(self, store: FullStore, attempt_id: str) -> None:
        with pytest.raises(InvalidInput, match="1 to 128"):
            store.receive(ORDERS, 1, served=Served(attempt_id=attempt_id))

    def test_a_repeated_receive_for_an_impossible_time_is_refused(self, grouped: FullStore) -> None:
        self.attempt(grouped)
        with pytest.raises(InvalidInput, match="visibility timeout"):
            self.attempt(grouped, visibility_ms=0)
        assert len(self.attempt(grouped)) == 3
