"""A page as a newcomer reads it: files to write, commands to type, and what they print."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from tests.cli.terminals import ERASE, ESCAPE, read
from tests.support import scaled

COLUMNS = 80
_PART = re.compile(
    r"^<!-- (?P<mark>elsewhere|terminal|stop): (?P<words>[^\n]*) -->\n"
    r"|^```(?P<language>\w+)\n(?P<text>.*?)^```\n",
    re.DOTALL | re.MULTILINE,
)
_FILE = re.compile(r"# (\w+\.\w+)\n")
_END = re.compile(r"\n@@ (\d+)\n$")


class File(NamedTuple):
    """A file to write."""

    name: str
    text: str


class Command(NamedTuple):
    """A command to type, with what the page shows of its output."""

    text: str
    shown: list[str]


class Start(NamedTuple):
    """A command that goes on in a terminal of its own."""

    terminal: str
    text: str


class Stop(NamedTuple):
    """Ctrl-C in a terminal."""

    terminal: str


Step = File | Command | Start | Stop


def steps(page: str) -> Iterator[Step]:
    """Yield the steps of a page; a comment before a block says where its commands run."""
    mark, words = "", ""
    for part in _PART.finditer(page):
        if part["mark"] == "stop":
            yield Stop(part["words"])
        elif part["mark"]:
            mark, words = part["mark"], part["words"]
        elif part["language"] == "console":
            commands = [] if mark == "elsewhere" else [*_commands(part["text"])]
            yield from (Start(words, each.text) for each in commands if mark)
            yield from (each for each in commands if not mark)
            mark = ""
        elif name := _FILE.match(part["text"]):
            yield File(name[1], part["text"])


def _commands(text: str) -> Iterator[Command]:
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, *shown = part.rstrip("\n").split("\n")
        yield Command(command, shown)


class Terminal:
    """A shell in a folder, on a terminal of 80 columns."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self._leader, follower = pty.openpty()
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 50, COLUMNS, 0, 0))
        self._bash = subprocess.Popen(
            ["bash", "--norc", "--noprofile"],
            cwd=folder,
            env={"TERM": "xterm", "NO_COLOR": "1", **env},
            stdin=subprocess.PIPE,
            stdout=follower,
            stderr=follower,
            start_new_session=True,
        )
        os.close(follower)

    def start(self, command: str) -> None:
        """Type a command that goes on."""
        self._write(f"trap : INT; {command} </dev/null\n")

    def run(self, command: str) -> tuple[int, list[str]]:
        """Type a command; return its exit code and the lines that stand on the terminal then."""
        self._write(f"{{ {command}\n}} </dev/null; echo; echo @@ $?\n")
        return self._ended()

    def interrupt(self) -> int:
        """Press Ctrl-C: the signal goes to all that run here. Return the exit code."""
        os.killpg(self._bash.pid, signal.SIGINT)
        self._write("echo; echo @@ $?\n")
        return self._ended()[0]

    def close(self) -> None:
        """End the shell and what runs in it."""
        assert self._bash.stdin is not None
        self._bash.stdin.close()
        os.killpg(self._bash.pid, signal.SIGTERM)
        self._bash.wait(scaled(60))
        os.close(self._leader)

    def _write(self, text: str) -> None:
        assert self._bash.stdin is not None
        self._bash.stdin.write(text.encode())
        self._bash.stdin.flush()

    def _ended(self) -> tuple[int, list[str]]:
        seen = b""
        while not (end := _END.search(_text(seen))):
            ready, _, _ = select.select([self._leader], [], [], scaled(120))
            assert ready, f"A command does not end; it printed:\n{_text(seen)}"
            seen += read(self._leader)
        lines = _text(seen)[: end.start()].rstrip("\n").split("\n")
        return int(end[1]), [
            ESCAPE.sub("", line.rpartition(ERASE)[2]).strip("\r") for line in lines
        ]


def _text(seen: bytes) -> str:
    return seen.decode(errors="replace").replace("\r\n", "\n")


def environment() -> dict[str, str]:
    """The environment of a newcomer, with this durableq in place of an installed one."""
    root = Path(__file__).resolve().parents[2]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    names = ("HOME", "LANG", "TMPDIR", "PYTHONPYCACHEPREFIX")
    kept = {name: os.environ[name] for name in names if name in os.environ}
    return {**kept, "PATH": path, "PYTHONPATH": str(root)}
