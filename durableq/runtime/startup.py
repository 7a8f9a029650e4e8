"""Signals that arrive while the `durableq` command starts.

Until a command installs handlers, SIGHUP and SIGTERM kill it; imports alone take a quarter of a
second. So importing this module, the package's first import, postpones signals where the process is
the command, and the command line calls `release` once it knows which command is to run.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Final

from durableq.runtime.signals import has_terminal

COMMAND: Final = "durableq"
#: Commands that obey signals in their own way once they listen.
LONG_RUNNING: Final = frozenset({"work", "recover"})
_POSTPONED: Final = frozenset({signal.SIGHUP, signal.SIGTERM, signal.SIGINT})

_is_postponing = False
_is_starting = False


def release(command: str | None) -> None:
    """Deliver the postponed signals as this command takes them while it starts.

    SIGTERM and SIGINT end `work` and `recover` with 0: they hold nothing yet. SIGHUP, a wish for
    new code, is already fulfilled. Any other command is treated by its signals as usual.
    """
    global _is_postponing, _is_starting  # noqa: PLW0603 - a process has one start
    if not _is_postponing:
        return
    _is_postponing = False
    if command in LONG_RUNNING:
        _is_starting = True
        end = _end_if_starting
        handlers: dict[signal.Signals, Callable[[int, FrameType | None], None]] = {
            signal.SIGTERM: end,
            signal.SIGINT: end,
            signal.SIGHUP: _hang_up(end),
        }
        for number, handler in handlers.items():
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, a background job
                signal.signal(number, handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _POSTPONED)


def finish() -> None:
    """Record that the command handles signals itself from now on, also at its end."""
    global _is_starting  # noqa: PLW0603
    _is_starting = False


def _is_command() -> bool:
    """Return whether this process runs `durableq` or `python -m durableq`, which call `release`."""
    if sys.argv[:1] == ["-m"]:  # the package is imported before its __main__
        at = sys.orig_argv.index("-m") if "-m" in sys.orig_argv else len(sys.orig_argv)
        return sys.orig_argv[at + 1 : at + 2] == [COMMAND]
    if not sys.argv or os.path.basename(sys.argv[0]) != COMMAND:
        return False
    try:
        with open(sys.argv[0], "rb") as script:  # a script of that name may be another program
            return b"from durableq.cli import main" in script.read(4096)
    except OSError:
        return False


def _end_if_starting(_number: int, _frame: FrameType | None) -> None:
    if _is_starting:
        # At once: an import may wait forever, or treat SystemExit as its own failure.
        os._exit(0)


def _hang_up(end: Callable[[int, FrameType | None], None]) -> Callable[..., None]:
    had_terminal = has_terminal()

    def on_hang_up(number: int, frame: FrameType | None) -> None:
        if had_terminal and not has_terminal():
            end(number, frame)

    return on_hang_up


if _is_command():
    _is_postponing = True
    signal.pthread_sigmask(signal.SIG_BLOCK, _POSTPONED)
