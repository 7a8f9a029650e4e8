"""The statements, prepares and Python calls of one operation on a SQLite file."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Final

import pytest

from durableq import DurableQ
from durableq.engines.sqlite import open_files
from durableq.engines.sqlite.driver import driver
from durableq.engines.sqlite.store import SQLStore
from scripts.count_calls import ROOT
from tests.support import observing_calls

#: A new authorizer lets the driver prepare each statement again, at its next execution.
WARM_ROUNDS: Final = 2


@dataclass
class Spent:
    """The costs of one operation that do not depend on the machine or on its load.

    BEGIN, COMMIT and the check of the revision are among the statements. A statement for many rows
    counts once for each row, as SQLite runs it.
    """

    statements: list[str] = field(default_factory=list)
    #: The actions of prepares, as SQLite names them to an authorizer; empty if it prepared nothing.
    prepares: list[tuple[Any, ...]] = field(default_factory=list)
    #: Calls of functions of durableq, as (file, function).
    calls: list[tuple[str, str]] = field(default_factory=list)

    def authorize(self, *action: Any) -> int:
        """Note a part of a prepare, and allow it."""
        self.prepares.append(action)
        return driver.SQLITE_OK

    def enter(self, frame: FrameType, event: str, _: object) -> None:
        """Note a call; for sys.setprofile."""
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(ROOT):
            self.calls.append((code.co_filename.removeprefix(ROOT), code.co_name))


def spent(dq: DurableQ, operation: Callable[[], object]) -> Spent:
    """Run an operation several times, in this thread, and return the costs of the last time.

    Args:
        dq: an application on a SQLite file.
        operation: one that can be repeated, with the same statements each time.
    """
    store = dq.store
    assert isinstance(store, SQLStore)
    raw: Any = store._database.session().raw
    found = Spent()
    raw.set_authorizer(found.authorize)
    patch = pytest.MonkeyPatch()
    # Files that earlier tests of this process left open would lengthen the way.
    patch.setattr(open_files, "are_several_open", False)
    try:
        for _ in range(WARM_ROUNDS):
            operation()
        found.prepares.clear()
        raw.set_trace_callback(found.statements.append)
        try:
            with observing_calls():
                sys.setprofile(found.enter)
                operation()
        finally:
            raw.set_trace_callback(None)
    finally:
        patch.undo()
        raw.set_authorizer(None)
    return found
