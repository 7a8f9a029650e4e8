"""Fingerprints: the same failure of another message has the same one."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durableq.model.fingerprint import FINGERPRINT_CHARS, READ_CHARS, fingerprint, normalised
from durableq.model.message import Failure, Reason

SAME = [
    ("no order 17", "no order 18", "no order <number>"),
    ("at -1.5 of 1,000", "at 22 of 7", "at <number> of <number>"),
    ("db-1 is down", "db-22 is down", "db-<number> is down"),
    ("no 'ann'", "no 'bob and 7'", "no <text>"),
    ('no "ann"', 'no ""', "no <text>"),
    ("can't find it", "can't  find\nit", "can't find it"),
    ("<Order at 0x7f01>", "<Order at 0xBEEF>", "<Order at <hex>>"),
    ("commit deadbeef01", "commit 0123456789abcdef", "commit <hex>"),
    (
        "id 550e8400-e29b-41d4-a716-446655440000",
        "id 6BA7B810-9DAD-11D1-80B4-00C04FD430C8",
        "id <uuid>",
    ),
    ("cannot open /a/b.txt: gone", "cannot open ./c: gone", "cannot open <path>: gone"),
    ("at 2026-01-02T03:04:05.6Z", "at 2025-12-31 23:59:59+01:00", "at <time>"),
    ("at 03:04", "at 23:59:59.9", "at <time>"),
]


@pytest.mark.parametrize(("one", "another", "shared"), SAME)
def test_particulars_do_not_change_a_fingerprint(one: str, another: str, shared: str) -> None:
    assert normalised(one) == normalised(another) == shared
    assert fingerprint("E", one) == fingerprint("E", another)


def test_type_words_and_place_change_a_fingerprint() -> None:
    kinds = [("E", "no order"), ("F", "no order"), ("E", "no card"), ("E", "no order", "shop.py:a")]
    assert len({fingerprint(*kind) for kind in kinds}) == len(kinds)


@given(st.text(), st.text(), st.text())
def test_any_text_has_a_fingerprint(error_type: str, message: str, place: str) -> None:
    found = fingerprint(error_type, message, place)
    assert len(found) == FINGERPRINT_CHARS
    assert set(found) <= set(string.hexdigits.lower())


@given(st.sampled_from("'\"`a0-/:. f\\~<"), st.sampled_from("'\"`a0-/:. f\\~<"))
def test_a_long_message_is_read_in_part(one: str, other: str) -> None:
    text = (one + other) * READ_CHARS
    assert len(normalised(text)) <= 10 * READ_CHARS
    assert normalised(text) == normalised(text + "beyond")


def test_a_failure_without_a_fingerprint_gets_one_with_its_reason() -> None:
    lost = Failure(Reason.WORKER_LOST, "", "died under message 7")
    assert lost.fingerprint == Failure(Reason.WORKER_LOST, "", "died under message 8").fingerprint
    assert lost.fingerprint != Failure(Reason.TIMEOUT, "", "died under message 7").fingerprint
    assert Failure(Reason.TIMEOUT, "E", "", fingerprint="mine").fingerprint == "mine"


def test_the_fingerprint_of_a_failure_is_cut_and_made_storable() -> None:
    failure = Failure(Reason.TIMEOUT, "E", "", fingerprint="f" * 99 + "\ud800", place="\ud800" * 99)
    assert len(failure.fingerprint) == 64
    assert len(failure.place) == 200
    assert failure.place.startswith("\\ud800")
