"""Idempotency records: read, completed, forgotten."""
# ruff: noqa: D102, S101 - test names are sentences, and tests assert

from __future__ import annotations

import pytest

from durableq.model import codec
from durableq.model.errors import Conflict, UnknownQueue
from durableq.model.message import Completion, Outcome, RecordStatus
from durableq.store.core import Capability
from durableq.testing.contract.case import (
    DEAD,
    ORDERS,
    FullStore,
    StoreCase,
    bodies,
    complete,
    fail,
    kill,
    needs,
    receipt,
    receive,
    send,
    take,
)
from durableq.testing.fakes import FakeClock


@needs(Capability.IDEMPOTENCY)
class IdempotencyContract(StoreCase):
    """The records of idempotency keys."""

    def test_a_receive_takes_the_key(self, store: FullStore, clock: FakeClock) -> None:
        message_id = send(store, {"n": 1}, key="k")
        assert store.record(ORDERS, "k") is None
        take(store)
        record = store.record(ORDERS, "k")
        assert record is not None
        assert (record.queue, record.key, record.message_id) == (ORDERS, "k", message_id)
        assert (record.status, record.result) == (RecordStatus.IN_PROGRESS, None)
        assert record.payload_hash == codec.payload_hash('{"n":1}')
        assert record.created_at_ms == clock.wall_ms()
        assert (record.completed_at_ms, record.expires_at_ms) == (None, None)

    def test_success_completes_the_key(self, store: FullStore, clock: FakeClock) -> None:
        store.declare_queue(ORDERS, {"idempotency_ttl_ms": 5_000})
        message_id = send(store, key="k")
        started_ms = clock.wall_ms()
        lease = take(store)
        clock.advance(1)
        complete(store, lease, result='{"paid":1}')
        record = store.record(ORDERS, "k")
        assert record is not None
        assert (record.status, record.message_id) == (RecordStatus.COMPLETED, message_id)
        assert record.result == '{"paid":1}'
        assert record.created_at_ms == started_ms
        assert record.completed_at_ms == clock.wall_ms()
        assert record.expires_at_ms == clock.wall_ms() + 5_000

    @pytest.mark.parametrize(
        ("settings", "group"),
        [
            ({}, None),
            ({"max_in_flight": 2}, None),
            ({"max_backlog_bytes": 1_000}, None),
            ({"group_concurrency": 1}, "g"),
            ({"group_concurrency": 1, "max_in_flight": 2}, "g"),
            ({"expires_in_ms": 60_000}, None),
        ],
    )
    @pytest.mark.parametrize("serves", [False, True])
    def test_success_completes_the_key_in_a_queue_with_any_limit(
        self, store: FullStore, settings: dict[str, int], group: str | None, serves: bool
    ) -> None:
        store.declare_queue(ORDERS, settings)
        if serves:  # it is a dead-letter queue too
            store.declare_queue("mail", {"dead_letter_queue": ORDERS})
        for number in range(2):
            send(store, number, key=f"k{number}", group=group)
        for number in range(2):
            complete(store, take(store), result="1" if number else None)
            record = store.record(ORDERS, f"k{number}")
            assert record is not None
            assert record.status == RecordStatus.COMPLETED

    def test_a_key_that_failed_may_be_taken_by_the_next(self, store: FullStore) -> None:
        send(store, 1, key="k")
        second = send(store, 2, key="k")
        received = store.receive(ORDERS, 10)
        fail(store, receipt(received.messages[0]))
        [message] = receive(store)
        assert message.id == second
        record = store.record(ORDERS, "k")
        assert record is not None
        assert record.message_id == second

    def test_messages_without_a_key_leave_no_record(self, store: FullStore) -> None:
        send(store)
        complete(store, take(store))
        assert store.records(ORDERS, 10) == []

    @needs(Capability.INSPECT)
    def test_a_repeated_completion_that_names_its_key_is_done_again(self, store: FullStore) -> None:
        send(store, key="k")
        lease = take(store)
        first = store.complete([Completion(lease, "1", "k"), Completion(lease, "2", "k")])
        assert first == [Outcome.DONE, Outcome.DONE]
        assert store.complete([Completion(lease, "3", "k")]) == [Outcome.DONE]
        assert store.complete([Completion(lease, "3", "j")]) == [Outcome.GONE]
        assert store.complete([Completion(lease, "3")]) == [Outcome.GONE]
        record = store.record(ORDERS, "k")
        assert record is not None
        assert record.result == "1"
        assert store.queue(ORDERS).counters.completed == 1

    def test_a_result_can_be_attached_by_the_receipt_that_completed(self, store: FullStore) -> None:
        send(store, key="k")
        lease = take(store)
        assert store.attach_result(lease, "k", "1") is Outcome.GONE
        complete(store, lease)
        assert store.attach_result(lease, "k", "1") is Outcome.DONE
        assert store.attach_result(lease._replace(token="0" * 32), "k", "2") is Outcome.GONE
        assert store.attach_result(lease, "other", "2") is Outcome.GONE
        send(store, key="k")
        [duplicate] = store.receive(ORDERS, 1).duplicates
        assert duplicate.result == "1"

    def test_an_expired_record_is_forgotten(self, store: FullStore, clock: FakeClock) -> None:
        store.declare_queue(ORDERS, {"idempotency_ttl_ms": 5_000})
        send(store, 1, key="k")
        complete(store, take(store), result="1")
        clock.advance(4.999)
        assert store.record(ORDERS, "k") is not None
        clock.advance(0.001)
        assert store.record(ORDERS, "k") is None
        assert store.records(ORDERS, 10) == []
        assert store.forget(ORDERS, "k") is False
        send(store, 2, key="k")
        assert bodies(receive(store)) == ["2"]
        record = store.record(ORDERS, "k")
        assert record is not None
        assert (record.status, record.result) == (RecordStatus.IN_PROGRESS, None)

    def test_a_forgotten_key_may_succeed_again(self, store: FullStore) -> None:
        send(store, key="k")
        complete(store, take(store))
        assert store.forget(ORDERS, "k") is True
        assert store.forget(ORDERS, "k") is False
        assert store.record(ORDERS, "k") is None
        send(store, "another", key="k")
        assert len(receive(store)) == 1

    def test_a_key_in_progress_cannot_be_forgotten(self, store: FullStore) -> None:
        send(store, key="k")
        take(store)
        with pytest.raises(Conflict, match="in progress"):
            store.forget(ORDERS, "k")

    def test_keys_of_an_unknown_queue_are_refused(self, store: FullStore) -> None:
        with pytest.raises(UnknownQueue):
            store.forget("unknown", "k")
        with pytest.raises(UnknownQueue):
            store.record("unknown", "k")

    def test_records_come_in_order_of_key_and_page_by_page(self, store: FullStore) -> None:
        for key in ("b", "ü", "a", "B", "𝄞", "\uffff"):
            send(store, key=key)
            complete(store, take(store))
        keys = [record.key for record in store.records(ORDERS, 10)]
        assert keys == ["B", "a", "b", "ü", "\uffff", "𝄞"]
        page = store.records(ORDERS, 2, after_key="a")
        assert [record.key for record in page] == ["b", "ü"]

    def test_records_are_counted_up_to_a_limit(self, store: FullStore, clock: FakeClock) -> None:
        store.declare_queue(ORDERS, {"idempotency_ttl_ms": 5_000})
        store.declare_queue("mail", {})
        for key in "abc":
            send(store, key=key)
            complete(store, take(store))
        assert [store.count_records(ORDERS, limit) for limit in (2, 3, 9)] == [2, 3, 3]
        assert store.count_records("mail", 9) == 0
        clock.advance(5)
        assert store.count_records(ORDERS, 9) == 0
        with pytest.raises(UnknownQueue):
            store.count_records("unknown", 9)

    def test_keys_are_counted_by_status(self, store: FullStore) -> None:
        send(store, 1, key="done")
        complete(store, take(store))
        send(store, 1, key="now")
        send(store, 1, key="now")
        take(store)
        kill(store, 1, key="dead")
        counted = store.key_counts()
        assert (counted.in_progress, counted.completed) == (1, 1)

    def test_a_key_guards_nothing_in_a_dead_letter_queue(self, store: FullStore) -> None:
        kill(store, 1, key="k")
        kill(store, 1, key="k")
        send(store, 1, key="k")
        complete(store, take(store))
        dead_letters = receive(store, queue=DEAD)
        assert len(dead_letters) == 2
        assert store.records(DEAD, 10) == []
