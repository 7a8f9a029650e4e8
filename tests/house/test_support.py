"""The functions that let every other test wait."""

import os
import time

import pytest

from tests import support
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
