"""Values of `once` in memory: arguments, keys, the decorator, and failures."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from durableq import Busy, Conflict, DurableQ, InvalidInput, InvalidResult, StorageFull
from durableq.client.computing import owner_of
from durableq.model.limits import MAX_KEY_CHARS, MAX_ONCE_BYTES
from durableq.model.once import OnceEntry
from durableq.store.core import Capability
from durableq.testing import FakeClock
from tests.support import scaled


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def dq(clock: FakeClock) -> Iterator[DurableQ]:
    with DurableQ("memory://", clock=clock, rng=lambda: 0.9) as dq:
        yield dq


class Counted:
    """A computation that returns the number of its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> int:
        self.calls += 1
        return self.calls


def fail() -> int:
    raise OSError("the service is down")


def entry(dq: DurableQ, key: str = "k") -> OnceEntry | None:
    return dq.store.require(Capability.ONCE).once_entry(key)


def test_a_value_is_computed_once_until_it_expires(dq: DurableQ, clock: FakeClock) -> None:
    compute = Counted()
    assert [dq.once("k", compute, ttl=60, beta=0) for _ in range(3)] == [1, 1, 1]
    clock.advance(59.999)
    assert dq.once("k", compute, ttl=60, beta=0) == 1
    clock.advance(0.001)
    assert dq.once("k", compute, ttl=60, beta=0) == 2


def test_every_caller_gets_the_value_as_json_gives_it_back(dq: DurableQ) -> None:
    values: list[Any] = [dq.once("k", lambda: {"pair": (1, None)}, ttl=60) for _ in range(2)]
    assert values == [{"pair": [1, None]}] * 2
    assert values[0] is not values[1]
    assert dq.once("none", lambda: None, ttl=60) is None
    assert dq.once("none", fail, ttl=60) is None


def test_a_computation_that_raises_gives_its_lease_back(dq: DurableQ) -> None:
    with pytest.raises(OSError, match="down"):
        dq.once("k", fail, ttl=60)
    assert entry(dq) is None
    assert dq.once("k", Counted(), ttl=60) == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_computation_gives_its_lease_back(
    dq: DurableQ, error: type[BaseException]
) -> None:
    def interrupt() -> None:
        raise error

    with pytest.raises(error):
        dq.once("k", interrupt, ttl=60)
    assert entry(dq) is None


def test_a_failed_refresh_of_a_stale_value_raises(dq: DurableQ, clock: FakeClock) -> None:
    dq.once("k", Counted(), ttl=60)
    clock.advance(61)
    with pytest.raises(OSError, match="down"):
        dq.once("k", fail, ttl=60)
    found = entry(dq)
    assert found is not None
    assert (found.value, found.token) == ("1", None)


def expire_early(dq: DurableQ, monkeypatch: pytest.MonkeyPatch) -> None:
    """Store a value that is due to be refreshed and still fresh."""
    store = dq.store.require(Capability.ONCE)
    keep = store.once_store
    with monkeypatch.context() as patch:
        patch.setattr(store, "once_store", lambda *of, **more: keep(*of, **more | LONG))
        assert dq.once("k", Counted(), ttl=60) == 1


#: A computation so long that nearly every draw refreshes its value at once.
LONG = {"compute_ms": 60_000_000}


