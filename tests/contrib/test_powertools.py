"""Powertools' idempotency on our store: its scenarios, and the fence that its own layers lack."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from aws_lambda_powertools.utilities.idempotency import (
    IdempotencyConfig,
    idempotent,
    idempotent_function,
)
from aws_lambda_powertools.utilities.idempotency.exceptions import (
    IdempotencyAlreadyInProgressError,
    IdempotencyItemAlreadyExistsError,
    IdempotencyKeyError,
    IdempotencyPersistenceLayerError,
    IdempotencyValidationError,
)

from durableq import Conflict, DurableQ, InvalidInput
from durableq.contrib.powertools import PersistenceLayer
from durableq.store.core import Capability
from durableq.store.once import Once
from tests.contrib.lambdas import Context
from tests.support import new_file, scaled, wait_for

Function = Callable[[Any, Any], Any]
ROOT = Path(__file__).parents[2]
EVENT = {"order": 7, "total": 12}


@pytest.fixture(params=["sqlite", "postgres"])
def dq(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DurableQ]:
    is_file = request.param == "sqlite"
    url = new_file(tmp_path / "q.db") if is_file else request.getfixturevalue("postgres_tables_url")
    with DurableQ(url) as dq:
        yield dq


@pytest.fixture
def layer(dq: DurableQ) -> PersistenceLayer:
    return PersistenceLayer(dq)


def values_of(dq: DurableQ) -> Once:
    return dq.store.require(Capability.ONCE)


def made(layer: PersistenceLayer, body: Function, **config: Any) -> Function:
    """Return an idempotent Lambda function, as a module has it."""

    @idempotent(persistence_store=layer, config=IdempotencyConfig(**config))
    def function(event: Any, context: Any) -> Any:
        return body(event, context)

    invoke: Function = function
    return invoke


def take_over(begin: Callable[[], Any]) -> None:
    """Begin in another thread what is refused until the record of an invocation has expired."""

    def begun() -> bool:
        try:
            begin()
        except (IdempotencyAlreadyInProgressError, IdempotencyItemAlreadyExistsError):
            return False
        return True

    with ThreadPoolExecutor() as threads:
        wait_for(lambda: threads.submit(begun).result(), what="the end of the record")


class Body:
    """The body of a function: it counts its calls, and fails the first of them if told to."""

    def __init__(self, fails: int = 0) -> None:
        self.calls, self._fails = 0, fails

    def __call__(self, event: Any, context: Any) -> Any:
        self.calls += 1
        if self.calls <= self._fails:
            raise ValueError("no such customer")
        return {"charged": event["total"], "call": self.calls}


def test_a_completed_record_answers_for_the_function(layer: PersistenceLayer) -> None:
    body = Body()
    function = made(layer, body)
    first = function(EVENT, Context())
    assert first == {"charged": 12, "call": 1}
    assert function(EVENT, Context()) == first
    assert function({**EVENT, "order": 8}, Context())["call"] == 2


def test_a_function_that_returns_nothing_is_called_once(layer: PersistenceLayer) -> None:
    calls: list[Any] = []
    function = made(layer, lambda event, _: calls.append(event))
    assert [function(EVENT, Context()) for _ in range(2)] == [None, None]
    assert len(calls) == 1


def test_records_are_shared_by_all_processes(dq: DurableQ) -> None:
    body = Body()
    with DurableQ(dq.url) as another:
        for each in (dq, another):
            assert made(PersistenceLayer(each), body)(EVENT, Context())["call"] == 1


def test_an_exception_deletes_the_record(dq: DurableQ, layer: PersistenceLayer) -> None:
    body = Body(fails=1)
    function = made(layer, body)
    with pytest.raises(ValueError, match="no such customer"):
        function(EVENT, Context())
    assert values_of(dq).once_entries(10) == []
    assert function(EVENT, Context())["call"] == 2


def test_a_record_in_progress_refuses_a_second_invocation(layer: PersistenceLayer) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def wait(event: Any, context: Any) -> str:
        begun.set()
        assert go_on.wait(60)
        return "done"

    function = made(layer, wait)
    results: list[str] = []
    thread = threading.Thread(target=lambda: results.append(function(EVENT, Context(60_000))))
    thread.start()
    assert begun.wait(60)
    with pytest.raises(IdempotencyAlreadyInProgressError):
        function(EVENT, Context())
    go_on.set()
    thread.join()
    assert results == [function(EVENT, Context())] == ["done"]


def test_a_record_whose_invocation_ran_out_of_time_is_taken_over(layer: PersistenceLayer) -> None:
    layer.configure(IdempotencyConfig(), "shop.function")
    layer.save_inprogress(EVENT, remaining_time_in_millis=0)
    take_over(lambda: layer.save_inprogress(EVENT, remaining_time_in_millis=60_000))
    with pytest.raises(IdempotencyItemAlreadyExistsError):
        layer.save_inprogress(EVENT, remaining_time_in_millis=60_000)


def test_without_a_context_a_record_is_in_progress_as_long_as_it_lives(
    dq: DurableQ, layer: PersistenceLayer
) -> None:
    layer.configure(IdempotencyConfig(expires_after_seconds=900), "shop.function")
    with pytest.warns(UserWarning, match="remaining time"):
        layer.save_inprogress(EVENT)
    [entry] = values_of(dq).once_entries(10)
    assert 800_000 < entry.lease_left_ms <= 900_000


class TestFence:
    """An invocation that lost its record to another: Powertools' own layers write by the key."""

    def lose(self, layer: PersistenceLayer, inside: Callable[[], Any]) -> Function:
        """Return a function that another invocation overtakes in its first call."""
        calls: list[int] = []

        def body(event: Any, context: Any) -> str:
            calls.append(1)
            if len(calls) == 1:
                take_over(lambda: invoke(event, Context()))
                inside()
                return "frozen"
            return "second"

        invoke = made(layer, body)
        return invoke

    def test_it_completes_nothing(self, layer: PersistenceLayer) -> None:
        function = self.lose(layer, lambda: None)
        with pytest.raises(IdempotencyPersistenceLayerError) as caught:
            function(EVENT, Context(0))
        assert isinstance(caught.value.__cause__, Conflict)
        assert function(EVENT, Context()) == "second"

    def test_it_deletes_nothing(self, layer: PersistenceLayer) -> None:
        def fail() -> None:
            raise ValueError("its own")

        function = self.lose(layer, fail)
        with pytest.raises(ValueError, match="its own"):
            function(EVENT, Context(0))
        assert function(EVENT, Context()) == "second"

    def test_it_does_not_complete_the_record_of_one_that_is_running(
        self, layer: PersistenceLayer
    ) -> None:
        layer.configure(IdempotencyConfig(), "shop.function")
        layer.save_inprogress(EVENT, remaining_time_in_millis=0)
        take_over(lambda: layer.save_inprogress(EVENT, 60_000))
        with pytest.raises(Conflict, match="took over"):
            layer.save_success(EVENT, {})
        layer.delete_record(EVENT, ValueError())
        assert layer.get_record(EVENT).status == "INPROGRESS"  # type: ignore[union-attr]

    def test_one_that_only_ran_late_completes_its_record(self, layer: PersistenceLayer) -> None:
        function = made(layer, Body())
        assert function(EVENT, Context(0)) == function(EVENT, Context())


