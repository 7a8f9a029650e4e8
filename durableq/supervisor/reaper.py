"""The duties of a container's first process: to reap orphans that it did not start."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from typing import Final

_PR_GET_CHILD_SUBREAPER: Final = 37


def adopts() -> bool:
    """Return whether orphans become children of this process: PID 1, or a subreaper (Linux)."""
    if os.getpid() == 1:
        return True
    prctl = getattr(ctypes.CDLL(None, use_errno=True), "prctl", None)
    if prctl is None:
        return False
    found = ctypes.c_int(0)
    none = ctypes.c_ulong(0)
    return bool(
        prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(found), none, none, none) == 0 and found.value
    )


def reap(is_worker: Callable[[int], bool]) -> int:
    """Reap the ended children that are no workers; return how many.

    Workers are left to their own wait: `waitid` does not reap, and the loop stops at the first
    worker. Call again after that worker's end was handled.
    """
    reaped = 0
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None or is_worker(ended.si_pid):
                return reaped
            os.waitpid(ended.si_pid, os.WNOHANG)
        except ChildProcessError:
            return reaped
        reaped += 1
