"""Import this module to run the command once, so that its forks import nothing more."""

import threading
from contextlib import chdir, redirect_stderr, redirect_stdout
from io import StringIO
from tempfile import TemporaryDirectory

from durableq.cli import commands, main

assert all(commands.tree().commands.values())  # each is imported
out = StringIO()
with TemporaryDirectory() as folder, chdir(folder), redirect_stdout(out), redirect_stderr(out):
    for line in ("produce --count 2 --json", "status", "queue list --json", "show 1"):
        assert main(line.split()) == 0
    assert threading.active_count() == 1  # a fork takes no other thread along
