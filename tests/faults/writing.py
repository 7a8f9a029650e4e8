"""Writing with a failing disk, at each file operation in turn: `python -m tests.faults.writing`.

Runs with the shim preloaded, and prints one JSON line a fault. Each fault meets a forked child,
which goes on afterwards in the same thread, without the fault.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from durableq import DurableQ, DurableQError
from durableq.engines.sqlite.store import SQLStore
from tests.faults.sweep import FAIL, FOLDER, PLACE, TARGET, forked, shim

RELEASED = Path(__file__).parents[1] / "migrations" / "released"
ACTIONS = {"once": FAIL, "on": 5, "index": 6}
#: More than SQLite may keep in memory: pages go to the log before COMMIT.
LARGE = ["x" * 900] * 200
CACHE_PAGES = 20


def make() -> None:
    with DurableQ(TARGET) as dq:
        dq.queue("orders", retention=600)
        dq.queue("orders").send("first")


def opened() -> DurableQ:
    """Open the file without a fault, and write once: the faults meet the next call only."""
    dq = DurableQ(TARGET)
    dq.queue("orders").send("second")
    return dq


def opened_with_a_small_cache() -> DurableQ:
    dq = opened()
    store = dq.store
    assert isinstance(store, SQLStore)
    store._database.session().raw.execute(f"PRAGMA cache_size = {CACHE_PAGES}")
    return dq


def beside() -> DurableQ:
    """Let another process have the file open, with its log and the log's index, until this ends."""
    (opening, ready), (end, kept) = os.pipe(), os.pipe()
    if os.fork() == 0:
        os.close(kept)
        opened()
        os.write(ready, b".")
        os.read(end, 1)  # until this process has ended, and with it the other end
        os._exit(0)
    os.read(opening, 1)
    return DurableQ(TARGET)


def beside_after_another_thread() -> DurableQ:
    """As beside; a thread has opened the file before, and its connection has gone with it."""
    dq = beside()
    with ThreadPoolExecutor(1) as thread:
        thread.submit(dq.queue("orders").send, "second").result()
    return dq


def maintain(dq: DurableQ) -> None:
    store = dq.store
    assert isinstance(store, SQLStore)
    store.maintain()


def migrate(dq: DurableQ) -> None:
    dq.migrate()


CALLS: dict[str, tuple[Callable[[], DurableQ], Callable[[DurableQ], object]]] = {
    "open": (lambda: DurableQ(TARGET), lambda dq: dq.queue("orders").send("new")),
    "create": (lambda: DurableQ(TARGET), lambda dq: dq.queue("orders").send("new")),
    "beside": (beside, lambda dq: dq.queue("orders").send("new")),
    "later": (beside_after_another_thread, lambda dq: dq.queue("orders").send("new")),
    "thread": (opened, lambda dq: dq.queue("orders").send("new")),
    "send": (opened, lambda dq: dq.queue("orders").send("new")),
    "large": (opened_with_a_small_cache, lambda dq: dq.queue("orders").send_many(LARGE)),
    "maintain": (opened, maintain),
    "migrate": (lambda: DurableQ(TARGET), migrate),
}


def submit_here(act: Callable[..., Any], *arguments: Any) -> Future[Any]:
    """Run a call as an executor does, but in this thread."""
    future: Future[Any] = Future()
    future.set_result(act(*arguments))
    return future


def with_fault(call: str, action: int, nth: int, error: int) -> dict[str, Any]:
    """Make one call with a fault, then send once more without; return the answers and the rows."""
    begin, act = CALLS[call]
    dq = begin()
    library = shim()
    library.fault_arm(os.fsencode(PLACE), action, nth, error)
    told: dict[str, Any] = {"answer": "done", "says": "", "ours": True}
    run = ThreadPoolExecutor(1).submit if call == "thread" else submit_here
    try:
        run(act, dq).result()
    except Exception as raised:  # noqa: BLE001 - reported
        ours = isinstance(raised, DurableQError)
        told = {"answer": type(raised).__name__, "says": str(raised), "ours": ours}
    operations = library.fault_operations().decode().splitlines()
    library.fault_arm(b"", 0, 0, 0)
    if call == "migrate":
        dq.migrate()
    told["operation"] = operations[nth - 1] if 0 < nth <= len(operations) else ""
    told["operations"] = len(operations)
    try:
        run(dq.queue("orders").send, "after").result()
        told["next"] = "done"
    except DurableQError as raised:
        told["next"] = f"{type(raised).__name__}: {raised}"
    with dq.engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT body FROM durableq_message").fetchall()
        told["integrity"] = connection.exec_driver_sql("PRAGMA integrity_check").scalar()
    told["new"] = sum(body == '"new"' for (body,) in rows)
    told["large"] = sum(len(body) > 900 for (body,) in rows)
    return told


def main(call: str, error: str, action: int) -> None:
    template = FOLDER / "template"
    PLACE.mkdir()
    if call == "migrate":
        shutil.copy(RELEASED / "0003.db", TARGET)
    elif call != "create":
        forked(make)
    PLACE.rename(template)
    shutil.copytree(template, PLACE)
    counting = action if action == ACTIONS["index"] else 0
    number = forked(partial(with_fault, call, counting, 0, 0))["operations"]
    step = max(1, number // (6 if call == "large" else 15))
    for nth in range(1, number + 1, step):
        shutil.rmtree(PLACE)
        shutil.copytree(template, PLACE)
        answer = forked(partial(with_fault, call, action, nth, getattr(errno, error)))
        print(json.dumps(answer if isinstance(answer, dict) else {"answer": answer}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[3], ACTIONS[sys.argv[4]])
