"""Imported by a process under test: it stops for ever at its first commit of Django.

The file that HOLD names is made then, with the process's id; HOLD_AT is `before` or `after`.
"""

import os
import threading
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

_commit = BaseDatabaseWrapper.commit


def _hold() -> None:
    try:
        with open(os.environ["HOLD"], "x") as held:  # only the first one
            held.write(f"{os.getpid()}\n")
    except FileExistsError:
        return
    threading.Event().wait()


def _held_commit(self: Any) -> None:
    if os.environ["HOLD_AT"] == "before":
        _hold()
    _commit(self)
    if os.environ["HOLD_AT"] == "after":
        _hold()


BaseDatabaseWrapper.commit = _held_commit
