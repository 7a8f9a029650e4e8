"""Each scenario of Powertools' own idempotency tests, on the persistence layer of a durableq store.

Their tests are in no distribution, and name calls of DynamoDB or Redis, so each is written anew.
Theirs (tests/functional/idempotency of powertools-lambda-python, without `test_`), and ours:

_boto3/test_idempotency.py
    idempotent_lambda_already_completed: a_completed_record_answers
    idempotent_lambda_in_progress, idempotent_lambda_in_progress_with_cache,
        idempotent_lambda_expires_in_progress_before_expire: a_record_in_progress_refuses
    idempotent_lambda_first_execution, idempotent_lambda_first_execution_with_validation:
        a_first_invocation_begins_and_completes_a_record
    idempotent_lambda_expired: an_expired_record_is_begun_again
    idempotent_lambda_first_execution_cached: a_cached_record_asks_the_store_no_more
    idempotent_lambda_first_execution_event_mutation:
        an_event_that_the_function_changes_keeps_its_key
    idempotent_lambda_exception: an_exception_deletes_the_record
    idempotent_lambda_already_completed_with_validation_bad_payload,
        ..._from_local_cache, idempotency_payload_validation_with_tampering_nested_object,
        idempotency_cache_with_payload_tampering: a_payload_that_was_tampered_with_is_refused
    idempotent_lambda_expired_during_request, idempotent_lambda_expires_in_progress_after_expire:
        a_record_that_comes_and_goes_is_inconsistent
    idempotent_persistence_exception_deleting, ..._updating, ..._getting,
        idempotent_lambda_save_inprogress_error: an_error_of_the_store_is_one_of_the_layer
    idempotent_lambda_with_validator_util: a_decorator_may_unwrap_the_event
    idempotent_lambda_expires_in_progress_unavailable_remaining_time:
        a_function_without_a_context_is_warned_about
    in_progress_never_saved_to_cache, user_local_disabled, delete_from_cache_when_empty:
        the_local_cache_has_completed_records_only
    default_no_raise_on_missing_idempotency_key, raise_on_no_idempotency_key,
        handler_raise_idempotency_key_error: an_event_without_a_key
    jmespath_with_powertools_json, custom_jmespath_function_overrides_builtin_functions:
        a_key_from_json_in_the_event
    idempotent_lambda_event_source: an_event_source_before_the_decorator
    idempotent_function, idempotent_function_and_lambda_handler,
        idempotent_function_arbitrary_args_kwargs: a_function_and_a_handler_share_a_layer
    idempotent_function_serialization_custom_dict, ..._no_response, ..._dataclass:
        a_response_is_serialized
    idempotent_function_invalid_data_kwarg, idempotent_function_arg_instead_of_kwarg:
        a_function_is_given_its_data_by_name
    idempotent_function_falsy_values, ..._with_raise_on_no_idempotency_key: data_that_is_falsy
    idempotent_data_sorting: the_order_of_names_makes_no_other_key
    idempotency_enabled_envvar_in_dev_environment, ..._in_non_dev_environment,
        idempotency_disabled_envvar: the_environment_switches_it_off
    idempotent_function_duplicates: two_functions_have_records_of_their_own
    idempotent_function_dataclass_with_jmespath: a_key_from_a_dataclass
    responsehook_lambda_first_execution,
        idempotent_lambda_already_completed_response_hook_is_called, ..._with_none:
        a_response_hook_is_called_for_a_record
_pydantic/test_idempotency_with_pydantic.py
    idempotent_function_serialization_pydantic, idempotent_function_pydantic_with_jmespath:
        a_pydantic_model_comes_back
_redis/test_redis_layer.py, and tests/integration/idempotency/test_idempotency_redis.py
    idempotent_function_and_lambda_handler_redis_basic, ..._basic_no_decode, ..._cache:
        a_function_and_a_handler_share_a_layer
    ..._event_key: a_key_from_json_in_the_event
    ..._validation: a_payload_that_was_tampered_with_is_refused
    redis_key_error: a_record_that_is_missing
    redis_key_corrupted: a_record_that_cannot_be_read
    redis_error_in_progress: an_error_of_the_store_is_one_of_the_layer
    item_to_datarecord_conversion: a_record_has_the_fields_of_powertools
    redis_orphan_record, redis_orphan_record_lock, redis_orphan_record_race_condition:
        of_two_that_find_an_expired_record_one_runs
    redis_race_condition: of_two_at_once_one_runs
    idempotent_lambda_redis_in_progress: a_record_in_progress_refuses
    idempotent_lambda_redis_delete: a_completed_record_is_forgotten_by_us_only
tests/e2e/idempotency
    ttl_caching_expiration_idempotency: an_expired_record_is_begun_again
    ttl_caching_timeout_idempotency: test_powertools.py, in_progress and run out of time
    parallel_execution_idempotency: of_two_at_once_one_runs
    idempotent_function_thread_safety: threads_have_records_of_their_own
    optional_idempotency_key: an_event_without_a_key
    payload_tampering_validation: a_payload_that_was_tampered_with_is_refused
    response_hook_idempotency: a_response_hook_is_called_for_a_record

Left out, because no layer takes part: data_record_*, handler_for_status_*,
is_missing_idempotency_key, idempotent_function_dataclasses, idempotent_function_pydantic,
idempotent_function_other, and the *_failure_* tests of serializers; or it is another one:
invalid_dynamodb_persistence_layer,
idempotent_lambda_compound_*, custom_sdk_client_injection, boto3_version_*, redis_connection_*,
idempotent_lambda_redis_credential (settings of DynamoDB and Redis).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jmespath  # type: ignore[import-untyped]
import pytest
from aws_lambda_powertools.utilities.idempotency import (
    IdempotencyConfig,
)
from aws_lambda_powertools.utilities.idempotency.exceptions import (
    IdempotencyAlreadyInProgressError,
    IdempotencyInconsistentStateError,
    IdempotencyItemAlreadyExistsError,
    IdempotencyItemNotFoundError,
    IdempotencyKeyError,
    IdempotencyPersistenceLayerError,
    IdempotencyValidationError,
)
from aws_lambda_powertools.utilities.idempotency.persistence.datarecord import DataRecord

from durableq import Busy, DurableQ
from durableq.model.once import OnceRequest
from durableq.store.core import Capability
from tests.contrib import test_powertools_functions
from tests.contrib.invocations import CACHED, EVENT, Body, CountedLayer, handler, keys
from tests.contrib.lambdas import Context
from tests.support import new_file, wait_for


@pytest.fixture
def dq(tmp_path: Path) -> Iterator[DurableQ]:
    with DurableQ(new_file(tmp_path / "q.db")) as dq:
        yield dq


@pytest.fixture
def layer(dq: DurableQ) -> CountedLayer:
    return CountedLayer(dq)


@CACHED
def test_a_completed_record_answers(dq: DurableQ, layer: CountedLayer, cached: bool) -> None:
    body = Body()
    first = handler(layer, body, use_local_cache=cached)(EVENT, Context())
    again = handler(CountedLayer(dq), body, use_local_cache=cached)  # of another environment
    assert again(EVENT, Context()) == first == {"call": 1}


@CACHED
def test_a_record_in_progress_refuses(dq: DurableQ, layer: CountedLayer, cached: bool) -> None:
    refused = list[int]()

    def body(event: Any, context: Any) -> str:
        for _ in range(3):
            with pytest.raises(IdempotencyAlreadyInProgressError, match="already in progress"):
                invoke(event, Context())
            refused.append(1)
        return "done"

    invoke = handler(layer, body, use_local_cache=cached)
    assert invoke(EVENT, Context()) == "done"
    assert len(refused) == 3
    assert invoke(EVENT, Context()) == "done"


@CACHED
@pytest.mark.parametrize("validation", ["", "total"])
def test_a_first_invocation_begins_and_completes_a_record(
    dq: DurableQ, layer: CountedLayer, cached: bool, validation: str
) -> None:
    config = {"event_key_jmespath": "order", "payload_validation_jmespath": validation}
    invoke = handler(layer, Body(), use_local_cache=cached, **config)
    assert invoke(EVENT, Context()) == {"call": 1}
    assert layer.calls == ["put", "update"]
    assert len(keys(dq)) == 1


@CACHED
def test_an_expired_record_is_begun_again(layer: CountedLayer, cached: bool) -> None:
    body = Body()
    invoke = handler(layer, body, use_local_cache=cached, expires_after_seconds=1)
    assert invoke(EVENT, Context()) == {"call": 1}
    wait_for(lambda: invoke(EVENT, Context()) == {"call": 2}, what="the end of the record")


def test_a_cached_record_asks_the_store_no_more(layer: CountedLayer) -> None:
    invoke = handler(layer, Body(), use_local_cache=True)
    assert [invoke(EVENT, Context()) for _ in range(3)] == [{"call": 1}] * 3
    assert layer.calls == ["put", "update"]


def test_an_event_that_the_function_changes_keeps_its_key(layer: CountedLayer) -> None:
    body = Body()

    def change(event: Any, context: Any) -> Any:
        event.pop("order")
        return body(event, context)

    invoke = handler(layer, change, event_key_jmespath="order")
    assert [invoke(dict(EVENT), Context()) for _ in range(2)] == [{"call": 1}] * 2


@CACHED
def test_an_exception_deletes_the_record(dq: DurableQ, layer: CountedLayer, cached: bool) -> None:
    def fail(_event: Any, _context: Any) -> None:
        raise ValueError("Something went wrong!")

    invoke = handler(layer, fail, use_local_cache=cached)
    for _ in range(2):
        with pytest.raises(ValueError, match="Something went wrong!"):
            invoke(EVENT, Context())
    assert layer.calls == ["put", "delete"] * 2
    assert keys(dq) == []


@CACHED
@pytest.mark.parametrize(
    ("validated", "tampered"),
    [("total", {**EVENT, "total": 10_000}), ("customer", {**EVENT, "customer": {"name": "Eve"}})],
)
def test_a_payload_that_was_tampered_with_is_refused(
    dq: DurableQ, layer: CountedLayer, cached: bool, validated: str, tampered: Any
) -> None:
    config: dict[str, Any] = {
        "event_key_jmespath": '["order", "note"]',
        "payload_validation_jmespath": validated,
        "use_local_cache": cached,
    }
    body = Body()
    invoke = handler(layer, body, **config)
    assert invoke(EVENT, Context()) == {"call": 1}
    other = CountedLayer(dq)
    for of in (invoke, handler(other, body, **config)):
        with pytest.raises(IdempotencyValidationError):
            of(tampered, Context())
    if cached:  # what was refused is not cached
        assert len(other._cache) == 0
    assert invoke(EVENT, Context()) == {"call": 1}


def test_a_record_that_comes_and_goes_is_inconsistent(
    layer: CountedLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of a lease lies between two looks, each time: Powertools gives up."""
    passed = DataRecord("key", "INPROGRESS", in_progress_expiry_timestamp=1_000)

    def refuse(data_record: DataRecord) -> None:
        layer.calls.append("put")
        raise IdempotencyItemAlreadyExistsError(old_data_record=passed)

    monkeypatch.setattr(layer, "_put_record", refuse)
    with pytest.raises(IdempotencyInconsistentStateError):
        handler(layer, Body())(EVENT, Context())
    assert len(layer.calls) > 1  # it was tried again


