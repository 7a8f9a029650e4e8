"""A Celery user's schedule, chain, result and cancel: docs/COMING_FROM_CELERY.md as written."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from durableq import NoResult
from durableq.contrib.pytest import Clock, Ran, assert_sent, fresh, run_pending
from durableq.store.core import Capability

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "COMING_FROM_CELERY.md").read_text()


@pytest.fixture
def orders(tmp_path: Path) -> Iterator[ModuleType]:
    """The application of the page."""
    [(name, text)] = re.findall(r"```python\n# (\w+)\.py\n(.*?)```", PAGE, re.DOTALL)
    file = tmp_path / f"{name}.py"
    file.write_text(text)
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.modules.pop(name, None)


@pytest.fixture(params=["memory", "file"])
def clock(request: pytest.FixtureRequest, orders: ModuleType) -> Iterator[Clock]:
    with fresh(orders.dq, store=request.param) as clock:
        yield clock


def test_a_chain_is_a_message_that_its_handler_sends(orders: ModuleType, clock: Clock) -> None:
    orders.orders.send({"order": 7, "amount": 120}, key="order-7")
    assert run_pending(orders.dq) == Ran(completed=2)
    assert_sent(orders.receipts, {"order": 7, "paid": 120}, key="receipt-7")


def test_a_result_is_found_by_the_key(orders: ModuleType, clock: Clock) -> None:
    orders.orders.send({"order": 7, "amount": 120}, key="order-7")
    with pytest.raises(NoResult):
        orders.orders.result("order-7")
    run_pending(orders.dq)
    assert orders.orders.result("order-7") == {"paid": 120}
    assert orders.receipts.result("receipt-7") == "receipt for order 7: 120"


def test_a_message_that_no_worker_has_is_cancelled(orders: ModuleType, clock: Clock) -> None:
    message_id = orders.orders.send({"order": 7, "amount": 120}, delay=60)
    orders.orders.cancel(message_id)
    clock.advance(seconds=60)
    assert run_pending(orders.dq) == Ran()


def test_a_schedule_needs_no_beat(orders: ModuleType, clock: Clock) -> None:
    assert run_pending(orders.dq) == Ran()
    clock.advance(days=1)
    assert run_pending(orders.dq) == Ran(completed=1)
    records = orders.dq.store.require(Capability.IDEMPOTENCY).records("nightly", 10)
    [key] = [record.key for record in records]
    assert orders.dq.queue("nightly").result(key).startswith("the report of 20")
