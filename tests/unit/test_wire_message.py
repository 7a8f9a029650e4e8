"""Messages over SQS: each text and each attribute comes back as it was sent."""

from __future__ import annotations

import json
import math
import uuid

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from durableq.model import codec
from durableq.model.drafts import AS_SENT, TEXT, Draft, Envelope
from durableq.model.errors import InvalidBody, InvalidInput
from durableq.model.limits import MAX_BODY_DEPTH
from durableq.model.message import Message, State, draft
from durableq.model.wire_message import (
    DATABASE_BITS,
    TypedAttribute,
    attributes_of,
    body_of,
    message_uuid,
    number_of,
    row_of_uuid,
    system_attributes_of,
    to_draft,
)

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
indents = st.sampled_from([None, 1, "\t"])
json_texts = st.builds(json.dumps, json_values, indent=indents, ensure_ascii=st.booleans())
texts = st.text() | json_texts | json_texts.map(lambda text: text[:-1])
names = st.from_regex(r"[A-Za-z0-9_.-]{1,20}", fullmatch=True)
numbers = st.from_regex(r"[+-]?[0-9]{1,40}(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)
labels = st.sampled_from(["", ".int", ".", ".a.b"])
attributes = (
    st.builds(lambda label, text: TypedAttribute("String" + label, text), labels, st.text())
    | st.builds(lambda label, text: TypedAttribute("Number" + label, text), labels, numbers)
    | st.builds(lambda label, text: TypedAttribute("Number" + label, text), labels, st.text())
    | st.builds(lambda label, value: TypedAttribute("Binary" + label, value), labels, st.binary())
)


def received(made: Draft) -> Message:
    """Return a draft as a receive of the endpoint returns it."""
    flow = made.flow
    facts = (State.IN_FLIGHT, 1, 0, 0, 0, 0, 0, None, None, flow and flow.group, None)
    envelope = (flow and flow.envelope) or Envelope()
    return Message("1", "orders", made.body, None, made.attributes, 0, *facts, envelope)


@given(text=texts)
@example("1e999")
@example("[" * MAX_BODY_DEPTH + "]" * MAX_BODY_DEPTH)
@example("[" * (MAX_BODY_DEPTH + 1) + "]" * (MAX_BODY_DEPTH + 1))
@example("[" * 100_000)
@example("9" * 5_000)
@example('{"a": 1, "a": 2}')
@example('"\\ud800"')
@example("-Infinity")
@example("\ufeff{}")
@example("\0")
def test_any_text_comes_back_and_a_handler_sees_a_value_that_can_be_sent(text: str) -> None:
    made = to_draft(text)
    assert body_of(received(made)) == text
    seen = codec.decode(made.body)
    codec.encode(seen)
    assert "\0" not in made.body
    if made.flow is None:
        assert made.body == text
    else:
        assert made.flow.envelope == Envelope(TEXT)
        assert seen == text


@given(value=json_values)
def test_a_handler_sees_json_decoded(value: object) -> None:
    made = to_draft(json.dumps(value, indent=1))
    assert made.flow is None
    assert codec.decode(made.body) == value


@given(
    typed=st.dictionaries(names, attributes, max_size=10), system=st.dictionaries(names, st.text())
)
def test_any_attributes_come_back_with_their_types(
    typed: dict[str, TypedAttribute], system: dict[str, str]
) -> None:
    message = received(to_draft("{}", typed, system))
    assert attributes_of(message) == typed
    assert system_attributes_of(message) == system
    seen = codec.decode_attributes(message.attributes)
    assert seen.keys() == {name for name, (type_, _) in typed.items() if type_[0] != "B"}
    for name, value in seen.items():
        kind = typed[name].kind
        assert isinstance(value, str) or (kind == "Number" and math.isfinite(value))
        if kind == "String":
            assert value == typed[name].value


@given(
    sent=st.dictionaries(
        names,
        st.text() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
        max_size=10,
    )
)
def test_attributes_of_a_python_sender_are_plain(sent: dict[str, str | int | float]) -> None:
    found = attributes_of(received(draft(1, attributes=sent)))
    assert found.keys() == sent.keys()
    for name, value in sent.items():
        if isinstance(value, str):
            assert found[name] == TypedAttribute("String", value)
        else:
            assert found[name].type == "Number"
            assert number_of(str(found[name].value)) == value
    # Sent on by a client that received them, they are stored as they were.
    assert to_draft("1", found) == draft(1, attributes=sent)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *(("7", 7), ("-0", 0), ("007", 7), ("+5", 5), ("1.50", 1.5), (".5", 0.5), ("1e3", 1000.0)),
        *(
            (text, text)
            for text in ("", "nan", "inf", "1_0", " 1", "0x1", "1e999", "seven", "\u0661")
        ),
    ],
)
def test_a_number_is_one_for_a_handler_and_other_text_is_text(
    text: str, number: str | float
) -> None:
    seen = number_of(text)
    assert (type(seen), seen) == (type(number), number)