@CACHED
@pytest.mark.parametrize(
    ("call", "says"),
    [
        ("once_get_or_lease", "Failed to save in progress record to idempotency store"),
        ("once_store", "Failed to update record state to success in idempotency store"),
        ("once_fail", "Failed to delete record from idempotency store"),
    ],
)
def test_an_error_of_the_store_is_one_of_the_layer(
    dq: DurableQ, layer: CountedLayer, monkeypatch: pytest.MonkeyPatch, cached: bool, call: str,
    says: str,
) -> None:  # fmt: skip
    def refuse(*_: Any, **__: Any) -> None:
        raise Busy

    def body(_event: Any, _context: Any) -> None:
        if call == "once_fail":
            raise ValueError("its own")

    monkeypatch.setattr(dq.store, call, refuse)
    with pytest.raises(IdempotencyPersistenceLayerError, match=says) as caught:
        handler(layer, body, use_local_cache=cached)(EVENT, Context())
    assert isinstance(caught.value.__cause__, Busy)


def test_the_local_cache_has_completed_records_only(dq: DurableQ, layer: CountedLayer) -> None:
    layer.configure(IdempotencyConfig(use_local_cache=True))
    layer._save_to_cache(DataRecord("key", "INPROGRESS"))
    assert "key" not in layer._cache
    layer._delete_from_cache("missing")
    off = CountedLayer(dq)
    off.configure(IdempotencyConfig(use_local_cache=False))
    off._save_to_cache(DataRecord("key", "COMPLETED"))
    assert off._retrieve_from_cache("key") is None
    off._delete_from_cache("key")


