"""The functions that let every other test wait, and hold it to closing what it opens."""

import os
import threading
import time

import pytest

from tests import support
from tests.descriptors import KEPT, none_left, opened
from tests.support import scaled, wait_for


def test_waiting_returns_the_fact_once_it_is_there() -> None:
    answers = iter([None, False, "ready"])
    assert wait_for(lambda: next(answers)) == "ready"


def test_waiting_in_vain_fails_at_the_deadline_and_names_the_fact() -> None:
    started = time.monotonic()
    with pytest.raises(pytest.fail.Exception, match=r"Waited \d+\.\d+ seconds for a row.*None"):
        wait_for(lambda: None, seconds=0.05, what="a row")
    assert time.monotonic() - started >= 0.05


def test_a_deadline_grows_with_the_load_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    def allowed(load: float, seconds: float) -> float:
        monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
        return scaled(seconds)

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    assert [allowed(load, 10) for load in (0, 2, 6, 1000)] == [10, 10, 30, support.LONGEST_SECONDS]
    assert allowed(1000, 500) == 500


def test_a_block_that_leaves_a_descriptor_open_fails_once_and_names_it() -> None:
    descriptor = -1

    def leave() -> None:
        nonlocal descriptor
        with none_left("A test"):
            descriptor = os.open("/", os.O_RDONLY)

    with pytest.raises(pytest.fail.Exception, match=r"A test leaves.*\{\d+: '/'\}"):
        leave()
    assert descriptor in KEPT, "the session does not report it again"
    KEPT.discard(descriptor)
    os.close(descriptor)


def test_garbage_and_a_thread_may_close_a_descriptor_a_little_later() -> None:
    class Cycle:
        def __init__(self) -> None:
            self.file, self.itself = open("/dev/null", "rb", 0), self  # noqa: SIM115 - left to gc

        def __del__(self) -> None:
            self.file.close()

    before = opened()
    with none_left("A test"):
        Cycle()
        later = threading.Timer(0.05, os.close, [os.open("/", os.O_RDONLY)])
        later.start()
    later.join()
    assert opened() == before
