"""A flag that a signal handler sets and that a wait sees."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from durableq.latch import Latch
from durableq.waiting import wait_readable
from tests.support import scaled


@pytest.fixture
def latch() -> Iterator[Latch]:
    latch = Latch()
    yield latch
    latch.close()


def test_it_is_set_until_it_is_cleared(latch: Latch) -> None:
    assert (latch.is_set, latch.wait(0)) == (False, False)
    latch.set()
    assert (latch.is_set, latch.wait(0)) == (True, True)
    assert latch.wait(0), "a wait takes nothing away"
    assert wait_readable(0, latch)
    latch.clear()
    assert (latch.is_set, latch.wait(0)) == (False, False)
    assert not wait_readable(0, latch)


def test_however_often_it_is_set_setting_it_never_waits(latch: Latch) -> None:
    for _ in range(100_000):  # a pipe holds 65,536
        latch.set()
    assert latch.wait(0)
    latch.clear()
    assert not wait_readable(0, latch)


def test_a_wait_ends_when_another_thread_sets_it(latch: Latch) -> None:
    thread = threading.Thread(target=latch.set)
    thread.start()
    assert latch.wait(scaled(60))
    thread.join()


def test_a_wait_ends_when_a_signal_handler_sets_it(latch: Latch) -> None:
    before = signal.signal(signal.SIGALRM, lambda _number, _frame: latch.set())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        assert latch.wait(scaled(60))
    finally:
        signal.signal(signal.SIGALRM, before)


def test_setting_one_whose_descriptors_were_closed_does_no_harm() -> None:
    latch = Latch()
    latch.close()
    latch.set()
    assert latch.is_set