def test_an_event_without_a_key(dq: DurableQ, layer: CountedLayer) -> None:
    body = Body()
    lax = handler(layer, body, event_key_jmespath='headers."X-Idempotency-Key"')
    with pytest.warns(UserWarning, match="No idempotency key"):
        assert [lax({"headers": {}}, Context())["call"] for _ in range(2)] == [1, 2]
    keyed = {"headers": {"X-Idempotency-Key": "a"}}
    assert [lax(keyed, Context())["call"] for _ in range(2)] == [3, 3]
    config = {"event_key_jmespath": "[body, x]", "raise_on_no_idempotency_key": True}
    with pytest.raises(IdempotencyKeyError, match="No data found to create"):
        handler(CountedLayer(dq), body, **config)({}, Context())
    assert body.calls == 3
    assert len(keys(dq)) == 1


def test_a_key_from_json_in_the_event(dq: DurableQ, layer: CountedLayer) -> None:
    invoke = handler(layer, Body(), event_key_jmespath="powertools_json(body).user")
    bodies = ('{"user": "ann", "time": 1}', '{"user": "ann", "time": 2}', '{"user": "eve"}')
    answers = [invoke({"body": body}, Context())["call"] for body in bodies]
    assert answers == [1, 1, 2]
    without = CountedLayer(dq)
    options = {"custom_functions": jmespath.functions.Functions()}
    config = {"event_key_jmespath": "powertools_json(body)", "jmespath_options": options}
    with pytest.raises(IdempotencyPersistenceLayerError, match="Unknown function: powertools_json"):
        handler(without, Body(), **config)({"body": "{}"}, Context())


