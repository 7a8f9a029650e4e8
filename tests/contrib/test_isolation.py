"""fresh: an application has a store of its own for a block, and is as before after it."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from durableq import Conflict, DurableQ, InvalidInput
from durableq.contrib.pytest import Clock, fresh, run_pending, sent
from durableq.contrib.pytest.isolation import store_of_marker
from tests.contrib.shop import Shop


def test_nothing_of_a_test_is_left_in_the_next(shop: Shop) -> None:
    before = shop.dq.url, deepcopy(shop.dq.declared), dict(shop.dq.handlers), dict(shop.dq.policies)
    for store in ("memory", "file", "memory"):
        with fresh(shop.dq, store=store):
            assert shop.orders.info().counters.sent == 0
            assert shop.orders.info().settings.max_receives == 3
            shop.orders.send({"order": 1}, key="k")
            shop.dq.queue("orders", max_receives=9)
            shop.dq.queue("more").send(1)
            shop.dq.handler("more")(lambda message: None)
            shop.dq.recovery("orders")(lambda dead_letter: None)
            assert len(sent(shop.orders)) == 1
        after = shop.dq.url, shop.dq.declared, shop.dq.handlers, shop.dq.policies
        assert before == after
        assert shop.dq.opened is None


def test_the_store_is_found_again_after_the_application_has_closed_it(shop: Shop) -> None:
    for store in ("memory", "file"):
        with fresh(shop.dq, store=store):
            with shop.dq:
                shop.orders.send({"order": 1})
            assert shop.orders.info().counts.ready == 1
            assert len(sent(shop.orders)) == 1


def test_a_file_is_a_file_and_is_gone_afterwards(shop: Shop) -> None:
    with fresh(shop.dq, store="file"):
        path = Path(shop.dq.url.removeprefix("sqlite:///").partition("?")[0])
        shop.orders.send(1)
        assert path.exists()
    assert not path.exists()


@pytest.mark.parametrize(
    "start",
    [
        lambda dq: dq.use("/nowhere/else.db"),
        lambda dq: dq.init(),
        lambda dq: dq.migrate(),
        lambda dq: dq.__enter__(),
    ],
    ids=["use", "init", "migrate", "with"],
)
def test_the_applications_own_start_keeps_the_fresh_store(
    shop: Shop, start: Callable[[DurableQ], Any]
) -> None:
    with fresh(shop.dq):
        start(shop.dq)
        shop.orders.send(1)
        start(shop.dq)
        assert shop.orders.info().counts.ready == 1
    assert shop.dq.url == "/nowhere/of-the-user.db"


def test_two_applications_share_a_clock() -> None:
    one, other = Shop(), Shop()
    with fresh(one.dq) as clock, fresh(other.dq, clock=clock):
        other.receipts.send(1, delay=60)
        assert run_pending(other.dq).completed == 0
        clock.advance(minutes=1)
        assert run_pending(other.dq).completed == 1
        assert run_pending(one.dq).completed == 0


def test_an_application_that_is_open_is_refused_with_the_way_out(tmp_path: Path) -> None:
    dq = DurableQ(tmp_path / "own.db")
    with dq:
        dq.queue("orders").send(1)
        with pytest.raises(
            Conflict, match=r"own\.db is open already .*dq\.close\(\) ends that use"
        ):
            with fresh(dq):
                pytest.fail("a store was replaced that is in use")
        assert dq.queue("orders").info().counts.ready == 1
    with fresh(dq):
        assert dq.queue("orders").info().counts.ready == 0
    with dq:
        assert dq.queue("orders").info().counts.ready == 1


def test_a_second_fresh_store_at_a_time_is_refused(shop: Shop) -> None:
    with fresh(shop.dq), pytest.raises(Conflict, match="has a fresh store already"):
        with fresh(shop.dq):
            pytest.fail("two stores")


def test_an_error_of_the_test_leaves_the_application_as_it_was(shop: Shop) -> None:
    with pytest.raises(ZeroDivisionError), fresh(shop.dq):
        shop.orders.send(1 / 0)
    assert not shop.dq.is_overridden


@pytest.mark.parametrize("store", ["sqlite", "", None, 7, "memory://"])
def test_an_unknown_kind_of_store_is_refused(shop: Shop, store: Any) -> None:
    with pytest.raises(InvalidInput, match='A fresh store is "memory" or "file"'):
        with fresh(shop.dq, store=store):
            pytest.fail("a store of no kind")
    with pytest.raises(InvalidInput, match="Give the application"):
        with fresh("shop:dq"):  # type: ignore[arg-type]
            pytest.fail("no application")


def test_a_marker_names_the_kind_of_store() -> None:
    assert store_of_marker(None) == "memory"
    assert store_of_marker(pytest.mark.durableq(store="file").mark) == "file"
    for wrong in (pytest.mark.durableq("file"), pytest.mark.durableq(kind="file")):
        with pytest.raises(InvalidInput, match="Write the marker as"):
            store_of_marker(wrong.mark)
    with pytest.raises(InvalidInput, match="A fresh store is"):
        store_of_marker(pytest.mark.durableq(store="disk").mark)


def test_the_clock_advances_in_all_units() -> None:
    clock = Clock()
    began = clock.wall_ms(), clock.lease_ms()
    clock.advance(1.5, minutes=2, hours=3, days=4)
    clock.advance(timedelta(seconds=2))
    passed = 1500 + 2000 + 120_000 + 3 * 3_600_000 + 4 * 86_400_000
    assert (clock.wall_ms() - began[0], clock.lease_ms() - began[1]) == (passed, passed)


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), "5", True, None])
def test_a_clock_takes_no_other_time(seconds: Any) -> None:
    with pytest.raises(InvalidInput):
        Clock().advance(seconds)
    with pytest.raises(InvalidInput, match="minutes"):
        Clock().advance(minutes=seconds)
