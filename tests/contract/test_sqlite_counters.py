"""SQLite with a counter of messages in flight for each `max_in_flight`, not for high ones alone."""

from collections.abc import Callable
from pathlib import Path

import pytest

from durableq.engines import open_store
from durableq.engines.sql import flow
from durableq.store.core import Store
from durableq.testing import FakeClock
from durableq.testing.contract.queueing.limits import InFlightContract
from tests.contract.test_random_walks import WALKS
from tests.contract.test_sqlite import url_of_new_file
from tests.contract.test_walks_with_limits import walk


@pytest.fixture(autouse=True)
def counters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "FEW_IN_FLIGHT", 0)


class TestSQLiteWithCounters(InFlightContract):
    def make_store(self, clock: FakeClock, rng: Callable[[], float], tmp_path: Path) -> Store:
        return open_store(url_of_new_file(tmp_path), clock=clock, rng=rng)


def test_two_engines_that_count_in_flight_agree() -> None:
    assert walk(2) >= WALKS.max_examples
