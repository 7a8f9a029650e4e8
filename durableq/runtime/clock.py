"""The clocks: the wall clock, the lease clock, and steady time, which is made of both.

The wall clock can be set. Leases are measured on the kernel's boot clock, which cannot be set and
runs during suspend. Another boot id of the same host shows that the machine has restarted, so that
all earlier workers of this host are dead.

Steady time is the wall clock without its jumps; a store dates and compares everything else by it.
A wall clock that is set, by a person or by a time server, advances by more or by less than the boot
clock. Over such a jump steady time advances with the boot clock: no message expires before its
lifetime has passed, or waits longer because the wall clock went back. Between jumps it advances
with the wall clock.

An Anchor joins the clocks: the time on both at one moment, and the steady time of that moment. It
is stored with the data, one for each boot, shared by all processes of the boot, and renewed from
time to time. Dates are stored in steady time and shown as the wall clock would have them now.

The boot clocks of two machines, or of two boots, have nothing in common. So a lease's deadline is
stored in lease time: the boot clock and a distance that the first anchor of a boot fixes, such that
lease time continues where the anchor of an earlier boot had it. Setting a wall clock later does not
change it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from durableq.model.errors import Unsupported
from durableq.model.message import FOREVER_MS
from durableq.model.text import storable
from durableq.model.units import span
from durableq.runtime.logs import facts

log = logging.getLogger("durableq.clock")

T = TypeVar("T")

#: Greatest difference between the advances of the two clocks that is not a jump: more than a leap
#: second, and than the steps by which time servers correct a clock that runs. (Where they slew it,
#: the boot clock is slewed with it.)
JUMP_MS: Final = 30_000
#: Age of an anchor at which the next write renews it.
RENEW_MS: Final = 15_000
#: Fields of a store's answers that hold a date.
DATES: Final = frozenset(
    {
        "sent_at_ms",
        "enqueued_at_ms",
        "delayed_until_ms",
        "first_received_at_ms",
        "modified_at_ms",
        "purged_at_ms",
        "at_ms",
        "died_at_ms",
        "died_before_ms",
        "first_died_ms",
        "last_died_ms",
        "created_at_ms",
        "completed_at_ms",
        "expires_at_ms",
        "stale_until_ms",
        "started_at_ms",
        "updated_at_ms",
        "beat_at_ms",
        "oldest_ready_ms",
    }
)
#: Types that hold no fields: most of what an answer consists of.
_PLAIN: Final = frozenset({str, bytes, int, float, bool, type(None)})

_BOOT_ID_FILE = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACES = Path("/proc/self/ns")
_OFFSETS_FILE = Path("/proc/self/timens_offsets")
_MACHINE_ID_FILES = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))


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


def host_id() -> str:
    """Return the id of this machine or container, the same after a restart.

    It is DURABLEQ_HOST_ID, or a hash of the machine id and the host name: copies of an image may
    share the one, and a container often has the other only. Two hosts with one id would take the
    leases of each other's living workers, while a host whose id changes only waits for their end.
    """
    if given := os.environ.get("DURABLEQ_HOST_ID", "").strip():
        return storable(given)
    machine_id = ""
    for file in _MACHINE_ID_FILES:
        with suppress(OSError):
            machine_id = machine_id or file.read_text(errors="replace").strip()
    known = f"durableq\0{machine_id}\0{socket.gethostname()}"
    return hashlib.sha256(known.encode("utf-8", "surrogateescape")).hexdigest()[:32]


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
        """The id of this boot. Workers of another boot of this host are dead."""
        ...

    def host_id(self) -> str:
        """The id of this host, the same after a restart."""
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

    def read(self) -> tuple[int, int, str]:
        """Return the wall clock, the lease clock and the boot id, as Reading has them."""
        wall_ns = time.time_ns()
        if self._boot_clock is None:
            return wall_ns // 1_000_000, wall_ns // 1_000_000, self._boot_id
        boot_ns = time.clock_gettime_ns(self._boot_clock) - self._offset_ns
        return wall_ns // 1_000_000, boot_ns // 1_000_000, self._boot_id

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

    def host_id(self) -> str:
        """The id of this machine or container."""
        return host_id()


def _check_proc() -> None:
    """Refuse to measure leases on the wall clock where other processes use the boot clock."""
    if sys.platform == "linux" and not Path("/proc/sys").is_dir():
        raise Unsupported(
            "/proc is not mounted here, or without /proc/sys. durableq finds there which boot of "
            "the machine this is; without that it would take the leases of living workers for "
            "lost. Mount it (mount -t proc proc /proc; under systemd no ProcSubset=pid)."
        )


class Moment(NamedTuple):
    """One reading of the clocks of a store, for one operation."""

    #: Steady time.
    now_ms: int
    #: Lease time.
    lease_ms: int
    #: Distance from steady time to the wall clock.
    offset_ms: int
    #: Whether the stored anchor is missing, old, or from before a jump.
    is_due: bool


class Anchor(NamedTuple):
    """The time on both clocks at one moment, and the steady time of that moment."""

    wall_ms: int
    boot_ms: int
    boot_id: str
    steady_ms: int
    #: Distance of the newest jump, negative if the wall clock was set back; 0: there was none.
    jump_ms: int = 0
    #: Steady time at which the newest jump was noticed.
    jumped_at_ms: int = 0
    #: Distance from the boot clock to lease time.
    lease_offset_ms: int = 0

    @property
    def offset_ms(self) -> int:
        """Distance from steady time to the wall clock."""
        return self.wall_ms - self.steady_ms

    @property
    def lease_ms(self) -> int:
        """Lease time."""
        return self.boot_ms + self.lease_offset_ms

    def to_json(self) -> str:
        """Return the form in which an anchor is stored."""
        return json.dumps(self._asdict())

    @classmethod
    def from_json(cls, text: str | None) -> Anchor | None:
        """Read a stored anchor; None if there is none, or it is damaged."""
        try:
            known = json.loads(text or "null")
            known.setdefault("lease_offset_ms", 0)  # release 0.1 had none
            numbers = {name: int(known.pop(name)) for name in cls._fields if name != "boot_id"}
            if any(abs(number) > FOREVER_MS for number in numbers.values()):
                return None
            return cls(boot_id=str(known.pop("boot_id")), **numbers)
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
            return None


def read(clock: Clock) -> Reading:
    """Read both clocks."""
    return Reading(clock.wall_ms(), clock.lease_ms(), clock.boot_id())


def jump(anchor: Anchor, now: Reading) -> int:
    """Return by how much the wall clock has jumped since the anchor; 0 if it has not.

    Within one boot a jump is a difference between the advances of the two clocks. Across boots the
    time that passed is unknown, and only a wall clock behind the anchor's is a jump.
    """
    wall_ms = now.wall_ms - anchor.wall_ms
    if now.boot_id != anchor.boot_id:
        return wall_ms if wall_ms < -JUMP_MS else 0
    difference_ms = wall_ms - (now.boot_ms - anchor.boot_ms)
    return difference_ms if abs(difference_ms) > JUMP_MS else 0


def advance(anchor: Anchor, now: Reading) -> Anchor:
    """Return the anchor of a later moment.

    After a jump that brings the wall clock near steady time again, the two are equal again.
    """
    jump_ms, jumped_at_ms = jump(anchor, now), anchor.jumped_at_ms
    passed_ms = now.wall_ms - anchor.wall_ms
    if jump_ms:
        passed_ms = max(0, now.boot_ms - anchor.boot_ms) if now.boot_id == anchor.boot_id else 0
    steady_ms = anchor.steady_ms + passed_ms
    if jump_ms:
        if abs(now.wall_ms - steady_ms) <= JUMP_MS:
            steady_ms = now.wall_ms
        jumped_at_ms = steady_ms
    lease_offset_ms = anchor.lease_offset_ms
    if now.boot_id != anchor.boot_id:
        lease_offset_ms = anchor.lease_ms + max(0, passed_ms) - now.boot_ms
    return Anchor(*now, steady_ms, jump_ms or anchor.jump_ms, jumped_at_ms, lease_offset_ms)


class SteadyClock:
    """The clocks of a store.

    Args:
        clock: the wall clock and the boot clock.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._read = clock.read if isinstance(clock, SystemClock) else partial(read, clock)
        wall_ms, boot_ms, boot_id = self._read()
        self._count_from(Anchor(wall_ms, boot_ms, boot_id, steady_ms=wall_ms), is_stored=False)

    def _count_from(self, anchor: Anchor, *, is_stored: bool) -> None:
        """Set the anchor, and the values that each moment needs: one tuple, for other threads."""
        self._anchor, self._is_stored = anchor, is_stored
        due_at_ms = anchor.boot_ms + RENEW_MS if is_stored else anchor.boot_ms
        apart_ms = anchor.wall_ms - anchor.boot_ms
        self._basis = anchor, apart_ms, anchor.offset_ms, due_at_ms

    def moment(self) -> Moment:
        """Return the time on all clocks, and whether the stored anchor is due to be renewed."""
        wall_ms, boot_ms, boot_id = self._read()
        anchor, apart_ms, offset_ms, due_at_ms = self._basis
        if boot_id != anchor.boot_id or abs(wall_ms - boot_ms - apart_ms) > JUMP_MS:  # see `jump`
            later = advance(anchor, Reading(wall_ms, boot_ms, boot_id))
            return Moment(later.steady_ms, later.lease_ms, later.offset_ms, is_due=True)
        is_due = not anchor.boot_ms <= boot_ms < due_at_ms
        return Moment(wall_ms - offset_ms, boot_ms + anchor.lease_offset_ms, offset_ms, is_due)

    def now_ms(self) -> int:
        """Return the steady time in milliseconds since the Unix epoch."""
        return self.moment().now_ms

    def lease_ms(self) -> int:
        """Return lease time."""
        return self.moment().lease_ms

    def boot_id(self) -> str:
        """Return the name of this boot."""
        return self._clock.boot_id()

    def host_id(self) -> str:
        """Return the name of this host."""
        return self._clock.host_id()

    def now(self) -> Anchor:
        """Return both clocks as they are now, with the steady time."""
        return advance(self._anchor, Reading(*self._read()))

    def is_due(self) -> bool:
        """Return whether the stored anchor is missing, old, or from before a jump."""
        return self.moment().is_due

    def adopt(self, stored: Anchor | None) -> None:
        """Count from the stored anchor, if there is one, and none of this boot is known already."""
        if stored is None:
            return
        boot_id = self._clock.boot_id()
        is_of_this_boot = stored.boot_id == boot_id
        if is_of_this_boot or not (self._is_stored and self._anchor.boot_id == boot_id):
            self._count_from(stored, is_stored=True)

    def renew(self, now: Anchor) -> None:
        """Count from a new anchor, just stored, and log the jump that it shows."""
        before = self._anchor
        self._count_from(now, is_stored=True)
        if (now.jump_ms, now.jumped_at_ms) != (before.jump_ms, before.jumped_at_ms):
            log.warning(
                "the wall clock jumped %s; nothing expires or comes due by that: "
                "check the machine's time",
                jump_words(now.jump_ms),
                extra=facts("clock_jumped", jump_ms=now.jump_ms),
            )

    def keep(self) -> None:
        """Renew the anchor if it is due, for a store in memory."""
        if self.is_due():
            self.renew(self.now())

    def shown(self, answer: T) -> T:
        """Return an answer with its dates as the wall clock would have them now."""
        return shift(answer, self.moment().offset_ms)

    def of_wall(self, wall_ms: int) -> int:
        """Return the steady time of a date on the wall clock as it is now."""
        return wall_ms - self.moment().offset_ms


