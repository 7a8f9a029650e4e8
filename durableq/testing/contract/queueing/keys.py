"""Keys: the first success under a key wins, and every later message is recognised."""
# ruff: noqa: D102, S101 - test names are sentences, and tests assert

from __future__ import annotations

import hashlib
import json
from typing import Any, Final

import pytest

from durableq.model.decisions import Retry
from durableq.model.limits import DAY_MS
from durableq.model.message import (
    Completion,
    Draft,
    Duplicate,
    Outcome,
    Reason,
    RecordStatus,
    State,
    draft,
)
from durableq.store.core import Capability
from durableq.testing.contract.case import (
    DEAD,
    ORDERS,
    VISIBILITY_SECONDS,
    FullStore,
    StoreCase,
    bodies,
    complete,
    counters_reconcile,
    decide,
    fail,
    kill,
    look,
    needs,
    receipt,
    receive,
    send,
    story,
    take,
)
from durableq.testing.fakes import FakeClock

SAME: Final = (
    ({"amount": 12}, {"amount": 12.0}),
    ({"amount": 1.2e1}, {"amount": 12}),
    ({10: "x", 9: "y"}, {"9": "y", "10": "x"}),
    ({"a": [{2: 1, 10: 1}]}, {"a": [{"10": 1, "2": 1}]}),
    (-0.0, 0),
    (2.0**70, 2**70),
)

DIFFERENT: Final = (
    (1, True),
    (1, "1"),
    (None, "null"),
    (0, False),
    (9007199254740993, 9007199254740992.0),
    (10**23, 1e23),
    ("\u00e9", "e\u0301"),
    (0.1, 0.1 + 2**-56),
    (b"1", 1),
)

HASHED_ANEW: Final = (
    {"amount": 12.0},
    {10: "x", 9: "y"},
    {"a": [{2: 1, 10: {"b": -0.0}}]},
    {9.5: "x", 10: "y"},
)


def hash_of_0_1(body: Any) -> bytes:
    """Return the payload hash that release 0.1 made of a JSON body."""
    text = json.dumps(body, separators=(",", ":"), sort_keys=True)
    return hashlib.sha256(text.encode()).digest()


def meet(store: FullStore, first: Draft | None, again: Draft | None) -> str:
    """Send and complete one draft, then send another; return the answer to the second."""
    if first is not None:
        store.send(ORDERS, [first])
        complete(store, take(store))
    if again is None:
        return ""
    store.send(ORDERS, [again])
    received = store.receive(ORDERS, 10)
    assert received.messages == []
    return "duplicate" if received.duplicates else "conflict"


