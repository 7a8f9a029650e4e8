"""A command on a terminal of 80 columns, as a person sees it."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tests.cli.console import environment
from tests.support import scaled

COLUMNS, ROWS = 80, 24
ERASE = "\x1b[2K"
#: Makes the terminal that of its session, so that Ctrl-C in it is a signal; then runs the command.
OWN_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(2, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""


class Terminal:
    """A process whose standard streams are a terminal.

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
        size = struct.pack("HHHH", ROWS, COLUMNS, 0, 0)
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