@CACHED
@pytest.mark.parametrize("answer", [{"message": "first"}, None])
def test_a_response_hook_is_called_for_a_record(
    layer: CountedLayer, cached: bool, answer: Any
) -> None:
    seen: list[DataRecord] = []

    def hook(response: Any, idempotent_data: DataRecord) -> Any:
        seen.append(idempotent_data)
        return {"response": response, "is_idempotent": True}

    def body(_event: Any, _context: Any) -> Any:
        return answer

    invoke = handler(layer, body, use_local_cache=cached, response_hook=hook)
    assert invoke(EVENT, Context()) == answer
    assert seen == []
    assert invoke(EVENT, Context()) == {"response": answer, "is_idempotent": True}
    [record] = seen
    assert record.status == "COMPLETED"
    assert record.get_expiration_datetime() is not None


def test_a_record_that_is_missing(layer: CountedLayer) -> None:
    with pytest.raises(IdempotencyItemNotFoundError):
        layer._get_record("missing")


def test_a_record_that_cannot_be_read(dq: DurableQ, layer: CountedLayer) -> None:
    """Another program has written under its name: the function is not called twice by mistake."""
    body = Body()
    invoke = handler(layer, body)
    invoke(EVENT, Context())
    [key] = keys(dq)
    dq.forget_once(key)
    dq.once(key, lambda: "no record", ttl=60)
    with pytest.raises(IdempotencyPersistenceLayerError):
        invoke(EVENT, Context())
    assert body.calls == 1


