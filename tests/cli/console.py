"""Run the command: in this process, in a fork of a warm one, or as a process of its own."""

from __future__ import annotations

import atexit
import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from durableq import DurableQ
from tests import descriptors
from tests.support import scaled
from tests.warm import WarmProcess

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "durableq"]


class Result(NamedTuple):
    """The result of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def rows(self) -> list[Any]:
        """The documents of a list, one a line."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def said(self) -> str:
        """The commentary, without the line that names the database."""
        first, _, rest = self.err.partition("\n")
        return rest if first.startswith("Database: ") else self.err

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


Run = Callable[..., Result]


def environment(**more: str) -> dict[str, str]:
    """The tests' environment, in which `python -m durableq` is found from anywhere."""
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


@functools.cache
def warm() -> list[str]:
    """Return COMMAND as a fork of a warm process, for a twentieth of the CPU.

    Tests of signals, and of the start of Python itself, use COMMAND.
    """
    process = WarmProcess("tests.cli.warm_command", PYTHONPATH=str(ROOT))
    atexit.register(process.close)
    descriptors.KEPT.update(process.descriptors)
    return process.command("durableq")


def process(*arguments: object, cwd: Path, stdin: bytes = b"", **env: str) -> Result:
    """Run the command as a process of its own."""
    return run_process(COMMAND, *arguments, cwd=cwd, stdin=stdin, **env)


def forked(*arguments: object, cwd: Path, stdin: bytes = b"", **env: str) -> Result:
    """Run the command in a fork of a warm process."""
    return run_process(warm(), *arguments, cwd=cwd, stdin=stdin, **env)


def run_process(
    command: list[str], *arguments: object, cwd: Path, stdin: bytes, **env: str
) -> Result:
    ended = subprocess.run(
        [*command, *map(str, arguments)],
        cwd=cwd,
        env=environment(**env),
        input=stdin,
        capture_output=True,
        timeout=scaled(60),
        check=False,
    )
    out, err = ended.stdout.decode(), ended.stderr.decode()
    assert "Traceback" not in err
    return Result(ended.returncode, out, err)


class Shop:
    """A database with a queue, and calls that bring a message into each state."""

    def __init__(self, path: Path, queue: str = "orders") -> None:
        self.path = path
        self.dq = DurableQ(path)
        self.queue = self.dq.queue(queue, max_receives=1)

    @property
    def dead(self) -> str:
        return f"{self.queue.name}-dlq"

    @property
    def store(self) -> Any:
        return self.dq.store

    def bodies(self) -> list[Any]:
        return [json.loads(message.body) for message in self.store.peek(self.queue.name, 1000)]

    def dead_ids(self) -> list[str]:
        return [message.id for message in self.store.peek(self.dead, 1000)]

    def bury(self, body: Any = "b", error: BaseException | str = "boom", **options: Any) -> str:
        """Send a message and bury it; return its id."""
        message_id = self.queue.send(body, **options)
        (delivery,) = self.queue.receive()
        delivery.fail(error)
        return message_id

    def complete(self, body: Any = "b", result: Any = None, **options: Any) -> str:
        """Send a message and complete it; return its id."""
        message_id = self.queue.send(body, **options)
        (delivery,) = self.queue.receive()
        delivery.complete(result)
        return message_id
