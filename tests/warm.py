"""A warm Python process that forks for each run of a module.

Starting Python and importing durableq and pytest costs a second of CPU, a fork a hundredth of one.
The fork runs the module as `python -m` does, and ends as a process of its own.
"""

from __future__ import annotations

import gc
import importlib
import io
import json
import math
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from tests import warm_client

ROOT = Path(__file__).parents[1]
LONGEST_REQUEST = 1 << 20


class HasFileno(Protocol):
    """A file, a socket: anything with a descriptor."""

    def fileno(self) -> int:
        """Return the descriptor."""


class WarmProcess:
    """A process that has imported modules, and runs others in forks of itself.

    Args:
        imports: the modules to import before the first fork.
        environment: the variables of the process and of every run.
    """

    def __init__(self, *imports: str, **environment: str) -> None:
        self._environment = os.environ | environment
        self._folder = TemporaryDirectory(prefix="durableq-warm-")
        self._address = str(Path(self._folder.name, "socket"))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.warm", self._address, *imports],
            cwd=ROOT,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline(), "the warm process has ended"

    def command(self, module: str) -> list[str]:
        """Return a command line that runs a module in a fork; arguments may follow."""
        client = [sys.executable, "-I", "-S", warm_client.__file__]
        return [*client, self._address, module]

    def run(
        self,
        module: str,
        *arguments: str,
        seconds: float,
        folder: Path = ROOT,
        **environment: str,
    ) -> subprocess.CompletedProcess[str]:
        """Run a module in a fork, with more variables in its environment; return how it ended.

        Args:
            module: as `python -m` finds it in the folder.
            arguments: its arguments.
            seconds: the longest that it may run.
            folder: the directory that it runs in.
            environment: the further variables.

        Raises:
            subprocess.TimeoutExpired: it ran for longer than `seconds`, and was killed.
        """
        with (
            open(os.devnull) as nothing,
            TemporaryDirectory() as said,
            Path(said, "out").open("w+") as out,
            Path(said, "err").open("w+") as err,
        ):
            pid, connection = warm_client.request(
                self._address,
                {number: file.fileno() for number, file in enumerate((nothing, out, err))},
                module=module,
                arguments=arguments,
                folder=str(folder),
                environment=self._environment | environment,
            )
            with connection:
                if not readable(connection, seconds=seconds):
                    os.kill(pid, signal.SIGKILL)
                    warm_client.read_number(connection)
                    out.seek(0)
                    raise subprocess.TimeoutExpired([module, *arguments], seconds, out.read())
                code = warm_client.read_number(connection)
            out.seek(0)
            err.seek(0)
            ended = [module, *arguments]
            return subprocess.CompletedProcess(ended, code, out.read(), err.read())

    @property
    def descriptors(self) -> set[int]:
        """The descriptors that are open as long as it runs."""
        streams = self._process.stdin, self._process.stdout
        return {stream.fileno() for stream in streams if stream is not None}

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=60)
        self._folder.cleanup()


def readable(*files: HasFileno, seconds: float | None = None) -> set[int]:
    """Wait for files to be readable, or at their end; return the descriptors of those that are.

    select() would not take the descriptors of a process that has more than 1,024.
    """
    poller = select.poll()
    for file in files:
        poller.register(file, select.POLLIN)
    ready = poller.poll(None if seconds is None else math.ceil(seconds * 1000))
    return {descriptor for descriptor, _ in ready}


def become(request: dict[str, Any], descriptors: list[int]) -> None:
    """Run a module in this process, a fork, with the streams that it was given."""
    given = dict(zip(request["streams"], descriptors, strict=True))
    for number in warm_client.STREAMS:
        if number in given:
            os.dup2(given[number], number)
            os.close(given[number])
        else:
            os.close(number)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    open_streams(bool(os.environ.get("PYTHONUNBUFFERED")))
    sys.path[0] = request["folder"]
    sys.argv = [request["module"], *request["arguments"]]
    runpy.run_module(request["module"], run_name="__main__", alter_sys=True)


def open_streams(unbuffered: bool) -> None:
    """Open the standard streams as Python does when it starts; a closed one is None."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = None
        if warm_client.is_open(number):
            mode, size = ("wb", 0 if unbuffered else -1) if number else ("rb", -1)
            is_line = number == 2 or unbuffered or os.isatty(number)
            stream = io.TextIOWrapper(
                open(number, mode, size, closefd=False),  # noqa: SIM115 - stays open
                encoding="utf-8",
                errors="backslashreplace" if number == 2 else "strict",
                newline="\n" if number else None,
                line_buffering=bool(number and is_line),
                write_through=bool(number and unbuffered),
            )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def attend(connection: socket.socket) -> None:
    """Fork for one request: answer it with the fork's pid, then with its exit code."""
    _, descriptors, _, _ = socket.recv_fds(connection, 1, len(warm_client.STREAMS))
    with connection.makefile("rb") as lines:
        request = json.loads(lines.readline(LONGEST_REQUEST))
    if (child := os.fork()) == 0:
        connection.close()
        become(request, descriptors)
        return
    for descriptor in descriptors:
        os.close(descriptor)
    connection.sendall(b"%d\n" % child)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    connection.sendall(b"%d\n" % code)
    os._exit(0)


def serve(listener: socket.socket) -> None:
    """Fork for each connection, until stdin ends."""
    children: set[int] = set()
    while sys.stdin.fileno() not in readable(sys.stdin, listener):
        connection, _ = listener.accept()
        if (child := os.fork()) == 0:
            listener.close()
            attend(connection)
            return
        connection.close()
        children = {child, *(pid for pid in children if os.waitpid(pid, os.WNOHANG)[0] == 0)}


def main() -> None:
    """Import the modules that the command line names, and serve at its address."""
    address, *imports = sys.argv[1:]
    for name in imports:
        importlib.import_module(name)
    gc.freeze()  # no collection of a fork looks at the modules again
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(16)
        print("ready", flush=True)
        serve(listener)


if __name__ == "__main__":
    main()
