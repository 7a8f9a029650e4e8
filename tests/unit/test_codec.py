"""What a body may be, and how it is written."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durableq import codec
from durableq.errors import InvalidBody, InvalidInput, InvalidResult
from durableq.limits import (
    MAX_ATTRIBUTES,
    MAX_ATTRIBUTES_BYTES,
    MAX_BODY_DEPTH,
    MAX_RESULT_BYTES,
)

numbers = st.integers(-(1 << 63), 1 << 63) | st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(codec="utf-8"))
bodies = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    max_leaves=10,
)


def nested(depth: int) -> Any:
    body: Any = "[{"  # brackets in text do not nest
    for level in range(depth):
        body = [body] if level % 2 else {"a": body}
    return body


def itself() -> list[Any]:
    body: list[Any] = []
    body.append(body)
    return body


@given(bodies)
def test_json_comes_back_as_it_was(body: Any) -> None:
    stored = codec.encode(body)
    assert isinstance(stored, str)
    assert codec.decode(stored) == body


@given(st.binary())
def test_bytes_come_back_as_they_were(body: bytes) -> None:
    assert codec.encode(body) == codec.decode(body) == body
    assert codec.encode(bytearray(body)) == codec.encode(memoryview(body)) == body


@given(bodies | st.binary())
def test_the_size_is_what_it_takes_on_disk(body: Any) -> None:
    stored = codec.encode(body)
    assert codec.size(stored) == len(stored.encode() if isinstance(stored, str) else stored)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (float("nan"), "JSON cannot hold this body"),
        (float("inf"), "JSON cannot hold this body"),
        ({1, 2}, "JSON cannot hold this body.*set"),
        ({(1, 2): 3}, "JSON cannot hold this body"),
        ("\ud800", r"lone surrogate \(U\+D800\)"),
        ({"a": ["\udfff"]}, r"lone surrogate \(U\+DFFF\)"),
        (itself(), "body"),
        (nested(100_000), "nested too deep"),
    ],
    ids=["nan", "inf", "set", "key", "surrogate", "inner surrogate", "itself", "very deep"],
)
def test_what_json_cannot_hold_is_refused_with_a_reason(body: Any, says: str) -> None:
    with pytest.raises(InvalidBody, match=says):
        codec.encode(body)


def test_a_body_may_nest_to_the_limit_and_no_deeper() -> None:
    codec.encode(nested(MAX_BODY_DEPTH))
    with pytest.raises(InvalidBody, match=str(MAX_BODY_DEPTH)):
        codec.encode(nested(MAX_BODY_DEPTH + 1))


def test_a_wide_body_is_not_taken_for_a_deep_one() -> None:
    arrays: list[Any] = [[] for _ in range(2 * MAX_BODY_DEPTH)]
    assert codec.decode(codec.encode(arrays)) == arrays
    brackets = '[{"\\' * MAX_BODY_DEPTH
    assert codec.decode(codec.encode(brackets)) == brackets


@pytest.mark.parametrize("stored", ["", "{", "nothing", "[" * 100_000])
def test_a_stored_body_that_is_not_json_is_refused(stored: str) -> None:
    with pytest.raises(InvalidBody, match="not JSON"):
        codec.decode(stored)


def reordered(body: Any) -> Any:
    """The same payload as another producer writes it."""
    if isinstance(body, dict):
        return {name: reordered(value) for name, value in reversed(body.items())}
    return [reordered(part) for part in body] if isinstance(body, list) else body


@given(bodies)
def test_producers_that_mean_the_same_payload_agree(body: Any) -> None:
    assert codec.payload_hash(reordered(body)) == codec.payload_hash(body)
    assert codec.payload_hash(json.loads(json.dumps(body))) == codec.payload_hash(body)


@given(bodies, bodies)
def test_payloads_that_differ_are_told_apart(one: Any, other: Any) -> None:
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (codec.payload_hash(one) == codec.payload_hash(other)) == same


def test_bytes_are_told_apart_from_the_json_they_spell() -> None:
    assert codec.payload_hash(b"1") != codec.payload_hash(1)
    assert len(codec.payload_hash(b"")) == 32


def test_keys_of_mixed_types_are_hashed_as_they_are_stored() -> None:
    stored = codec.decode(codec.encode({1: "a", "b": 2, None: 3}))
    assert codec.payload_hash({1: "a", "b": 2, None: 3}) == codec.payload_hash(stored)


def test_no_result_stays_none() -> None:
    assert codec.encode_result(None) is None
    assert codec.encode_result({"paid": True}) == '{"paid":true}'


def test_a_result_within_the_limit_is_kept_and_over_it_refused() -> None:
    assert codec.encode_result("x" * (MAX_RESULT_BYTES - 2)) is not None
    with pytest.raises(InvalidResult, match=f"{MAX_RESULT_BYTES + 1} bytes"):
        codec.encode_result("x" * (MAX_RESULT_BYTES - 1))
    with pytest.raises(InvalidResult, match="result"):
        codec.encode_result(object())


def test_attributes_are_named_strings_and_numbers() -> None:
    assert codec.encode_attributes(None) is codec.encode_attributes({}) is None
    assert codec.encode_attributes({"a": 1, "b": 2.5, "c": "x"}) == '{"a":1,"b":2.5,"c":"x"}'


@pytest.mark.parametrize(
    "attributes",
    [
        ["a"],
        {"": 1},
        {1: "a"},
        {"a": True},
        {"a": None},
        {"a": [1]},
        {"a": float("nan")},
        {"a": "\ud800"},
        {str(n): n for n in range(MAX_ATTRIBUTES + 1)},
        {"a": "x" * MAX_ATTRIBUTES_BYTES},
    ],
    ids=["list", "no name", "name", "bool", "none", "nested", "nan", "text", "many", "large"],
)
def test_other_attributes_are_refused(attributes: Any) -> None:
    with pytest.raises(InvalidInput):
        codec.encode_attributes(attributes)
