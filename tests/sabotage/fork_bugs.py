"""The bug to plant where a process is forked."""

from __future__ import annotations

import os
from typing import Any

from durableq.engines.sqlite import database, open_transaction


def let_a_forked_child_commit() -> None:
    """Without the two checks: at each use of the transaction, and at its end."""
    session: Any = database.Session
    handle: Any = open_transaction.OpenTransaction
    leave, check = session.__exit__, handle._check

    def leave_as_the_parent(self: Any, *error: Any) -> None:
        self.pid = os.getpid()
        leave(self, *error)

    def check_as_the_parent(self: Any) -> None:
        self._pid = os.getpid()
        check(self)

    session.__exit__, handle._check = leave_as_the_parent, check_as_the_parent
