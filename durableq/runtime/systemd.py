"""The state of this process for systemd: datagrams to its socket, as sd_notify(3) defines them."""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import MutableMapping
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import socket

#: The variables of sd_notify(3) and sd_watchdog_enabled(3).
SOCKET: Final = "NOTIFY_SOCKET"
WATCHDOG: Final = ("WATCHDOG_USEC", "WATCHDOG_PID")
#: The digits of the largest time, which has 64 bits.
_USEC_DIGITS: Final = 20


class Systemd:
    """Tells systemd about this process; does nothing where systemd gave it no socket.

    The variables are removed from the environment: a program that a handler starts is not the
    service. Nothing here blocks or raises: what systemd does not take now is sent at a later beat.

    Args:
        environment: has the socket's address, and the time after which a silent process is killed.
    """

    def __init__(self, environment: MutableMapping[str, str] = os.environ) -> None:
        address = environment.pop(SOCKET, "")
        usec, pid = (environment.pop(name, "") for name in WATCHDOG)
        is_time = usec.isdecimal() and len(usec) <= _USEC_DIGITS
        is_watched = is_time and int(usec) > 0 and pid in {"", str(os.getpid())}
        #: Half of the time that systemd waits for a beat.
        self._interval = int(usec) / 2_000_000 if is_watched else math.inf
        self._beat_at = 0.0 if is_watched else math.inf
        self._status = ""
        self._untold: deque[str] = deque()
        self._socket: socket.socket | None = None
        if address.startswith(("/", "@")):
            import socket

            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)
            # A name that begins with @ is in the abstract namespace, which has no files.
            self._address = address.replace("@", "\0", 1) if address[0] == "@" else address

    @property
    def is_there(self) -> bool:
        """Whether systemd listens."""
        return self._socket is not None

    def ready(self) -> None:
        """Tell that the start, or the reload, is complete."""
        self._tell("READY=1")

    def reloading(self) -> None:
        """Tell that a reload has begun; `ready` ends it."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, within_seconds: float = 0.0) -> None:
        """Tell that the process is ending, and how long that may take; 0 for the unit's limit."""
        longer = f"\nEXTEND_TIMEOUT_USEC={round(within_seconds * 1e6)}" if within_seconds else ""
        self._tell(f"STOPPING=1{longer}")

    def beat(self, status: str = "") -> None:
        """Tell that the process does its work, where systemd watches that, and a new status.

        Call it in the loop that does the work, at least once a second.
        """
        if self._socket is None:
            return
        now = time.monotonic()
        lines = ["WATCHDOG=1"] if now >= self._beat_at else []
        lines += [f"STATUS={status}"] if status != self._status else []
        if self._flush() and lines and self._send("\n".join(lines)):
            self._status = status
            self._beat_at = now + self._interval if lines[0] == "WATCHDOG=1" else self._beat_at

    def close(self) -> None:
        """Close the socket; nothing is told any more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _tell(self, lines: str) -> None:
        if self._socket is not None:
            self._untold.append(lines)
            self._flush()

    def _flush(self) -> bool:
        """Send in order what was not sent; return whether nothing is left."""
        while self._untold and self._send(self._untold[0]):
            self._untold.popleft()
        return not self._untold

    def _send(self, lines: str) -> bool:
        with suppress(OSError):  # systemd is busy, or executes itself anew
            if self._socket is not None:
                self._socket.sendto(lines.encode(), self._address)
                return True
        return False
