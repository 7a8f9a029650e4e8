"""Run the command on a terminal of its own: to its end, or to look at it meanwhile."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tests.cli.console import environment, warm
from tests.support import scaled

ERASE = "\x1b[2K"
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
#: Makes the terminal that of its session, so that Ctrl-C in it is a signal; then runs the command.
OWN_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(2, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""


class Shown(NamedTuple):
    """The output of a command on a terminal: stdout and stderr together."""

    code: int
    text: str

    @property
    def lines(self) -> list[str]:
        """The lines as they stand at the end, without escape sequences."""
        lines = self.text.rstrip().split("\n")
        return [ESCAPE.sub("", line.rpartition(ERASE)[2]).strip("\r") for line in lines]


def on_terminal(
    *arguments: object,
    cwd: Path,
    columns: int = 80,
    typed: bytes = b"",
    env: Mapping[str, str] | None = None,
) -> Shown:
    """Run a command on a terminal with a number of columns; `typed` is its input."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    given = {"TERM": "xterm", "NO_COLOR": "", "COLUMNS": "", "LINES": ""} | dict(env or {})
    with subprocess.Popen(
        [*warm(), *map(str, arguments)],
        cwd=cwd,
        env=environment(**given),
        stdin=follower if typed else subprocess.DEVNULL,
        stdout=follower,
        stderr=follower,
    ) as child:
        os.close(follower)
        os.write(leader, typed)
        seen = b""
        while chunk := read(leader):
            seen += chunk
        os.close(leader)
        code = child.wait(scaled(60))
    return Shown(code, seen.decode().replace("\r\n", "\n"))


def read(terminal: int) -> bytes:
    """Return the next output on a terminal; nothing once the other end is closed."""
    try:
        return os.read(terminal, 65_536)
    except OSError:
        return b""


class Terminal:
    """A process whose standard streams are a terminal of 80 columns, to look at while it runs.

    Args:
        command: its arguments.
        folder: where it runs.
        stdout: another place for its data.
        env: more of the environment.
    """

    def __init__(
        self, command: Sequence[str], folder: Path, *, stdout: int | None = None, **env: str
    ) -> None:
        self._main, side = pty.openpty()
        size = struct.pack("HHHH", 24, 80, 0, 0)
        fcntl.ioctl(side, termios.TIOCSWINSZ, size)
        environ = environment(**({"TERM": "xterm"} | env))
        for name in ("COLUMNS", "LINES"):
            environ.pop(name, None)
        self.process = subprocess.Popen(
            [sys.executable, "-c", OWN_TERMINAL, *command],
            cwd=folder,
            env=environ,
            stdin=side,
            stdout=side if stdout is None else stdout,
            stderr=side,
            start_new_session=True,
        )
        os.close(side)
        #: Everything that was written so far.
        self.written = ""

    def type(self, text: str) -> None:
        os.write(self._main, text.encode())

    def read(self) -> str:
        """Return everything that was written so far."""
        with suppress(OSError):  # all processes on it have ended
            while select.select([self._main], [], [], 0)[0]:
                part = os.read(self._main, 1 << 16)
                if not part:
                    break
                self.written += part.decode(errors="replace")
        return self.written

    def shows(self, text: str) -> bool:
        return text in self.read()

    def screen(self) -> list[str]:
        """Return the lines as they stand, for output that moves within its last line only."""
        lines, column = [""], 0
        for part in self.read().replace(ERASE, "\0"):
            match part:
                case "\r":
                    column = 0
                case "\n":
                    lines.append("")
                    column = 0
                case "\0":
                    lines[-1] = ""
                case _:
                    lines[-1] = f"{lines[-1][:column]:<{column}}{part}{lines[-1][column + 1 :]}"
                    column += 1
        return lines

    def end(self) -> int:
        """Wait for the process, and return its exit code."""
        try:
            return self.process.wait(scaled(60))
        finally:
            self.read()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._main)