def test_a_failed_early_refresh_is_logged_and_the_fresh_value_returned(
    dq: DurableQ, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expire_early(dq, monkeypatch)
    assert dq.once("k", fail, ttl=60) == 1
    assert "the early refresh of 'k' failed: OSError: the service is down" in caplog.text

    async def fail_later() -> int:
        return fail()

    assert asyncio.run(dq.once_async("k", fail_later, ttl=60)) == 1
    assert caplog.text.count("the early refresh of 'k' failed: OSError") == 2
    assert dq.once("k", lambda: 7, ttl=60) == 7


def test_a_value_that_cannot_be_stored_is_returned_to_its_caller(
    dq: DurableQ, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any, **__: Any) -> bool:
        raise StorageFull("The disk is full.")

    with monkeypatch.context() as patch:
        patch.setattr(dq.store, "once_store", refuse)
        assert dq.once("k", lambda: 7, ttl=60) == 7
    assert "could not be stored: the disk of the database is full" in caplog.text
    assert entry(dq) is None


def test_a_fresh_value_is_served_where_its_early_refresh_cannot_be_leased(
    dq: DurableQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise StorageFull("The disk is full.")

    expire_early(dq, monkeypatch)
    monkeypatch.setattr(dq.store, "_once_lease", refuse)
    assert dq.once("k", fail, ttl=60) == 1
    with pytest.raises(StorageFull):
        dq.once("other", fail, ttl=60)


def test_a_value_forgotten_while_it_is_computed_is_not_stored(
    dq: DurableQ, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "durableq.once")

    def compute() -> str:
        assert dq.forget_once("k") is True
        return "old"

    assert dq.once("k", compute, ttl=60) == "old"
    assert entry(dq) is None
    assert "was not stored: its lease was lost, or the key forgotten" in caplog.text
    assert dq.once("k", lambda: "new", ttl=60) == "new"


def test_a_computation_that_asks_for_its_own_key_is_refused(dq: DurableQ) -> None:
    def compute() -> int:
        return dq.once("k", Counted(), ttl=60) + dq.once("k", compute, ttl=60)

    with pytest.raises(Conflict, match="The computation of 'k' asks for 'k' itself"):
        dq.once("k", compute, ttl=60)
    other: Callable[[], int] = partial(dq.once, "other", Counted(), ttl=60)
    assert dq.once("k", other, ttl=60) == 1
    assert dq.once("other", fail, ttl=60) == 1


def test_a_wait_that_is_too_long_ends_with_busy(dq: DurableQ) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def compute() -> int:
        begun.set()
        assert go_on.wait(scaled(30))
        return 7

    first = threading.Thread(target=dq.once, args=("k", compute), kwargs={"ttl": 60})
    first.start()
    assert begun.wait(scaled(30))
    for wait in (0, 0.01):
        with pytest.raises(Busy, match=r"Process \d+ still computes 'k' after"):
            dq.once("k", fail, ttl=60, wait=wait)
        with pytest.raises(Busy, match=r"Process \d+ still computes 'k' after"):
            asyncio.run(dq.once_async("k", never, ttl=60, wait=wait))
    go_on.set()
    assert dq.once("k", fail, ttl=60) == 7
    first.join(scaled(30))


async def never() -> int:
    raise AssertionError("It is computed elsewhere.")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"ttl": 0}, "ttl is at least"),
        ({"ttl": float("nan")}, "ttl is a number of seconds"),
        ({"ttl": 400 * 86_400}, "ttl is at most 31622400 seconds"),
        ({"stale": -1}, "stale is a number of seconds"),
        ({"lease": 0.5}, "lease is at least 1 second, got 0.5"),
        ({"lease": 90_000}, "lease is at most 43200 seconds"),
        ({"wait": -1}, "wait is a number of seconds"),
        ({"beta": -0.5}, "beta is a number from 0 to 1000"),
        ({"beta": float("inf")}, "beta is a number from 0 to 1000"),
    ],
)
def test_an_argument_out_of_bounds_is_refused(
    dq: DurableQ, changes: dict[str, Any], says: str
) -> None:
    options = {"ttl": 60} | changes
    with pytest.raises(InvalidInput, match=says):
        dq.once("k", fail, **options)
    with pytest.raises(InvalidInput, match=says):
        asyncio.run(dq.once_async("k", never, **options))
    with pytest.raises(InvalidInput, match=says):
        dq.cached(**options)
    assert entry(dq) is None


