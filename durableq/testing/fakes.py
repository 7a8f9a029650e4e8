"""A clock and random numbers under the control of a test."""

from __future__ import annotations


class FakeClock:
    """A clock that stands still until you move it.

    Args:
        wall_ms: the wall clock, in milliseconds since the Unix epoch.
        lease_ms: the boot clock.
        host_id: the machine whose clock it is.
    """

    def __init__(
        self,
        wall_ms: int = 1_700_000_000_000,
        lease_ms: int = 1_000_000,
        host_id: str = "host-1",
    ) -> None:
        self._wall_ms = wall_ms
        self._lease_ms = lease_ms
        self._host_id = host_id
        self._boots = 1

    def wall_ms(self) -> int:
        """Milliseconds since the Unix epoch."""
        return self._wall_ms

    def lease_ms(self) -> int:
        """Milliseconds since boot; `set_wall` does not move them."""
        return self._lease_ms

    def boot_id(self) -> str:
        """The name of this boot of the host."""
        first = "" if self._host_id == "host-1" else f"{self._host_id}-"
        return f"{first}boot-{self._boots}"

    def host_id(self) -> str:
        """The name of the host."""
        return self._host_id

    def advance(self, seconds: float) -> None:
        """Let time pass: on both clocks."""
        self._wall_ms += round(seconds * 1000)
        self._lease_ms += round(seconds * 1000)

    def set_wall(self, wall_ms: int) -> None:
        """Set the wall clock, forward or back, as a person or NTP would.

        A store takes more than 30 seconds for a jump, by which nothing expires or comes due: to
        let lifetimes and delays pass, use `advance`.
        """
        self._wall_ms = wall_ms

    def reboot(self) -> None:
        """Restart the machine: another boot id, and the boot clock begins again."""
        self._boots += 1
        self._lease_ms = 5_000


class FakeRandom:
    """Random numbers that are always `value`, and are counted."""

    def __init__(self, value: float = 0.5) -> None:
        self.value = value
        self.throws = 0

    def __call__(self) -> float:
        """Return `value`, which is in [0, 1)."""
        self.throws += 1
        return self.value
