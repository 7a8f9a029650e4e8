"""The server's clock, as seen from this machine."""

from __future__ import annotations

from durableq.runtime.clock import SystemClock


class ServerClock(SystemClock):
    """The wall clock of the server beside the boot clock of this machine.

    Each transaction observes the server's clock. A difference between the advances of the two
    clocks is a jump, as on one machine.
    """

    def __init__(self) -> None:
        super().__init__()
        self._ahead_ms = super().wall_ms() - self.lease_ms()

    def observe(self, now_ms: int) -> None:
        """Take notice of the time on the server, in milliseconds since the Unix epoch."""
        self._ahead_ms = now_ms - self.lease_ms()

    def wall_ms(self) -> int:
        """Milliseconds since the Unix epoch, on the server."""
        return self.lease_ms() + self._ahead_ms

    def read(self) -> tuple[int, int, str]:
        """Return the server's clock, the boot clock of this machine, and its boot id."""
        boot_ms = self.lease_ms()
        return boot_ms + self._ahead_ms, boot_ms, self.boot_id()
