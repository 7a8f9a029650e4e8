"""The boot clock is the machine's in every time namespace."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from durableq.runtime import clock
from durableq.runtime.clock import SystemClock, boot_offset_ns

OFFSETS = "monotonic           0         0\nboottime       {}\n"


@pytest.fixture
def namespaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The kernel's files, as a process of another time namespace finds them."""
    monkeypatch.setattr(clock, "_NAMESPACES", tmp_path)
    monkeypatch.setattr(clock, "_OFFSETS_FILE", tmp_path / "offsets")
    (tmp_path / "time").symlink_to("time:[1]")
    (tmp_path / "time_for_children").symlink_to("time:[1]")
    (tmp_path / "offsets").write_text(OFFSETS.format("0 0"))
    return tmp_path


@pytest.mark.parametrize(
    ("written", "offset_ns"),
    [("0 0", 0), ("100000 5", 100_000_000_000_005), ("-3 500000000", -2_500_000_000)],
)
def test_the_offset_of_a_time_namespace_is_read(
    namespaces: Path, written: str, offset_ns: int
) -> None:
    (namespaces / "offsets").write_text(OFFSETS.format(written))
    assert boot_offset_ns() == offset_ns


def test_the_boot_clock_is_the_machines(namespaces: Path) -> None:
    (namespaces / "offsets").write_text(OFFSETS.format("100000 0"))
    expected = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000 - 100_000_000
    assert 0 <= SystemClock().lease_ms() - expected < 60_000


def test_the_offset_of_a_namespace_that_only_children_are_in_is_not_ours(namespaces: Path) -> None:
    (namespaces / "offsets").write_text(OFFSETS.format("100000 0"))
    (namespaces / "time_for_children").unlink()
    (namespaces / "time_for_children").symlink_to("time:[2]")
    assert boot_offset_ns() == 0


@pytest.mark.parametrize("text", ["", "nonsense", "boottime x y", "monotonic 1 1"])
def test_a_kernel_that_reports_nothing_has_no_offset(namespaces: Path, text: str) -> None:
    (namespaces / "offsets").write_text(text)
    assert boot_offset_ns() == 0


def test_a_kernel_without_time_namespaces_has_no_offset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "_NAMESPACES", tmp_path)
    assert boot_offset_ns() == 0