@pytest.mark.parametrize("key", ["", "k" * (MAX_KEY_CHARS + 1), "\ud800", 7])
def test_a_key_out_of_bounds_is_refused(dq: DurableQ, key: Any) -> None:
    with pytest.raises(InvalidInput, match="key"):
        dq.once(key, fail, ttl=60)
    with pytest.raises(InvalidInput, match="key"):
        dq.forget_once(key)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({1, 2}, "JSON cannot hold this value"),
        (float("nan"), "JSON cannot hold this value"),
        ("x" * MAX_ONCE_BYTES, f"at most {MAX_ONCE_BYTES} are kept"),
        ({1: "a", "1": "b"}, "The value has the names"),
    ],
)
def test_a_value_that_cannot_be_kept_is_refused_and_the_lease_given_back(
    dq: DurableQ, value: Any, says: str
) -> None:
    with pytest.raises(InvalidResult, match=says):
        dq.once("k", lambda: value, ttl=60)
    assert entry(dq) is None


def test_a_coroutine_is_for_once_async_and_a_function_for_once(dq: DurableQ) -> None:
    with pytest.raises(InvalidInput, match=r"use `await dq\.once_async"):
        _ = dq.once("k", never, ttl=60)
    plain: Any = Counted()
    with pytest.raises(InvalidInput, match="which cannot be awaited"):
        asyncio.run(dq.once_async("k", plain, ttl=60))
    computed: Any = 7
    with pytest.raises(InvalidInput, match="compute is a function that returns the value of 'k'"):
        dq.once("k", computed, ttl=60)
    assert entry(dq) is None


# ---- the decorator


def test_a_decorated_function_is_called_once_for_the_same_arguments(dq: DurableQ) -> None:
    calls = []

    @dq.cached(ttl=60)
    def rate(currency: str, *, day: int = 1) -> str:
        """Return a rate."""
        calls.append((currency, day))
        return f"{currency} {day}"

    assert {rate("EUR"), rate("EUR", day=1), rate(currency="EUR")} == {"EUR 1"}
    assert rate("USD") == "USD 1"
    assert calls == [("EUR", 1), ("USD", 1)]
    assert rate.__doc__ == "Return a rate."
    assert rate.forget("EUR") is True
    assert rate.forget("EUR") is False
    assert rate("EUR") == "EUR 1"
    assert calls == [("EUR", 1), ("USD", 1), ("EUR", 1)]


def test_the_key_of_a_call_is_its_functions_name_and_arguments(dq: DurableQ) -> None:
    cached = dq.cached(ttl=60)(fail_of)
    assert cached.key([1], b="x") == 'tests.unit.test_once.fail_of:{"a": [1], "b": "x"}'
    long = cached.key(["x" * MAX_KEY_CHARS])
    assert long != cached.key(["y" * MAX_KEY_CHARS])
    assert len(long) < MAX_KEY_CHARS
    by_name = dq.cached(ttl=60, key=lambda a, b=None: f"of-{a}-{b}")(fail_of)
    assert by_name.key(7) == "of-7-None"
    with pytest.raises(InvalidInput, match=r"fail_of are not JSON, so they make no key: Object of"):
        cached(object())
    with pytest.raises(TypeError, match="missing a required argument"):
        cached()  # type: ignore[call-arg]


def fail_of(a: object, b: str | None = None) -> int:
    raise AssertionError(a, b)


def test_a_decorated_coroutine_function_stays_one(dq: DurableQ) -> None:
    calls = []

    @dq.cached(ttl=60)
    async def rate(currency: str) -> str:
        calls.append(currency)
        return currency

    async def ask() -> list[str]:
        return [await rate("EUR"), await rate("EUR"), await rate("USD")]

    assert asyncio.iscoroutinefunction(rate)
    assert asyncio.run(ask()) == ["EUR", "EUR", "USD"]
    assert calls == ["EUR", "USD"]
    assert rate.forget("EUR") is True


def test_a_generator_cannot_be_kept(dq: DurableQ) -> None:
    def rows() -> Iterator[int]:
        yield 1

    with pytest.raises(InvalidInput, match="yields, and a generator cannot be kept"):
        dq.cached(ttl=60)(rows)
    undecorated: Any = 7
    with pytest.raises(InvalidInput, match="cached decorates a function, got 7"):
        dq.cached(ttl=60)(undecorated)


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"pid": "x"}', '{"pid": 1}'])
def test_a_damaged_owner_is_no_process(text: str) -> None:
    assert owner_of(OnceEntry("k", None, 0, 0, 0, owner=text)) is None
