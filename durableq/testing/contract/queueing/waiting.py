"""Waiting for a message: until when, and woken by every write of any process."""
# ruff: noqa: D102, S101 - test names are sentences, and tests assert

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest

from durableq.model.decisions import Hold
from durableq.model.errors import InvalidInput, UnknownQueue
from durableq.model.limits import MAX_WAIT_MS
from durableq.store.core import Capability, Watch
from durableq.testing.contract.case import (
    DEAD,
    ORDERS,
    VISIBILITY_SECONDS,
    FullStore,
    StoreCase,
    complete,
    fail,
    kill,
    needs,
    receive,
    send,
    take,
)
from durableq.testing.fakes import FakeClock

#: Longer than any write takes to end a wait.
LONG_SECONDS = 30.0

SHORT_SECONDS = 0.05

ROUNDS = 50


def rest(watch: Watch) -> None:
    """Wait until no write is reported any more: false alarms come to an end."""
    assert any(not watch.wait(SHORT_SECONDS) for _ in range(10))


@contextmanager
def meanwhile(call: Callable[[], object]) -> Iterator[None]:
    """Make a call in another thread."""
    thread = threading.Thread(target=call)
    thread.start()
    try:
        yield
    finally:
        thread.join()


class WaitingContract(StoreCase):
    """The promises to an idle process."""

    def test_an_empty_queue_has_no_next_message(self, store: FullStore) -> None:
        assert store.ready_in_ms([ORDERS, DEAD]) is None
        assert store.ready_in_ms([]) is None

    def test_a_ready_message_can_be_received_at_once(self, store: FullStore) -> None:
        send(store, delay=10)
        send(store)
        assert store.ready_in_ms([ORDERS]) == 0

    def test_a_delayed_message_can_be_waited_for(self, store: FullStore, clock: FakeClock) -> None:
        send(store, delay=10)
        send(store, delay=2.5)
        assert store.ready_in_ms([ORDERS]) == 2_500
        clock.advance(2)
        assert store.ready_in_ms([ORDERS]) == 500
        clock.set_wall(clock.wall_ms() + 499)
        assert store.ready_in_ms([ORDERS]) == 1
        clock.advance(60)
        assert store.ready_in_ms([ORDERS]) == 0
        assert len(receive(store)) == 2

    def test_a_lease_that_will_end_can_be_waited_for(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        send(store, delay=40)
        send(store)
        take(store)
        assert store.ready_in_ms([ORDERS]) == VISIBILITY_SECONDS * 1000
        clock.set_wall(clock.wall_ms() - 1_000)  # a lease does not mind, a delay does
        assert store.ready_in_ms([ORDERS]) == VISIBILITY_SECONDS * 1000
        clock.advance(VISIBILITY_SECONDS + 1)
        assert store.ready_in_ms([ORDERS]) == 0

    def test_a_deferred_message_can_be_received_when_its_key_is_settled(
        self, store: FullStore
    ) -> None:
        send(store, key="k")
        send(store, key="k")
        lease = take(store, visibility_ms=7_000)
        assert store.receive(ORDERS, 1).set_aside == 1
        assert store.ready_in_ms([ORDERS]) == 7_000
        complete(store, lease)
        assert store.ready_in_ms([ORDERS]) == 0

    @needs(Capability.DEAD_LETTERS)
    def test_a_held_dead_letter_is_not_waited_for(self, store: FullStore) -> None:
        kill(store)
        assert store.ready_in_ms([DEAD]) == 0
        store.decide([(take(store, DEAD), Hold())])
        assert store.ready_in_ms([DEAD]) is None
        kill(store)
        fail(store, take(store, DEAD), retry_in_ms=3_000)
        assert store.ready_in_ms([DEAD]) == 3_000

    def test_of_several_queues_the_soonest_message_counts(self, store: FullStore) -> None:
        store.declare_queue("mail", {})
        send(store, delay=10)
        send(store, queue="mail", delay=3)
        assert store.ready_in_ms([ORDERS]) == 10_000
        assert store.ready_in_ms([ORDERS, "mail"]) == store.ready_in_ms(["mail"]) == 3_000
        assert store.ready_in_ms([DEAD]) is None

    def test_an_unknown_queue_cannot_be_waited_for(self, store: FullStore) -> None:
        send(store)
        with pytest.raises(UnknownQueue):
            store.ready_in_ms([ORDERS, "unknown"])

    def test_a_paused_queue_is_not_waited_for(self, store: FullStore) -> None:
        store.declare_queue("mail", {})
        send(store)
        send(store, queue="mail", delay=3)
        assert store.ready_in_ms([ORDERS, "mail"]) == 0
        store.declare_queue(ORDERS, {"paused": 1})
        assert store.ready_in_ms([ORDERS]) is None
        assert store.ready_in_ms([ORDERS, "mail"]) == 3_000

    def test_an_idle_receive_says_when_a_message_may_come(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        assert store.receive(ORDERS, 1).wait_ms is None
        send(store, delay=3)
        assert store.receive(ORDERS, 1).wait_ms == 3_000
        clock.advance(1)
        assert store.receive(ORDERS, 1).wait_ms == 2_000
        clock.advance(2)
        assert len(store.receive(ORDERS, 1).messages) == 1

    def test_a_receive_waits_for_a_message(self, store: FullStore) -> None:
        sender = threading.Timer(0.1, send, [store])
        sender.start()
        received = store.receive(ORDERS, 1, wait_ms=MAX_WAIT_MS)
        sender.join()
        assert len(received.messages) == 1

    def test_a_receive_waits_no_longer_than_its_limit(self, store: FullStore) -> None:
        start = time.monotonic()
        send(store, delay=3600)
        received = store.receive(ORDERS, 1, wait_ms=50)
        assert (received.messages, received.wait_ms) == ([], 3_600_000)
        assert time.monotonic() - start >= 0.05

    @pytest.mark.parametrize("wait_ms", [-1, MAX_WAIT_MS + 1])
    def test_a_wait_has_bounds(self, store: FullStore, wait_ms: int) -> None:
        with pytest.raises(InvalidInput):
            store.receive(DEAD, 1, wait_ms=wait_ms)

    @pytest.fixture
    def watch(self, store: FullStore) -> Iterator[Watch]:
        """A watch that has nothing to tell yet."""
        with closing(store.watch()) as watch:
            rest(watch)
            yield watch

    def test_a_wait_without_a_write_lasts_its_time(self, watch: Watch) -> None:
        assert not watch.wait(SHORT_SECONDS)
        assert not watch.wait(0)
        assert not watch.wait(-1)

    def test_a_wait_ends_with_a_write(self, store: FullStore, watch: Watch) -> None:
        with meanwhile(lambda: send(store)):
            assert watch.wait(LONG_SECONDS)

    def test_a_write_between_two_waits_ends_the_next_wait(
        self, store: FullStore, watch: Watch
    ) -> None:
        for _ in range(3):
            with meanwhile(lambda: send(store)):
                pass
            assert watch.wait(LONG_SECONDS)
            rest(watch)

    def test_an_own_write_ends_a_wait(self, store: FullStore, watch: Watch) -> None:
        send(store)
        assert watch.wait(LONG_SECONDS)
        rest(watch)
        lease = take(store)
        assert watch.wait(LONG_SECONDS)
        rest(watch)
        complete(store, lease)
        assert watch.wait(LONG_SECONDS)

    @needs(Capability.INSPECT)
    def test_a_read_ends_no_wait(self, store: FullStore, watch: Watch) -> None:
        store.queues()
        store.peek(ORDERS, 10)
        store.ready_in_ms([ORDERS])
        assert not watch.wait(SHORT_SECONDS)

    def test_one_write_ends_the_waits_of_all_watches(self, store: FullStore, watch: Watch) -> None:
        with closing(store.watch()) as another:
            rest(another)
            with meanwhile(lambda: send(store)):
                assert watch.wait(LONG_SECONDS)
                assert another.wait(LONG_SECONDS)

    @needs(Capability.INSPECT)
    def test_a_message_can_be_received_when_the_wait_for_it_ends(
        self, store: FullStore, watch: Watch
    ) -> None:
        """Each is sent when the one before has been received; one missed would hang it."""
        received = threading.Semaphore(1)

        def send_each() -> None:
            for number in range(ROUNDS):
                assert received.acquire(timeout=LONG_SECONDS)
                send(store, number)

        with meanwhile(send_each):
            for _ in range(ROUNDS):
                while store.ready_in_ms([ORDERS]) is None:
                    assert watch.wait(LONG_SECONDS)
                complete(store, *(m.receipt for m in receive(store) if m.receipt))
                received.release()
        assert store.queue(ORDERS).counters.completed == ROUNDS

    def test_a_wait_ends_when_another_file_is_readable(self, watch: Watch) -> None:
        reader, writer = os.pipe()
        with os.fdopen(reader, "rb") as readable, os.fdopen(writer, "wb") as writable:
            assert not watch.wait(SHORT_SECONDS, readable)
            with meanwhile(lambda: os.write(writable.fileno(), b"!")):
                assert not watch.wait(LONG_SECONDS, readable)
            assert not watch.wait(LONG_SECONDS, readable)

    def test_a_write_is_reported_also_when_another_file_is_readable(
        self, store: FullStore, watch: Watch
    ) -> None:
        reader, writer = os.pipe()
        with os.fdopen(reader, "rb") as readable, os.fdopen(writer, "wb") as writable:
            os.write(writable.fileno(), b"!")
            with meanwhile(lambda: send(store)):
                pass
            # A server may tell of a write after its answer: then the next wait ends at once.
            assert watch.wait(LONG_SECONDS, readable) or watch.wait(LONG_SECONDS)

    def test_a_closed_watch_does_not_disturb_writes(self, store: FullStore) -> None:
        watch = store.watch()
        watch.close()
        watch.close()
        assert send(store)