def test_a_record_has_the_fields_of_powertools(layer: CountedLayer) -> None:
    layer.configure(IdempotencyConfig(), "shop")
    layer.save_inprogress(EVENT, remaining_time_in_millis=60_000)
    begun = layer.get_record(EVENT)
    assert begun is not None
    assert begun.idempotency_key.startswith("test-func.shop#")
    assert (begun.status, begun.response_data) == ("INPROGRESS", "")
    assert begun.in_progress_expiry_timestamp is not None
    layer.save_success(EVENT, {"paid": True})
    ended = layer.get_record(EVENT)
    assert ended is not None
    assert (ended.status, ended.response_json_as_dict()) == ("COMPLETED", {"paid": True})
    assert ended.expiry_timestamp is not None


def run_two(call: Callable[[], Any]) -> list[Any]:
    """Make a call in two threads at once; return the answers, or None for one in progress."""
    barrier = threading.Barrier(2)

    def one() -> Any:
        barrier.wait(60)
        try:
            return call()
        except IdempotencyAlreadyInProgressError:
            return None

    with ThreadPoolExecutor(2) as threads:
        return [future.result() for future in [threads.submit(one) for _ in range(2)]]


def test_of_two_at_once_one_runs(layer: CountedLayer) -> None:
    body = Body()
    invoke = handler(layer, body)
    answers = run_two(lambda: invoke(EVENT, Context()))
    assert body.calls == 1
    assert {"call": 1} in answers


def test_of_two_that_find_an_expired_record_one_runs(layer: CountedLayer) -> None:
    body = Body()
    layer.configure(IdempotencyConfig(), "lambda_handler")
    invoke = handler(layer, body)
    invoke(EVENT, Context())  # names the record
    [entry] = layer._dq.store.require(Capability.ONCE).once_entries(10)
    layer._dq.forget_once(entry.key)
    layer._dq.store.require(Capability.ONCE).once_get_or_lease(entry.key, expired())
    wait_for(lambda: keys(layer._dq) == [], what="the end of the record")
    run_two(lambda: invoke(EVENT, Context()))
    assert body.calls == 2


def expired() -> Any:
    """Return the request of an invocation that has a millisecond."""
    return OnceRequest(b"x" * 16, 1, "", 0.0)


def test_a_completed_record_is_forgotten_by_us_only(dq: DurableQ, layer: CountedLayer) -> None:
    """Powertools deletes by the key, whoever owns the record; here that is for its owner."""
    invoke = handler(layer, Body())
    assert invoke(EVENT, Context()) == {"call": 1}
    layer.delete_record(EVENT, ValueError())
    assert invoke(EVENT, Context()) == {"call": 1}
    dq.forget_once(keys(dq)[0])
    assert invoke(EVENT, Context()) == {"call": 2}


def test_each_scenario_of_theirs_names_a_test_of_ours() -> None:
    assert __doc__ is not None
    listed = __doc__.partition("and ours:")[2].partition("Left out")[0]
    named = {*re.findall(r":\s+([a-z]\w+)$", listed, re.MULTILINE)}
    names = [*globals(), *vars(test_powertools_functions)]
    ours = {name.removeprefix("test_") for name in names if name.startswith("test_")}
    ours.remove("powertools_functions")
    assert named <= ours
    assert ours - named == {"each_scenario_of_theirs_names_a_test_of_ours"}
