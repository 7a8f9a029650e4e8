"""A warm Python process that forks for each run of a module: `python -m tests.warm IMPORT...`.

Starting Python and importing durableq and pytest costs a second of CPU, a fork a hundredth of one.
The fork runs the module as `python -m` does, and ends as a process of its own.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import select
import signal
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).parents[1]


class WarmProcess:
    """A process that has imported modules, and runs others in forks of itself.

    Args:
        imports: the modules to import before the first fork.
        environment: the variables of the process and of every run.
    """

    def __init__(self, *imports: str, **environment: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.warm", *imports],
            cwd=ROOT,
            env=os.environ | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(
        self, module: str, *arguments: str, seconds: float, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a module in a fork, with more variables in its environment; return how it ended.

        Raises:
            subprocess.TimeoutExpired: it ran for longer than `seconds`, and was killed.
        """
        with TemporaryDirectory() as folder:
            out, err = Path(folder, "out"), Path(folder, "err")
            request = [module, arguments, environment, str(out), str(err)]
            pid = self._ask(request)
            assert self._process.stdout is not None
            if not select.select([self._process.stdout], [], [], seconds)[0]:
                os.kill(pid, signal.SIGKILL)
                self._answer()
                raise subprocess.TimeoutExpired([module, *arguments], seconds, out.read_text())
            code = self._answer()
            said = (out.read_text(), err.read_text())
            return subprocess.CompletedProcess([module, *arguments], code, *said)

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=60)

    def _ask(self, request: list[Any]) -> int:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> int:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the warm process has ended"
        return int(line)


def become(
    module: str, arguments: list[str], environment: dict[str, str], out: str, err: str
) -> None:
    """Run a module in this process, a fork, with its own streams."""
    for path, flags, descriptor in (
        (os.devnull, os.O_RDONLY, 0),
        (out, os.O_WRONLY | os.O_CREAT, 1),
        (err, os.O_WRONLY | os.O_CREAT, 2),
    ):
        opened = os.open(path, flags, 0o600)
        os.dup2(opened, descriptor)
        os.close(opened)
    os.environ.update(environment)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def main() -> None:
    """Serve the requests of stdin: answer each with the fork's pid, then with its exit code."""
    for name in sys.argv[1:]:
        importlib.import_module(name)
    while line := sys.stdin.buffer.raw.readline():  # type: ignore[union-attr]
        if (child := os.fork()) == 0:
            become(*json.loads(line))
            return
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