def test_a_message_that_a_python_sender_could_have_sent_is_stored_as_its_own() -> None:
    plain = {"a": TypedAttribute("String", "x"), "b": TypedAttribute("Number", "2")}
    assert to_draft('{"order":7}', plain) == draft({"order": 7}, attributes={"a": "x", "b": 2})
    assert to_draft("7", group="g", delay=5) == draft(7, group="g", delay=5)


def test_a_label_is_kept_without_its_value() -> None:
    made = to_draft("7", {"a": TypedAttribute("String.x", "long" * 100)})
    assert made.flow is not None
    expected = Envelope(AS_SENT, '{"attributes":{"a":["String.x",null]}}')
    assert made.flow.envelope == expected


@pytest.mark.parametrize(
    ("attribute", "words"),
    [
        (TypedAttribute("Text", "x"), "'Text'"),
        (TypedAttribute("Binary", "x"), "Binary has bytes"),
        (TypedAttribute("String", b"x"), "String and Number have text"),
        (TypedAttribute("String", "\ud800"), "lone surrogate"),
        (TypedAttribute("String.\ud800", "x"), "lone surrogate"),
    ],
)
def test_attributes_that_are_none_are_refused(attribute: TypedAttribute, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        to_draft("x", {"a": attribute})


def test_a_body_with_a_lone_surrogate_is_refused() -> None:
    for text in ("\ud800", '"\ud800"'):
        with pytest.raises(InvalidBody, match="lone surrogate"):
            to_draft(text)


def test_options_that_python_senders_alone_have_are_refused() -> None:
    with pytest.raises(InvalidInput, match="no key"):
        to_draft("x", key="k")
    with pytest.raises(InvalidInput, match="no key"):
        to_draft("x", attributes={"a": 1})


databases = st.integers(0, (1 << DATABASE_BITS) - 1)
rows = st.integers(0, (1 << 63) - 1)


@given(database=databases, row=rows, redrives=st.integers(0, 2047))
def test_an_id_names_its_database_its_row_and_its_redrive(
    database: int, row: int, redrives: int
) -> None:
    made = message_uuid(database, row, redrives)
    assert (made.version, made.variant) == (8, uuid.RFC_4122)
    assert row_of_uuid(str(made)) == (database, row, redrives)
    assert message_uuid(database, row, redrives + 2048) == made


@pytest.mark.parametrize(("database", "row"), [(-1, 1), (1 << 48, 1), (1, -1), (1, 1 << 63)])
def test_numbers_of_no_message_have_no_id(database: int, row: int) -> None:
    with pytest.raises(InvalidInput, match="No message"):
        message_uuid(database, row)


@given(text=st.text() | st.uuids(version=4).map(str) | st.uuids(version=1).map(str))
def test_other_texts_are_no_ids(text: str) -> None:
    assert row_of_uuid(text) is None
