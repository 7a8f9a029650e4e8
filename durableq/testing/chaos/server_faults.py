"""The faults of a PostgreSQL server: connections are cut, and the server is killed."""

from __future__ import annotations

import random
from typing import ClassVar, Final

from durableq.demo.reading import Reader
from durableq.model.errors import DatabaseUnreachable
from durableq.testing.chaos.faults import Fault, Phase, Targets
from durableq.testing.chaos.server import Server

#: The connections of the run's processes.
_CONNECTIONS: Final = "SELECT pid FROM pg_stat_activity WHERE application_name = ? ORDER BY pid"
#: Whether the process of a connection has ended within two seconds.
_CUT: Final = "SELECT pg_terminate_backend(?, 2000)"
_STARTED: Final = "SELECT pg_postmaster_start_time()"


class RunsServer:
    """The server that a run uses.

    Args:
        reader: reads its database.
        name: the application name of the connections that may be cut.
        own: the server, if the run may kill it.
    """

    def __init__(self, reader: Reader, name: str, own: Server | None) -> None:
        self._reader = reader
        self._name = name
        self._own = own
        self._started_before: object = None

    @property
    def kinds(self) -> list[type[ServerFault]]:
        """The kinds of faults that it can have."""
        return [Cut] if self._own is None else [Cut, Crash]

    def cut(self, rng: random.Random) -> int | None:
        """Cut a random connection; return its process, or None if there was none."""
        try:
            found = self._reader.rows(_CONNECTIONS, self._name)
            if not found:
                return None
            (pid,) = rng.choice(found)
            ((has_ended,),) = self._reader.rows(_CUT, pid)
        except DatabaseUnreachable:
            return None
        return int(pid) if has_ended else None

    def crash(self) -> int | None:
        """Kill the server and start it again; return its process, None if it was not there."""
        if self._own is None:
            return None
        try:
            self._started_before = self._reader.rows(_STARTED)
        except DatabaseUnreachable:
            return None
        pid = self._own.process.pid
        self._own.kill()
        self._own.launch()
        return pid

    def is_back(self) -> bool:
        """Return whether it answers, and was started after its crash."""
        try:
            return self._reader.rows(_STARTED) != self._started_before
        except DatabaseUnreachable:
            return False


class ServerFault(Fault):
    """A fault of the server."""

    #: Their number for each fault of workers.
    share: ClassVar[float]


class Cut(ServerFault):
    """A connection of a process of the run ends, whatever it does."""

    name = "cut"
    does = "the server cuts a connection (pg_terminate_backend)"
    proof = "the process of the connection has ended, as the server says"
    share = 0.6

    def advance(self, targets: Targets) -> Phase:
        """Cut a connection if there is one."""
        pid = targets.server.cut(targets.rng) if targets.server else None
        if pid is None:
            return Phase.WAITING
        targets.ledger.note(self.name, str(pid))
        return Phase.HAPPENED


class Crash(ServerFault):
    """SIGKILL of PostgreSQL, all its processes. What it has acknowledged must be there again."""

    name = "crash"
    does = "all processes of PostgreSQL are killed with SIGKILL, and it is started again"
    proof = "none of them was alive, and the server that answers was started later"
    share = 0.1

    def __init__(self) -> None:
        self._is_down = False

    def advance(self, targets: Targets) -> Phase:
        """Kill the server, or see whether it is back."""
        if targets.server is None:
            return Phase.WAITING
        if not self._is_down:
            pid = targets.server.crash()
            if pid is None:
                return Phase.WAITING
            targets.ledger.note(self.name, str(pid))
            self._is_down = True
        return Phase.HAPPENED if targets.server.is_back() else Phase.UNDERWAY
