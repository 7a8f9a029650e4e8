"""A process of the benchmark that answers lines with lines."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Self

from durableq.model.errors import DurableQError


class PipedProcess:
    """A Python process with pipes; it ends at the end of the `with` block.

    It has a process group of its own: Ctrl-C in the terminal reaches the benchmark alone, which
    ends it. It stays in the session, and so in its share of the processors.

    Args:
        name: names it in errors.
        arguments: of the Python interpreter.
        environment: variables to add to those of this process.
    """

    def __init__(
        self, name: str, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [sys.executable, *arguments],
            env={**os.environ, **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            process_group=0,
        )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def tell(self, line: str = "") -> None:
        """Send it a line; `answer` reports a process that has ended."""
        with suppress(BrokenPipeError):
            print(line, file=self._process.stdin, flush=True)

    def answer(self) -> str:
        """Return its next line.

        Raises:
            DurableQError: it has ended.
        """
        line = "" if self._process.stdout is None else self._process.stdout.readline()
        if not line:
            raise DurableQError(f"The process of {self.name} ended with {self._process.wait()}.")
        return line

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        with suppress(BrokenPipeError):  # a line that it has not read
            self._process.communicate()
