"""Watching: a waiting process is woken by every write, also by one between two waits."""
# ruff: noqa: D102, S101 - test names are sentences, and tests assert

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest

from durableq.store.core import Capability, Watch
from durableq.testing.contract.case import (
    ORDERS,
    FullStore,
    StoreCase,
    complete,
    needs,
    receive,
    send,
    take,
)

#: Longer than any write takes to be told of.
LONG_SECONDS = 30.0
SHORT_SECONDS = 0.05
ROUNDS = 50


def rest(watch: Watch) -> None:
    """Wait until nothing is told any more: a false alarm may come, but not for ever."""
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


class WakeupContract(StoreCase):
    """The promises to an idle process."""

    @pytest.fixture
    def watch(self, store: FullStore) -> Iterator[Watch]:
        """A watch that has nothing to tell yet."""
        with closing(store.watch()) as watch:
            rest(watch)
            yield watch

    def test_where_nobody_writes_a_wait_lasts_its_time(self, watch: Watch) -> None:
        assert not watch.wait(SHORT_SECONDS)
        assert not watch.wait(0)
        assert not watch.wait(-1)

    def test_a_wait_ends_with_a_write(self, store: FullStore, watch: Watch) -> None:
        with meanwhile(lambda: send(store)):
            assert watch.wait(LONG_SECONDS)

    def test_a_write_between_two_waits_is_told(self, store: FullStore, watch: Watch) -> None:
        for _ in range(3):
            with meanwhile(lambda: send(store)):
                pass
            assert watch.wait(LONG_SECONDS)
            rest(watch)

    def test_ones_own_write_is_told_too(self, store: FullStore, watch: Watch) -> None:
        send(store)
        assert watch.wait(LONG_SECONDS)
        rest(watch)
        lease = take(store)
        assert watch.wait(LONG_SECONDS)
        rest(watch)
        complete(store, lease)
        assert watch.wait(LONG_SECONDS)

    @needs(Capability.INSPECT)
    def test_reading_is_not_told(self, store: FullStore, watch: Watch) -> None:
        store.queues()
        store.peek(ORDERS, 10)
        store.ready_in_ms([ORDERS])
        assert not watch.wait(SHORT_SECONDS)

    def test_of_one_write_all_are_told(self, store: FullStore, watch: Watch) -> None:
        with closing(store.watch()) as another:
            rest(another)
            with meanwhile(lambda: send(store)):
                assert watch.wait(LONG_SECONDS)
                assert another.wait(LONG_SECONDS)

    @needs(Capability.INSPECT)
    def test_what_was_told_of_can_be_received(self, store: FullStore, watch: Watch) -> None:
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

    def test_a_wait_ends_when_another_file_can_be_read(self, watch: Watch) -> None:
        reader, writer = os.pipe()
        with os.fdopen(reader, "rb") as readable, os.fdopen(writer, "wb") as writable:
            assert not watch.wait(SHORT_SECONDS, readable)
            with meanwhile(lambda: os.write(writable.fileno(), b"!")):
                assert not watch.wait(LONG_SECONDS, readable)
            assert not watch.wait(LONG_SECONDS, readable)

    def test_a_write_is_told_also_when_another_file_can_be_read(
        self, store: FullStore, watch: Watch
    ) -> None:
        reader, writer = os.pipe()
        with os.fdopen(reader, "rb") as readable, os.fdopen(writer, "wb") as writable:
            os.write(writable.fileno(), b"!")
            with meanwhile(lambda: send(store)):
                pass
            assert watch.wait(LONG_SECONDS, readable)

    def test_a_watch_that_was_closed_is_in_nobodys_way(self, store: FullStore) -> None:
        watch = store.watch()
        watch.close()
        watch.close()
        assert send(store)
