"""Start, watch and signal real processes. Their output is read from files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple

import psutil

from durableq.worker.options import WorkerOptions
from tests.process.app import APP
from tests.support import scaled, wait_for

ROOT = Path(__file__).parents[2]
OTHER_HOST = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
PATH = [
    *filter(None, [os.environ.get("PYTHONPATH")]),
    str(ROOT),
]  # the folder of a planted bug is first


class Child:
    """A process whose stdout and stderr go to files."""

    def __init__(
        self,
        command: list[str],
        out: Path,
        stdin: int | IO[bytes] | None,
        *,
        cwd: Path = ROOT,
        **environment: str,
    ) -> None:
        self._out = out
        self._err = out.with_suffix(".err")
        self.orphans: list[psutil.Process] = []
        with self._out.open("wb") as stdout, self._err.open("wb") as stderr:
            self.process = subprocess.Popen(
                command,
                cwd=cwd,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(PATH)} | environment,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def said(self) -> list[str]:
        """The whole lines it printed so far."""
        return self._out.read_text().rpartition("\n")[0].splitlines()

    @property
    def complaints(self) -> str:
        """Its stderr so far."""
        return self._err.read_text()

    def wait_until(self, fact: Callable[[], object], what: str) -> None:
        """Wait for a fact, or fail at once if the process ends before it."""

        def seen() -> bool:
            if not (ended := self.process.poll() is not None):
                return bool(fact())
            assert fact(), f"it ended before {what}: {self.said} {self.complaints}"
            return ended

        wait_for(seen, seconds=30, what=what)

    def wait_line(self, line: str, *, times: int = 1) -> None:
        self.wait_until(lambda: self.said.count(line) >= times, f"{line!r} from {self.said}")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """Kill and reap it; remember the processes that it leaves behind."""
        self.orphans += self.family
        self.process.kill()
        self.process.wait(scaled(30))

    def end(self) -> int:
        """Wait for its end and return the exit code."""
        try:
            return self.process.wait(scaled(40))
        except subprocess.TimeoutExpired:
            raise AssertionError(f"It does not end: {self.said} {self.complaints}") from None

    @property
    def family(self) -> list[psutil.Process]:
        """The processes it started that still run."""
        try:
            found = psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        return [process for process in found if runs(process)]


def runs(process: psutil.Process) -> bool:
    """Return whether a process runs, and is no zombie."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


class Said(NamedTuple):
    """A line of `durableq work --json`."""

    event: str
    text: str = ""
    worker: str = ""
    pid: int = 0


class Supervisor(Child):
    """A `durableq work --json`, and its events so far."""

    def told(self, *events: str) -> list[Said]:
        """Return its events in order; only these kinds, if any are named."""
        lines = [json.loads(line) for line in self.said]
        told = [Said(**{name: one[name] for name in Said._fields if name in one}) for one in lines]
        return [one for one in told if not events or one.event in events]

    def wait_event(self, event: str, *, times: int = 1) -> Said:
        """Wait for the event to happen N times, and return the last of them."""
        self.wait_until(lambda: len(self.told(event)) >= times, f"{event}, {times} times")
        return self.told(event)[times - 1]

    def close_terminal(self) -> None:
        """Close the terminal it was started in."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def worker(self, pid: int) -> psutil.Process:
        """One of its workers."""
        return next(process for process in self.family if process.pid == pid)


class Recoverer(Child):
    """A `durableq recover --json`, and its events so far."""

    def told(self, event: str) -> list[dict[str, Any]]:
        """Return its events of this kind, in order."""
        lines = [json.loads(line) for line in self.said]
        return [line for line in lines if line["event"] == event]

    @property
    def phases(self) -> list[str]:
        """The phases of its breaker, in order."""
        return [change["phase"] for change in self.told("breaker")]


class Nursery:
    """The processes that a test starts; none outlives the test."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._children: list[Child] = []

    def start(self, verb: str, *arguments: object, stdin: int | None = None) -> Child:
        """Start a verb of tests.process.children."""
        command = [sys.executable, "-m", "tests.process.children", verb, *map(str, arguments)]
        return self._start(command, stdin)

    def worker(self, db: Path, *queues: str, app: str = APP, **more: Any) -> Child:
        """Start a worker that has no supervisor, with more options of WorkerOptions."""
        options = WorkerOptions(app, str(db), f"worker{len(self._children)}", queues, **more)
        return self._start([sys.executable, "-m", "durableq.worker", options.to_json()], None)

    def work(self, *arguments: object, cwd: Path = ROOT, **environment: str) -> Child:
        """Start `durableq work`."""
        command = [sys.executable, "-m", "durableq", "work", *map(str, arguments)]
        return self._start(command, None, cwd=cwd, **environment)

    def run(
        self, *command: str, cwd: Path = ROOT, stdin: int | None = None, **environment: str
    ) -> Child:
        """Start any command."""
        return self._start(list(command), stdin, cwd=cwd, **environment)

    def recover(self, *arguments: object, cwd: Path = ROOT) -> Recoverer:
        """Start `durableq recover --json`."""
        command = [sys.executable, "-m", "durableq", "recover", "--json", *map(str, arguments)]
        out = self._folder / f"child-{len(self._children)}.out"
        child = Recoverer(command, out, subprocess.DEVNULL, cwd=cwd)
        self._children.append(child)
        return child

    def fleet(
        self,
        db: Path | str,
        *,
        app: str,
        cwd: Path = ROOT,
        drain: bool = False,
        host: str = "",
        network: str = "",
        **options: object,
    ) -> Supervisor:
        """Start `durableq work --json`: `grace=2` gives --grace=2.

        With a host's id it runs in a pid namespace, which is killed with this child: to others, a
        machine that fails. `network` is the name of a network namespace for it.
        """
        words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
        words += ["--drain"] if drain else []
        command = ["durableq", "work", "--json", f"--db={db}", f"--app={app}", *words]
        out = self._folder / f"child-{len(self._children)}.out"
        inside = ["ip", "netns", "exec", network] if network else []
        words = [*inside, *(OTHER_HOST if host else ()), sys.executable, "-m", *command]
        environment = {"DURABLEQ_HOST_ID": host} if host else {}
        child = Supervisor(words, out, subprocess.DEVNULL, cwd=cwd, **environment)
        self._children.append(child)
        return child

    def fleet_in_terminal(self, db: Path, *words: str, app: str) -> Supervisor:
        """Start `durableq work --json` in a terminal that goes when its stdin is closed."""
        verb = [sys.executable, "-m", "tests.process.children", "work_in_terminal", *words]
        out = self._folder / f"child-{len(self._children)}.out"
        child = Supervisor([*verb, f"--db={db}", f"--app={app}"], out, subprocess.PIPE)
        self._children.append(child)
        return child

    def _start(
        self, command: list[str], stdin: int | None, *, cwd: Path = ROOT, **environment: str
    ) -> Child:
        out = self._folder / f"child-{len(self._children)}.out"
        source = subprocess.DEVNULL if stdin is None else stdin
        child = Child(command, out, source, cwd=cwd, **environment)
        self._children.append(child)
        return child

    def close(self) -> None:
        for child in self._children:
            child.kill()
        for process in [process for child in self._children for process in child.orphans]:
            if runs(process):
                os.kill(process.pid, signal.SIGKILL)