def jump_words(jump_ms: int) -> str:
    """Return a jump in words: `ahead by 366 d`."""
    return f"{'ahead' if jump_ms > 0 else 'back'} by {span(abs(jump_ms))}"


def shift(answer: T, by_ms: int) -> T:
    """Return a value with every date in it moved, in lists and in nested values too."""
    moved: Any = answer
    if not by_ms or type(answer) in _PLAIN:
        return answer
    if isinstance(answer, tuple) and hasattr(answer, "_fields"):
        changes = _moved(answer, answer._fields, by_ms)
        moved = answer._replace(**changes) if changes else answer  # type: ignore[attr-defined]
    elif isinstance(answer, list | tuple):
        moved = type(answer)(shift(part, by_ms) for part in answer)
    elif is_dataclass(answer) and not isinstance(answer, type):
        changes = _moved(answer, [field.name for field in fields(answer)], by_ms)
        moved = replace(answer, **changes) if changes else answer
    result: T = moved
    return result


def _moved(answer: object, names: Sequence[str], by_ms: int) -> dict[str, Any]:
    """Return the fields that change: dates, except those that mean never, and nested values."""
    changes = {}
    for name in names:
        value = getattr(answer, name)
        if name not in DATES:
            new = shift(value, by_ms)
        else:
            new = value + by_ms if value and value != FOREVER_MS else value
        if new is not value:
            changes[name] = new
    return changes
