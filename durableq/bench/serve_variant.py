"""`durableq serve` as the benchmark compares it: with small groups, or as on a slow disk.

Run as a script: the most operations of a commit, the milliseconds that each COMMIT takes longer,
and the arguments of `durableq`. Nothing of this is in the product: the limits of groups are
constants of the module `committing`, and the wait is put before COMMIT, where the process holds the
write lock.
"""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from typing import Any
from unittest import mock

from durableq.cli import main
from durableq.client import committing
from durableq.engines.sqlite.database import Database


def run(most: int, commit_ms: int, arguments: list[str]) -> int:
    """Run a command of `durableq`; return its exit status.

    Args:
        most: operations of a commit; 0: as many as by itself.
        commit_ms: the time that each COMMIT takes longer.
        arguments: of `durableq`.
    """
    with ExitStack() as changed:
        if most:
            limits = mock.patch.multiple(committing, MAX_GROUP=most, LEAST_GROUP=most)
            changed.enter_context(limits)
        if commit_ms:
            changed.enter_context(mock.patch.object(Database, "_commit", _slow(commit_ms)))
        return main(arguments)


def _slow(commit_ms: int) -> Any:
    commit = Database._commit

    def commit_slowly(database: Database, session: Any) -> None:
        time.sleep(commit_ms / 1000)
        commit(database, session)

    return commit_slowly


if __name__ == "__main__":
    sys.exit(run(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
