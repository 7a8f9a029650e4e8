"""The command `durableq dashboard`, as a process."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cli.console import COMMAND, environment


@contextmanager
def serving(db: Path, *arguments: str) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """Run the command at a free port, and yield its URL."""
    command = [*COMMAND, "dashboard", "--db", str(db), "--port", "0", *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment()) as run:
        assert run.stdout is not None
        try:
            yield run.stdout.readline().strip(), run
        finally:
            run.kill()
