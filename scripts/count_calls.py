"""Count the Python calls that an operation takes through durableq's own code.

    python -m scripts.count_calls [-v] [--json]

Calls and files are counted to the first statement of the operation, to the statement that changes
the message, and in all. BEGIN, COMMIT and the check of the revision are no statements of an
operation. The counts are the same in each run. -v lists the calls in order.
"""

from __future__ import annotations

import argparse
import gc
import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any, TypeVar

import durableq
from durableq import DurableQ

ROOT = f"{Path(durableq.__file__).parent}/"
TABLES = re.compile(r"durableq_(?!version|meta)\w+")
CHANGES = re.compile(r"\s*(?:INSERT INTO|UPDATE|DELETE FROM) durableq_message\b")

T = TypeVar("T")


@dataclass
class Calls:
    """The calls of one operation, in order, as (file, function)."""

    calls: list[tuple[str, str]] = field(default_factory=list)
    #: Number of calls before the first statement, and before the one that changes the message.
    to_first: int | None = None
    to_change: int | None = None

    def enter(self, frame: FrameType, event: str, _: object) -> None:
        """Note a call; for sys.setprofile."""
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(ROOT):
            name = getattr(code, "co_qualname", code.co_name)
            self.calls.append((code.co_filename.removeprefix(ROOT), name))

    def execute(self, sql: str) -> None:
        """Note a statement; for the driver's trace callback."""
        if self.to_first is None and TABLES.search(sql):
            self.to_first = len(self.calls)
        if self.to_change is None and CHANGES.match(sql):
            self.to_change = len(self.calls)

    def counts(self, number: int | None = None) -> tuple[int, int]:
        """Return calls and files among the first `number` calls; None: among all."""
        part = self.calls[:number]
        return len(part), len({file for file, _ in part})


def count(dq: DurableQ, operation: Callable[[], T]) -> tuple[Calls, T]:
    """Run an operation on a file that is open, and return its calls and its answer."""
    found, store = Calls(), dq.store
    raw: Any = getattr(store, "_database").session().raw  # noqa: B009 - of the SQLite engine
    raw.set_trace_callback(found.execute)
    sys.setprofile(found.enter)
    try:
        answer = operation()
    finally:
        sys.setprofile(None)
        raw.set_trace_callback(None)
    return found, answer


def count_all(path: Path) -> dict[str, Calls]:
    """Return the calls of each operation, in a new file at this path."""
    with DurableQ(path) as dq:
        orders = dq.queue("orders", max_receives=1)
        body, found = {"order": 7}, {}
        for number in range(2):  # the first round opens the file and compiles the statements
            keys = iter((f"{number}-a", f"{number}-b"))
            found["send"], _ = count(dq, partial(orders.send, body, key=next(keys)))
            found["receive"], (message,) = count(dq, orders.receive)
            found["complete"], _ = count(dq, message.complete)
            orders.send(body, key=next(keys))
            (message,) = orders.receive()
            found["fail (buries)"], _ = count(dq, partial(message.fail, "declined"))
            found["receive (empty)"], _ = count(dq, orders.receive)
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Count the calls of durableq's operations.")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("-v", action="store_true", help="list the calls of each operation in order")
    given = parser.parse_args()
    gc.disable()  # a finalizer is no call of the operation in which garbage is collected
    with TemporaryDirectory() as folder:
        found = count_all(Path(folder) / "queue.db")
    columns = ("to the first statement", "to the change", "in all")
    table = {}
    for name, calls in found.items():
        ends = (calls.to_first, calls.to_change, len(calls.calls))
        table[name] = dict(zip(columns, (end and calls.counts(end) for end in ends), strict=True))
    if given.json:
        print(json.dumps(table))
        return
    print(f"{'calls / files':18}" + "".join(f"{column:>24}" for column in columns))
    for name, row in table.items():
        cells = (f"{cell[0]} / {cell[1]}" if cell else "-" for cell in row.values())
        print(f"{name:18}" + "".join(f"{cell:>24}" for cell in cells))
        if given.v:
            for file, function in found[name].calls:
                print(f"    {file:36} {function}")


if __name__ == "__main__":
    main()
