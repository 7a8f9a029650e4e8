"""The warning about shed messages."""

from __future__ import annotations

import time

import pytest

from durableq.runtime import room


@pytest.fixture(autouse=True)
def _first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_shed", {})


def test_shed_messages_are_logged_once_a_second_for_each_queue(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    for queue, number in (("orders", 2), ("orders", 3), ("mail", 1)):
        room.warn_shed(queue, number)
    now += room.WARN_EVERY_SECONDS
    room.warn_shed("orders", 4)
    full = "queue {} is full, and on_full is shed: {} messages were dropped"
    assert [record.getMessage() for record in caplog.records] == [
        full.format("orders", 2),
        full.format("mail", 1),
        full.format("orders", 7),
    ]
