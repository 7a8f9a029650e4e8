"""The waiting that every other test trusts."""

import time

import pytest

from tests.support import wait_for


def test_waiting_returns_the_fact_once_it_is_there() -> None:
    answers = iter([None, False, "ready"])
    assert wait_for(lambda: next(answers)) == "ready"


def test_waiting_in_vain_fails_at_the_deadline_and_says_for_what() -> None:
    started = time.monotonic()
    with pytest.raises(pytest.fail.Exception, match=r"Waited 0\.05 seconds for a row.*None"):
        wait_for(lambda: None, seconds=0.05, what="a row")
    assert time.monotonic() - started >= 0.05