FROZEN = """
import os, signal, sys
from aws_lambda_powertools.utilities.idempotency import idempotent
from aws_lambda_powertools.utilities.idempotency.exceptions import IdempotencyPersistenceLayerError
from durableq import DurableQ
from durableq.contrib.powertools import PersistenceLayer
from tests.contrib.lambdas import Context

@idempotent(persistence_store=PersistenceLayer(DurableQ(sys.argv[1])), key_prefix="shop")
def function(event, context):
    os.kill(os.getpid(), signal.SIGSTOP)
    return "frozen"

try:
    function({"order": 7, "total": 12}, Context(1))
except IdempotencyPersistenceLayerError as error:
    print(type(error.__cause__).__name__)
"""


def test_a_process_that_was_frozen_past_its_time_completes_nothing(
    dq: DurableQ, layer: PersistenceLayer
) -> None:
    @idempotent(persistence_store=layer, key_prefix="shop")
    def function(event: Any, context: Any) -> str:
        return "second"

    call: Any = function
    _ = dq.store
    command = [sys.executable, "-c", FROZEN, dq.url]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as frozen:
        stopped = psutil.Process(frozen.pid)
        wait_for(lambda: stopped.status() == psutil.STATUS_STOPPED, seconds=30, what="its stop")
        take_over(lambda: call(EVENT, Context()))
        frozen.send_signal(signal.SIGCONT)
        assert frozen.communicate(timeout=scaled(30))[0] == "Conflict\n"
    assert call(EVENT, Context()) == "second"


