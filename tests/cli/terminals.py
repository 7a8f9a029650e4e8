"""Run the command on a terminal of its own, of any width."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tests.cli.console import environment, warm
from tests.support import scaled

ERASE = "\x1b[2K"
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Shown(NamedTuple):
    """The output of a command on a terminal: stdout and stderr together."""

    code: int
    text: str

    @property
    def lines(self) -> list[str]:
        """The lines as they stand at the end, without escape sequences."""
        lines = self.text.split("\n")
        return [ESCAPE.sub("", line.rpartition(ERASE)[2]).lstrip("\r") for line in lines if line]


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
