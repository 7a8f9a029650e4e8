"""The command line: parse the arguments, open the database, make one call, print the result.

stdout is data, stderr is commentary. A command imports its libraries when it runs, and `durableq
--version` imports nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from durableq import __version__
from durableq.runtime import startup


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; print every error as one sentence."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        if shell := os.environ.get("_DURABLEQ_COMPLETE"):  # the script of a shell asks
            from durableq.cli import completion

            return completion.answer(shell, words)
        if words == ["--version"] and _is_version_printed():
            return 0
        from durableq.cli import commands

        return commands.main(words)
    finally:
        startup.release(None)


def _is_version_printed() -> bool:
    """Print the version; False if stdout does not take it, which the command then explains."""
    try:
        print(f"durableq {__version__}", flush=True)  # noqa: T201 - before `output` is imported
    except OSError:
        return False
    return True
