"""Sending: all or nothing, in order, within the limits."""
# ruff: noqa: D102, S101 - test names are sentences, and tests assert

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from durableq.model.errors import Conflict, InvalidBody, InvalidInput, UnknownQueue
from durableq.model.limits import MAX_DELAY_MS, MAX_SEND_BATCH
from durableq.model.message import Draft, State, draft
from durableq.store.core import Capability
from durableq.testing.contract.case import (
    DEAD,
    ORDERS,
    FullStore,
    StoreCase,
    bodies,
    complete,
    drafts,
    look,
    needs,
    receive,
    send,
    take,
)
from durableq.testing.fakes import FakeClock


def in_seconds(clock: FakeClock, seconds: float) -> datetime:
    """Return a time so many seconds from now."""
    return datetime.fromtimestamp(clock.wall_ms() / 1000, UTC) + timedelta(seconds=seconds)


class SendingContract(StoreCase):
    """The promises to a sender."""

    @needs(Capability.INSPECT)
    def test_ids_come_in_the_order_of_the_batch(self, store: FullStore) -> None:
        ids = store.send(ORDERS, drafts("a", "b", "c"))
        assert [look(store, message_id).body for message_id in ids] == ['"a"', '"b"', '"c"']
        assert [message.id for message in store.peek(ORDERS, 10)] == ids

    def test_an_id_is_never_given_again(self, store: FullStore) -> None:
        first = send(store)
        complete(store, take(store))
        assert send(store) != first

    def test_a_message_comes_out_as_it_went_in(self, store: FullStore, clock: FakeClock) -> None:
        message_id = send(
            store, {"n": [1, None, "ü"]}, key="k", attributes={"a": 1, "b": "x"}, priority=7
        )
        [message] = receive(store)
        assert message.body == '{"n":[1,null,"ü"]}'
        assert (message.id, message.queue) == (message_id, ORDERS)
        assert (message.key, message.priority) == ("k", 7)
        assert message.attributes == '{"a":1,"b":"x"}'
        assert message.sent_at_ms == message.enqueued_at_ms == clock.wall_ms()
        assert (message.recovery_count, message.source_queue) == (0, None)

    def test_bytes_come_back_as_bytes_and_text_as_text(self, store: FullStore) -> None:
        store.send(ORDERS, [draft(b'"\x00\xff"'), draft("\x00"), draft(b"")])
        assert bodies(receive(store)) == [b'"\x00\xff"', '"\\u0000"', b""]

    @needs(Capability.INSPECT)
    def test_an_empty_batch_sends_nothing(self, store: FullStore) -> None:
        assert store.send(ORDERS, []) == []
        assert store.queue(ORDERS).counters.sent == 0

    @needs(Capability.INSPECT)
    def test_a_batch_with_one_body_too_large_sends_nothing(self, store: FullStore) -> None:
        store.declare_queue(ORDERS, {"max_body_bytes": 6})
        with pytest.raises(InvalidBody, match=r"Message 2\b.*\b7 bytes.*\b6\b"):
            store.send(ORDERS, drafts("1234", "12345"))
        assert store.peek(ORDERS, 10) == []
        assert store.queue(ORDERS).counters.sent == 0

    def test_a_body_is_measured_in_bytes(self, store: FullStore) -> None:
        store.declare_queue(ORDERS, {"max_body_bytes": 6})
        send(store, "üü")
        with pytest.raises(InvalidBody, match="The body has 8 bytes; queue 'orders' takes"):
            send(store, "üüü")
        with pytest.raises(InvalidBody, match="Message 2 of this batch has a body of 8 bytes"):
            store.send(ORDERS, drafts("üü", "üüü"))

    def test_a_batch_over_the_limit_is_refused(self, store: FullStore) -> None:
        with pytest.raises(InvalidInput, match=str(MAX_SEND_BATCH)):
            store.send(ORDERS, [Draft("1")] * (MAX_SEND_BATCH + 1))

    def test_a_send_to_an_unknown_queue_is_refused(self, store: FullStore) -> None:
        with pytest.raises(UnknownQueue, match="'unknown'"):
            send(store, queue="unknown")

    def test_a_message_for_a_time_is_received_from_then_on(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        send(store, "later", at=in_seconds(clock, 3))
        clock.advance(2.999)
        assert receive(store) == []
        clock.advance(0.001)
        assert bodies(receive(store)) == ['"later"']

    def test_a_time_in_the_past_is_now_also_in_a_queue_with_a_delay(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        store.declare_queue(ORDERS, {"delay_ms": 60_000})
        send(store, "early", at=in_seconds(clock, -3))
        assert bodies(receive(store)) == ['"early"']

    @needs(Capability.INSPECT)
    def test_messages_of_a_batch_have_times_and_delays_of_their_own(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        made = [
            draft("at", at=in_seconds(clock, 5)),
            draft("delay", delay=timedelta(seconds=9), group="g"),
            draft("both", at=in_seconds(clock, 7), replace_key="k"),
        ]
        ids = store.send(ORDERS, made)
        due = [look(store, one).delayed_until_ms - clock.wall_ms() for one in ids]
        assert due == [5_000, 9_000, 7_000]

    @needs(Capability.INSPECT)
    def test_a_time_that_is_too_far_is_refused(self, store: FullStore, clock: FakeClock) -> None:
        with pytest.raises(InvalidInput, match="at most"):
            send(store, at=in_seconds(clock, MAX_DELAY_MS / 1000 + 1))
        assert store.peek(ORDERS, 10) == []

    @needs(Capability.INSPECT)
    def test_a_time_after_the_expiry_is_refused(self, store: FullStore, clock: FakeClock) -> None:
        with pytest.raises(InvalidInput, match="expires before it is due"):
            send(store, at=in_seconds(clock, 5), expires_in=5)
        assert store.peek(ORDERS, 10) == []

    @needs(Capability.INSPECT)
    def test_a_send_to_a_dead_letter_queue_is_refused(self, store: FullStore) -> None:
        with pytest.raises(Conflict, match=DEAD):
            send(store, queue=DEAD)
        assert store.peek(DEAD, 10) == []

    @needs(Capability.INSPECT)
    def test_a_delayed_message_waits_until_it_is_due(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        message_id = send(store, delay=10)
        assert look(store, message_id).state is State.DELAYED
        assert look(store, message_id).delayed_until_ms == clock.wall_ms() + 10_000
        clock.advance(9.999)
        assert store.receive(ORDERS, 1).idle
        clock.advance(0.001)
        [message] = receive(store)
        assert message.delayed_until_ms == 0

    def test_a_message_waits_as_its_queue_says_unless_it_says_otherwise(
        self, store: FullStore
    ) -> None:
        store.declare_queue(ORDERS, {"delay_ms": 10_000})
        send(store, "queue's")
        send(store, "own", delay=0)
        assert bodies(receive(store)) == ['"own"']

    @needs(Capability.INSPECT)
    def test_sending_is_counted(self, store: FullStore) -> None:
        store.send(ORDERS, drafts(1, 2))
        send(store, 3, delay=1)
        info = store.queue(ORDERS)
        assert info.counters.sent == info.counters.expected == 3
        assert (info.counts.ready, info.counts.delayed, info.counts.present) == (2, 1, 3)
