"""The shop with a fresh store of each kind. Not by the plugin's fixtures: it may not be loaded."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from durableq.contrib.pytest import Clock, fresh
from tests.cli.conftest import run
from tests.contrib.shop import Shop

__all__ = ["clock", "run", "shop"]


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture(params=["memory", "file"])
def clock(request: pytest.FixtureRequest, shop: Shop) -> Iterator[Clock]:
    """The clock of the shop's fresh store."""
    with fresh(shop.dq, store=request.param) as clock:
        shop.create_ledger()
        yield clock
