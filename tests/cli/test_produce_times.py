"""`produce`: the times of messages. One that cannot be sent is bad by itself."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.cli.console import Run, Shop
from tests.cli.test_produce import lines_file

OPTIONS = ("--queue", "orders", "--envelope", "--skip-bad")


def with_one(tmp_path: Path, days: float, **options: Any) -> Path:
    """Return a file of three messages, the second with options and a time in so many days."""
    at = (datetime.now(UTC) + timedelta(days=days)).isoformat()
    lines = [{"body": 1}, {"body": 2, "at": at} | options, {"body": 3}]
    return lines_file(tmp_path, *map(json.dumps, lines))


@pytest.mark.parametrize(
    ("days", "options", "why"),
    [
        (500, {}, "at most 366 days"),
        (1, {"expires_in": 60}, "expires before it is due"),
    ],
)
def test_a_line_with_a_time_that_is_refused_is_skipped_alone(
    run: Run, shop: Shop, tmp_path: Path, days: float, options: dict[str, Any], why: str
) -> None:
    sent = run("produce", with_one(tmp_path, days, **options), *OPTIONS)
    assert sent.code == 0
    assert "Line 2 was skipped: " in sent.err
    assert why in sent.err
    assert shop.bodies() == [1, 3]


def test_a_time_after_the_expiry_of_the_queue_fails_no_other_message(
    run: Run, shop: Shop, tmp_path: Path
) -> None:
    shop.store.declare_queue("orders", {"expires_in_ms": 60_000})
    sent = run("produce", with_one(tmp_path, 1), *OPTIONS)
    assert sent.code == 5
    assert "A message could not be stored: A message with a delay of 86399." in sent.err
    assert "2 messages were sent before it and stay sent." in sent.err
    assert shop.bodies() == [1, 3]


def test_lines_with_times_that_are_possible_are_sent(run: Run, shop: Shop, tmp_path: Path) -> None:
    assert run("produce", with_one(tmp_path, 1, expires_in=90_000), *OPTIONS).code == 0
    assert run("produce", with_one(tmp_path, -1, expires_in=60), *OPTIONS).code == 0
    assert shop.bodies() == [1, 2, 3, 1, 2, 3]