def test_another_payload_under_a_key_is_refused(layer: PersistenceLayer) -> None:
    body = Body()
    function = made(layer, body, event_key_jmespath="order", payload_validation_jmespath="total")
    function(EVENT, Context())
    assert function({**EVENT, "note": "x"}, Context())["call"] == 1
    with pytest.raises(IdempotencyValidationError):
        function({**EVENT, "total": 13}, Context())
    assert body.calls == 1


def test_another_payload_is_refused_also_while_the_first_is_in_progress(
    layer: PersistenceLayer,
) -> None:
    refused: list[str] = []

    def body(event: Any, context: Any) -> None:
        with pytest.raises(IdempotencyValidationError) as caught:
            invoke({**EVENT, "total": 13}, Context())
        refused.append(str(caught.value))

    invoke = made(layer, body, event_key_jmespath="order", payload_validation_jmespath="total")
    invoke(EVENT, Context())
    assert len(refused) == 1


def test_a_record_expires(layer: PersistenceLayer) -> None:
    body = Body()
    function = made(layer, body, expires_after_seconds=1)
    assert function(EVENT, Context())["call"] == 1
    wait_for(lambda: function(EVENT, Context())["call"] == 2, what="the end of the record")


def test_a_local_cache_answers_without_the_store(dq: DurableQ, layer: PersistenceLayer) -> None:
    body = Body()
    function = made(layer, body, use_local_cache=True)
    first = function(EVENT, Context())
    [entry] = values_of(dq).once_entries(10)
    values_of(dq).once_forget(entry.key)
    assert function(EVENT, Context()) == first
    assert body.calls == 1


def test_an_event_without_its_key_is_refused_or_not_recorded(
    dq: DurableQ, layer: PersistenceLayer
) -> None:
    function = made(layer, Body(), event_key_jmespath="missing", raise_on_no_idempotency_key=True)
    with pytest.raises(IdempotencyKeyError):
        function(EVENT, Context())
    lax = made(PersistenceLayer(dq), Body(), event_key_jmespath="missing")
    with pytest.warns(UserWarning, match="No idempotency key"):
        assert lax(EVENT, Context())["call"] == 1
    assert values_of(dq).once_entries(10) == []


def test_a_function_of_any_signature(layer: PersistenceLayer) -> None:
    calls: list[str] = []

    def charge(order: dict[str, Any], currency: str) -> str:
        calls.append(currency)
        return f"{order['total']} {currency}"

    made_once: Any = idempotent_function(
        charge, data_keyword_argument="order", persistence_store=layer, config=IdempotencyConfig()
    )
    with pytest.warns(UserWarning, match="register_lambda_context"):
        answers = [made_once(order=EVENT, currency="EUR") for _ in range(2)]
    assert answers == ["12 EUR", "12 EUR"]
    assert calls == ["EUR"]


def test_records_are_shown_and_forgotten_as_values_of_once(
    dq: DurableQ, layer: PersistenceLayer
) -> None:
    function = made(layer, Body())
    function(EVENT, Context())
    [entry] = values_of(dq).once_entries(10)
    assert entry.key.startswith("powertools/test-func.")
    assert 3_500_000 < entry.expires_at_ms - entry.created_at_ms <= 3_600_000
    assert dq.forget_once(entry.key)
    assert function(EVENT, Context())["call"] == 2


def test_a_response_that_is_too_large_is_refused(layer: PersistenceLayer) -> None:
    function = made(layer, lambda _event, _context: "x" * (1 << 20))
    with pytest.raises(IdempotencyPersistenceLayerError, match="Return a reference"):
        function(EVENT, Context())


def test_a_layer_is_given_an_application() -> None:
    url: Any = "postgresql://localhost/shop"
    with pytest.raises(InvalidInput, match="is given a DurableQ"):
        PersistenceLayer(url)
