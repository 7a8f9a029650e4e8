"""The wall clock and the lease clock.

The wall clock can be set; without its jumps (`durableq.runtime.steady_clock`) it serves delays,
time-to-live and display. Leases are measured on the kernel's boot clock, which cannot be set and
runs during suspend. Another boot id shows that the machine has restarted, so that all earlier
workers of this machine are dead.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import NamedTuple, Protocol

from durableq.model.errors import Unsupported

_BOOT_ID_FILE = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACES = Path("/proc/self/ns")
_OFFSETS_FILE = Path("/proc/self/timens_offsets")


def boot_offset_ns() -> int:
    """Return the offset of this process's boot clock from the machine's.

    A time namespace (of a container, or of `unshare --time`) may have an offset of its own, so its
    processes would take the leases of the others for ended, or grant leases that never end. The
    kernel shows the offsets of the namespace in which children are created, which is this process's
    own except between unshare(2) and exec(2); then, and without time namespaces, 0.
    """
    try:
        here, of_children = (
            os.readlink(_NAMESPACES / name) for name in ("time", "time_for_children")
        )
        if here != of_children:
            return 0
        for line in _OFFSETS_FILE.read_text().splitlines():
            name, seconds, nanoseconds = line.split()
            if name == "boottime":
                return int(seconds) * 1_000_000_000 + int(nanoseconds)
    except (OSError, ValueError):
        pass
    return 0


class Reading(NamedTuple):
    """The time on both clocks at one moment."""

    wall_ms: int
    boot_ms: int
    boot_id: str


class Clock(Protocol):
    """The source of an engine's time. Inject another one in tests."""

    def wall_ms(self) -> int:
        """Milliseconds since the Unix epoch, as the wall clock has them."""
        ...

    def lease_ms(self) -> int:
        """Milliseconds on a clock that cannot be set."""
        ...

    def boot_id(self) -> str:
        """The id of this boot. Workers of another boot of this machine are dead."""
        ...


class SystemClock:
    """The clocks of this machine.

    Where the kernel has no boot clock (outside Linux), leases fall back to the wall clock and
    the boot id is empty.

    Raises:
        Unsupported: this is Linux and /proc is not mounted, or without /proc/sys.
    """

    def __init__(self) -> None:
        _check_proc()
        self._boot_clock: int | None = getattr(time, "CLOCK_BOOTTIME", None)
        if not _BOOT_ID_FILE.exists():
            self._boot_clock = None
        self._boot_id = _BOOT_ID_FILE.read_text().strip() if self._boot_clock is not None else ""
        self._offset_ns = boot_offset_ns() if self._boot_clock is not None else 0

    def read(self) -> Reading:
        """Return the wall clock, the lease clock and the boot id."""
        wall_ns = time.time_ns()
        if self._boot_clock is None:
            return Reading(wall_ns // 1_000_000, wall_ns // 1_000_000, self._boot_id)
        boot_ns = time.clock_gettime_ns(self._boot_clock) - self._offset_ns
        return Reading(wall_ns // 1_000_000, boot_ns // 1_000_000, self._boot_id)

    def wall_ms(self) -> int:
        """Milliseconds since the Unix epoch."""
        return time.time_ns() // 1_000_000

    def lease_ms(self) -> int:
        """Milliseconds since boot, suspend included (CLOCK_BOOTTIME), in any time namespace."""
        if self._boot_clock is None:
            return self.wall_ms()
        return (time.clock_gettime_ns(self._boot_clock) - self._offset_ns) // 1_000_000

    def boot_id(self) -> str:
        """The kernel's random id of this boot, or an empty string."""
        return self._boot_id


def _check_proc() -> None:
    """Refuse to measure leases on the wall clock where other processes use the boot clock."""
    if sys.platform == "linux" and not Path("/proc/sys").is_dir():
        raise Unsupported(
            "/proc is not mounted here, or without /proc/sys. durableq finds there which boot of "
            "the machine this is; without that it would take the leases of living workers for "
            "lost. Mount it (mount -t proc proc /proc; under systemd no ProcSubset=pid)."
        )
