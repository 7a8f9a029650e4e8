"""Bodies: the accepted values, and their encoding."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durableq.model import codec
from durableq.model.errors import InvalidBody, InvalidInput, InvalidResult
from durableq.model.limits import (
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
def test_the_size_is_the_size_on_disk(body: Any) -> None:
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
def test_values_that_json_cannot_hold_are_refused_with_a_reason(body: Any, says: str) -> None:
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


@pytest.mark.parametrize("stored", [" 1", "1\n", '\t{"a": 1} ', "[1, 2]", '"x"', "1.5"])
def test_space_around_stored_json_changes_nothing(stored: str) -> None:
    assert codec.decode(stored) == json.loads(stored)


@pytest.mark.parametrize("stored", ["1 2", "[1] x", "\ufeff1", '"a', "-", "[1]]", "\u00a01"])
def test_other_text_around_stored_json_is_refused(stored: str) -> None:
    with pytest.raises(InvalidBody, match="not JSON"):
        codec.decode(stored)


def reordered(body: Any) -> Any:
    """The same payload as another producer writes it."""
    if isinstance(body, dict):
        return {name: reordered(value) for name, value in reversed(body.items())}
    return [reordered(part) for part in body] if isinstance(body, list) else body


def hashed(body: Any) -> bytes:
    return codec.payload_hash(codec.encode(body))


@given(bodies)
def test_producers_that_mean_the_same_payload_agree(body: Any) -> None:
    assert hashed(reordered(body)) == hashed(body)
    for spelling in (json.dumps(body), json.dumps(body, indent=1, ensure_ascii=False)):
        assert codec.payload_hash(spelling) == hashed(body)


def typed(body: Any) -> Any:
    """A body in which JSON values are equal if and only if they are the same."""
    if isinstance(body, dict):
        return {name: typed(value) for name, value in body.items()}
    if isinstance(body, list):
        return [typed(part) for part in body]
    return (isinstance(body, bool), body)


@given(bodies, bodies)
def test_payloads_that_differ_have_different_hashes(one: Any, other: Any) -> None:
    assert (hashed(one) == hashed(other)) == (typed(one) == typed(other))


def test_bytes_and_the_json_that_they_spell_have_different_hashes() -> None:
    assert hashed(b"1") != hashed(1)
    assert len(hashed(b"")) == 32


def test_names_that_were_numbers_are_hashed_as_they_are_stored() -> None:
    body = {1: "a", "b": 2, None: 3, 10: 4, 9: 5}
    assert hashed(body) == hashed(codec.decode(codec.encode(body)))


@pytest.mark.parametrize("stored", ["{", "[" * 100_000, "\udcff", "1E999"])
def test_hashes_of_a_body_that_is_not_json_match_only_if_equal(stored: str) -> None:
    one, other = hashed(1), hashed(2)
    assert codec.same_payload(one, one, stored)
    assert not codec.same_payload(one, other, stored)


@pytest.mark.parametrize(
    "body",
    [
        {1: "a", "1": "b"},
        {None: 1, "null": 2},
        {True: 1, "true": 2},
        {1.5: 1, "1.5": 2},
        [{"deep": ({"x": {-1: 1, "-1": 2}},)}],
    ],
    ids=str,
)
def test_names_that_become_one_in_json_are_refused(body: Any) -> None:
    with pytest.raises(InvalidBody, match="Give each a name of its own"):
        codec.encode(body)
    with pytest.raises(InvalidResult, match="Give each a name of its own"):
        codec.encode_result(body)


def test_other_names_that_are_not_text_become_text() -> None:
    body = {1: "a", None: "b", False: "c", 2.5: "d", "e": [{3: ()}]}
    stored = codec.decode(codec.encode(body))
    assert stored == {"1": "a", "null": "b", "false": "c", "2.5": "d", "e": [{"3": []}]}


class Unruly(dict[str, Any]):
    """A mapping that another thread changes while it is read."""

    def items(self) -> Any:
        raise RuntimeError("dictionary changed size during iteration")


def test_a_body_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(InvalidBody, match="changed size"):
        codec.encode(Unruly(a=1))


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
    assert codec.encode_attributes({}) is None
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
