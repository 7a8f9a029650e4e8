"""Arguments that are refused: unknown names, and values that an error repeats only in part."""

from __future__ import annotations

from typing import Any

import pytest

from durableq import DurableQ, InvalidInput, Reject
from durableq.model.arguments import check_known, listed, near_miss
from durableq.model.drafts import SEND_OPTIONS
from durableq.model.settings import OPTIONS
from durableq.model.text import shown, visible

MISSPELT = [
    ("idempotency_key", "key"),
    ("Key", "key"),
    ("message_key", "key"),
    ("delay_seconds", "delay"),
    ("DelaySeconds", "delay"),
    ("delay_ms", "delay"),
    ("prioritty", "priority"),
    ("attribute", "attributes"),
    ("MessageAttributes", "attributes"),
]


@pytest.mark.parametrize(("given", "meant"), MISSPELT)
def test_an_unknown_option_of_a_message_is_refused_everywhere(given: str, meant: str) -> None:
    says = f"Unknown message option '{given}'. Did you mean '{meant}'"
    orders = DurableQ("memory://").queue("orders")
    options: Any = {given: 1}
    orders.send("first")
    [message] = orders.receive()
    with orders.producer() as producer, message.transaction() as tx:
        for send in (producer.send, lambda body, **o: tx.send("orders", body, **o)):
            with pytest.raises(InvalidInput, match=says):
                send(1, **options)
    with pytest.raises(InvalidInput, match=says):
        orders.send(1, **options)
    with pytest.raises(InvalidInput, match=says):
        orders.send_many([1, 2], **options)
    with pytest.raises(InvalidInput, match=says):
        orders.send_many([], **options)
    assert orders.info().counters.sent == 1


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("visibility_timeout_seconds", "visibility_timeout"),
        ("VisibilityTimeout", "visibility_timeout"),
        ("delay_seconds", "delay"),
        ("max_receive", "max_receives"),
        ("maxReceives", "max_receives"),
        ("ttl", "idempotency_ttl"),
        ("max_body_byte", "max_body_bytes"),
        ("nonsense", None),
        ("", None),
        ("_", None),
    ],
)
def test_a_near_miss_is_found_by_words_and_by_spelling(given: str, meant: str | None) -> None:
    assert near_miss(given, OPTIONS) == meant


def test_a_name_like_no_other_is_refused_with_all_names() -> None:
    with pytest.raises(
        InvalidInput, match=r"'x'[.] There are key, attributes, delay, at, priority, group"
    ):
        check_known(["key", "x"], SEND_OPTIONS, "option")
    with pytest.raises(InvalidInput):
        DurableQ("memory://").queue("orders", **{"x" * 100_000: 1})  # type: ignore[arg-type]
    assert listed(["a"]) == "a"


class Odd:
    def __repr__(self) -> str:
        raise RuntimeError("no")


class Long:
    def __repr__(self) -> str:
        return "x\n" * 1_000_000


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("k", "'k'"),
        ("a\x1b[1m\u202e\ud800", r"'a\x1b[1m\u202e\ud800'"),
        ("k" * 1_000_000, f"'{'k' * 60}'… (1,000,000 characters)"),
        (b"k" * 61, f"b'{'k' * 60}'… (61 bytes)"),
        ("\U000116ca" * 20, "'" + r"\U000116ca" * 7 + r"\U000116c… (20 characters)"),
        (b"\0" * 60, "b'" + r"\x00" * 19 + r"\x… (60 bytes)"),
        (5, "5"),
        (10**5000, "<int>"),
        (Odd(), "<Odd instance at 0x"),
        (Long(), r"x\nx\n"),
        ({"a": ["b" * 1000] * 1000}, "{'a': ['bbb"),
        (None, "None"),
    ],
    ids=range(12),
)
def test_an_error_repeats_a_value_on_one_line_and_not_much_of_it(value: Any, text: str) -> None:
    said = shown(value)
    assert said.startswith(text)
    assert len(said) <= 120
    assert said.isprintable()


def test_a_wait_for_a_rejected_message_is_refused() -> None:
    orders = DurableQ("memory://").queue("orders")
    orders.send(1)
    [message] = orders.receive()
    with pytest.raises(InvalidInput, match="is not retried"):
        message.fail(Reject("no"), retry_in=5)
    message.complete()


def test_a_space_that_is_not_printable_is_shown_as_an_escape() -> None:
    assert visible("a b\xa0c\u3000") == r"a b\xa0c\u3000"
