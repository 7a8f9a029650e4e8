"""The side of systemd in sd_notify(3): a socket that services send datagrams to."""

from __future__ import annotations

import socket
from types import TracebackType
from typing import Any

from tests.support import scaled, wait_for


class FakeSystemd:
    """Takes what services tell.

    Args:
        address: a path, or a name in the abstract namespace, which begins with @.
        watchdog_seconds: time within which a beat is expected; 0 for none.
    """

    def __init__(self, address: str, watchdog_seconds: float = 0) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0", 1) if address[0] == "@" else address)
        self._told: list[str] = []
        #: The environment of a service.
        self.environment: dict[str, Any] = {"NOTIFY_SOCKET": address}
        if watchdog_seconds:
            self.environment["WATCHDOG_USEC"] = str(round(watchdog_seconds * 1e6))

    def __enter__(self) -> FakeSystemd:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    @property
    def told(self) -> list[str]:
        """The lines so far, in order."""
        while self.is_told_within(0):
            pass
        return self._told

    def is_told_within(self, seconds: float) -> bool:
        """Take the next datagram; return False if none comes in time."""
        self._socket.settimeout(seconds)
        try:
            self._told += self._socket.recv(1 << 16).decode().splitlines()
        except (TimeoutError, BlockingIOError):
            return False
        return True

    def is_told_more(self) -> bool:
        """Return whether a datagram comes soon, after all that came so far."""
        _ = self.told
        return self.is_told_within(scaled(3))

    @property
    def states(self) -> list[str]:
        """The states of the service so far: READY, RELOADING, STOPPING."""
        states = ("READY=1", "RELOADING=1", "STOPPING=1")
        return [line.removesuffix("=1") for line in self.told if line in states]

    @property
    def status(self) -> str:
        """The newest status; empty for none."""
        return next((line[7:] for line in reversed(self.told) if line.startswith("STATUS=")), "")

    def value(self, name: str) -> int:
        """Return the newest number of this name."""
        return next(
            int(line.partition("=")[2])
            for line in reversed(self.told)
            if line.startswith(f"{name}=")
        )

    def wait_states(self, *states: str) -> None:
        """Wait until the service has told these states, and no others."""
        wait_for(
            lambda: len(self.states) >= len(states), what=f"{states}; it has told {self._told}"
        )
        assert self.states == list(states)

    def wait_status(self, status: str) -> None:
        """Wait until this is the status of the service."""
        wait_for(lambda: self.status == status, what=f"{status!r}; it has told {self._told}")

    def wait_beats(self, more: int) -> None:
        """Wait for more beats of the watchdog."""
        known = self.told.count("WATCHDOG=1")
        wait_for(lambda: self.told.count("WATCHDOG=1") >= known + more, what="beats")
