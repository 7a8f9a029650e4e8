"""The values of progress reports."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import pytest

from durableq.model.errors import InvalidInput
from durableq.model.limits import MAX_PROGRESS_CHARS
from durableq.model.message import Receipt
from durableq.model.progress import Progress, progress_report

RECEIPT = Receipt("orders", "1", "ab")


@pytest.mark.parametrize("fraction", [0, 0.4, 1, 1.0])
def test_a_fraction_is_a_number_from_0_to_1(fraction: float) -> None:
    assert progress_report(RECEIPT, fraction).fraction == fraction


@pytest.mark.parametrize(
    "fraction", [-0.1, 1.1, 40, math.nan, math.inf, "0.4", None, True, Decimal("0.4"), 10**400]
)
def test_any_other_fraction_is_refused_with_a_sentence(fraction: Any) -> None:
    with pytest.raises(
        InvalidInput, match=r"^Progress is a number from 0 to 1, got .*done / total"
    ):
        progress_report(RECEIPT, fraction)


def test_a_text_that_is_no_string_is_refused() -> None:
    text: Any = b"half"
    with pytest.raises(InvalidInput, match="The text of a progress report is a string"):
        progress_report(RECEIPT, 0.5, text)


def test_a_long_text_is_cut() -> None:
    assert progress_report(RECEIPT, 0.5, "x" * 10_000).text == "x" * MAX_PROGRESS_CHARS
    assert len(progress_report(RECEIPT, 0.5, "\0" * 10_000).text) == MAX_PROGRESS_CHARS


@pytest.mark.parametrize(
    ("fraction", "percent"), [(0.0, 0), (0.29, 29), (1 - 1e-15, 99), (1.0, 100)]
)
def test_percents_are_rounded_down(fraction: float, percent: int) -> None:
    assert Progress("1", "orders", fraction, "", 0).percent == percent