class KeysContract(StoreCase):
    """The deliveries of messages with an idempotency key."""

    @needs(Capability.DEAD_LETTERS, Capability.INSPECT)
    def test_a_later_message_under_the_key_is_a_duplicate(self, store: FullStore) -> None:
        send(store, key="k")
        complete(store, take(store), result="1")
        second = send(store, key="k")
        received = store.receive(ORDERS, 10)
        assert received.messages == []
        assert received.duplicates == [Duplicate(second, ORDERS, "k", "1")]
        assert received.set_aside == 0
        assert not received.idle
        assert store.message(second) is None
        assert store.history(second) == []
        assert store.queue(ORDERS).counters.duplicates == 1
        assert counters_reconcile(store)

    @needs(Capability.DEAD_LETTERS, Capability.INSPECT)
    def test_another_payload_under_the_key_is_a_conflict(self, store: FullStore) -> None:
        send(store, {"n": 1}, key="k")
        complete(store, take(store))
        second = send(store, {"n": 2}, key="k")
        received = store.receive(ORDERS, 10)
        assert (received.messages, received.duplicates, received.set_aside) == ([], [], 1)
        dead = look(store, second)
        assert (dead.queue, dead.source_queue, dead.state) == (DEAD, ORDERS, State.READY)
        assert story(store, second) == [("buried", "idempotency_conflict")]
        dead_letter = store.dead_letter(second)
        assert dead_letter is not None
        assert (dead_letter.reason, dead_letter.last_failure) == (Reason.IDEMPOTENCY_CONFLICT, None)
        assert counters_reconcile(store)

    def test_the_spelling_of_a_payload_does_not_matter(self, store: FullStore) -> None:
        send(store, {"a": 1, "b": 2}, key="k")
        complete(store, take(store))
        send(store, {"b": 2, "a": 1}, key="k")
        assert len(store.receive(ORDERS, 1).duplicates) == 1

    @pytest.mark.parametrize(("first", "again"), SAME, ids=ascii)
    def test_equal_payloads_are_duplicates(self, store: FullStore, first: Any, again: Any) -> None:
        assert meet(store, draft(first, key="k"), draft(again, key="k")) == "duplicate"

    @pytest.mark.parametrize(("first", "again"), DIFFERENT, ids=ascii)
    def test_payloads_that_differ_conflict(self, store: FullStore, first: Any, again: Any) -> None:
        assert meet(store, draft(first, key="k"), draft(again, key="k")) == "conflict"

    @needs(Capability.IDEMPOTENCY)
    @pytest.mark.parametrize("body", HASHED_ANEW, ids=ascii)
    def test_hashes_of_release_0_1_match_todays(self, store: FullStore, body: Any) -> None:
        new = draft(body, key="k")
        old = new._replace(payload_hash=hash_of_0_1(body))
        assert old != new, "0.1 hashed it as today: it shows nothing"
        for first, again in ((old, new), (new, old), (old, old)):
            assert meet(store, first, again) == "duplicate"
            store.forget(ORDERS, "k")
        other = draft([body], key="k")
        assert meet(store, old, other) == "conflict"

    @needs(Capability.DEAD_LETTERS)
    def test_a_retry_with_a_changed_body_is_compared_by_its_first_payload(
        self, store: FullStore
    ) -> None:
        """Also if its changed body equals the payload that succeeded under the key meanwhile."""
        changed_id = kill(store, {"size": 12.0}, key="k")
        [dead_letter] = store.lease_dead_letters(DEAD, [changed_id])
        store.decide([(receipt(dead_letter), Retry({"size": 6.0}))])
        retried = take(store)
        assert complete(store, retried) == [Outcome.DONE]
        assert meet(store, None, draft({"size": 12}, key="k")) == "duplicate"
        assert meet(store, None, draft({"size": 6}, key="k")) == "conflict"

    @needs(Capability.DEAD_LETTERS, Capability.INSPECT)
    def test_a_changed_body_is_not_taken_for_the_payload(self, store: FullStore) -> None:
        changed_id = kill(store, {"size": 12.0}, key="k")
        [dead_letter] = store.lease_dead_letters(DEAD, [changed_id])
        assert meet(store, draft({"size": 6}, key="k"), None) == ""
        store.decide([(receipt(dead_letter), Retry({"size": 6.0}))])
        assert store.receive(ORDERS, 10).duplicates == []
        assert store.queue(DEAD).counts.present == 1

    @needs(Capability.DEAD_LETTERS, Capability.INSPECT)
    def test_a_key_in_progress_defers_the_next_message_uncounted(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        send(store, key="k")
        second = send(store, key="k")
        take(store)
        clock.advance(10)
        received = store.receive(ORDERS, 10)
        assert (received.messages, received.duplicates, received.set_aside) == ([], [], 1)
        seen = look(store, second)
        assert (seen.state, seen.receive_count, seen.held) == (State.DELAYED, 0, False)
        assert seen.delayed_until_ms == clock.wall_ms() + 20_000
        assert store.history(second) == []

    @needs(Capability.INSPECT)
    def test_one_receive_delivers_a_key_once(self, store: FullStore, clock: FakeClock) -> None:
        ids = [send(store, n, key="k") for n in range(3)]
        received = store.receive(ORDERS, 10, visibility_ms=4_000)
        assert (bodies(received.messages), received.set_aside) == (["0"], 2)
        assert look(store, ids[2]).delayed_until_ms == clock.wall_ms() + 4_000

    def test_a_deferred_message_makes_room_for_the_one_behind(self, store: FullStore) -> None:
        send(store, 1, key="k")
        send(store, 2, key="k")
        send(store, 3)
        received = store.receive(ORDERS, 2)
        assert (bodies(received.messages), received.set_aside) == (["1", "3"], 1)

    @needs(Capability.IDEMPOTENCY, Capability.FLEET, Capability.INSPECT)
    @pytest.mark.parametrize("end", ["complete", "fail", "bury", "release", "reclaim"])
    def test_deferred_messages_are_ready_once_the_key_is_settled(
        self, store: FullStore, clock: FakeClock, end: str
    ) -> None:
        send(store, key="k", priority=-1)
        lease = take(store)
        deferred = [send(store, key="k"), send(store, key="k")]
        waiting = send(store, key="other", delay=3600)
        store.receive(ORDERS, 10)
        if end == "complete":
            complete(store, lease)
        elif end == "fail":
            fail(store, lease)
        elif end == "bury":
            fail(store, lease, reason=Reason.REJECTED)
        elif end == "release":
            store.release([lease])
        else:
            store.extend([lease], 1)
            clock.advance(0.001)
            assert store.reclaim() == 1
        for message_id in deferred:
            assert look(store, message_id).state is State.READY
            assert look(store, message_id).delayed_until_ms == 0
        assert look(store, waiting).state is State.DELAYED
        record = store.record(ORDERS, "k")
        assert (record is None) == (end != "complete")

    @needs(Capability.INSPECT)
    def test_a_due_deferred_message_waits_on_while_the_lease_is_extended(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        send(store, 1, key="k")
        lease = take(store)
        second = send(store, 2, key="k")
        store.receive(ORDERS, 1)
        clock.advance(VISIBILITY_SECONDS - 1)
        store.extend([lease], 30_000)
        clock.advance(1)
        received = store.receive(ORDERS, 1)
        assert (received.messages, received.set_aside) == ([], 1)
        assert look(store, second).delayed_until_ms == clock.wall_ms() + 29_000

    @needs(Capability.INSPECT)
    def test_an_expired_lease_frees_the_key(self, store: FullStore, clock: FakeClock) -> None:
        first = send(store, 1, key="k")
        take(store)
        second = send(store, 2, key="k", priority=1)
        clock.advance(VISIBILITY_SECONDS)
        received = store.receive(ORDERS, 10)
        assert [message.id for message in received.messages] == [second]
        assert received.set_aside == 1
        assert look(store, first).state is State.DELAYED

    @needs(Capability.IDEMPOTENCY)
    def test_keys_of_any_characters_are_completed_together(self, store: FullStore) -> None:
        keys = ["k", "k\1", "k\1end", "\x1f\"\\'", "\u00e9\U0001f600", "7", " "]
        if self.stores_nul:
            keys += ["k\0", "k\0end"]
        for key in keys:
            send(store, key=key)
        messages = receive(store)
        for key in keys:
            send(store, key=key)
        assert store.receive(ORDERS, 10).set_aside == len(keys)
        done = [Completion(receipt(one), None, one.key) for one in messages]
        assert store.complete(done) == [Outcome.DONE] * len(keys)
        records = [store.record(ORDERS, key) for key in keys]
        assert [one and one.status for one in records] == [RecordStatus.COMPLETED] * len(keys)
        assert len(store.receive(ORDERS, 10).duplicates) == len(keys)

    def test_keys_of_different_queues_are_independent(self, store: FullStore) -> None:
        store.declare_queue("mail", {})
        send(store, key="k")
        send(store, key="k", queue="mail")
        assert len(receive(store)) == len(receive(store, queue="mail")) == 1

    def test_another_receipt_cannot_repeat_a_completion(self, store: FullStore) -> None:
        send(store, key="k")
        lease = take(store)
        complete(store, lease)
        forged = lease._replace(token="0" * 32)
        assert store.complete([Completion(forged, "2", "k")]) == [Outcome.GONE]

    def test_the_lease_in_progress_outlives_any_setting_of_the_wall_clock(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        send(store, key="k")
        take(store)
        clock.set_wall(clock.wall_ms() + 10 * DAY_MS)
        send(store, key="k")
        received = store.receive(ORDERS, 1)
        assert (received.messages, received.set_aside) == ([], 1)

    @needs(Capability.DEAD_LETTERS)
    def test_a_duplicate_of_the_original_is_known_after_its_easier_form_succeeds(
        self, store: FullStore
    ) -> None:
        kill(store, {"n": 100}, key="k")
        decide(store, Retry({"n": 1}))
        complete(store, take(store), result="1")
        send(store, {"n": 100}, key="k")
        [duplicate] = store.receive(ORDERS, 1).duplicates
        assert duplicate.result == "1"
