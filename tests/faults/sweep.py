"""One call, with a fault at each of its file operations in turn: `python -m tests.faults.sweep`.

Runs with the shim preloaded, and prints one JSON line a fault: its operation, the call's answer,
the state of the directory as a plain connection finds it, and the outcome of the commands after it.
Each call and each look is a forked child: this process itself never opens a database.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import importlib
import json
import logging
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from durableq import DurableQ
from durableq.admin import operations
from durableq.engines.sqlite import copy_marker
from durableq.engines.sqlite.driver import driver
from durableq.model.health import Level
from tests.faults.judging import MODE

for name in ("alembic.command", "durableq.engines.sqlite.backup", "durableq.engines.sqlite.store"):
    importlib.import_module(name)  # so that no child does it

KILL, TEAR, FAIL, STOP = 1, 2, 3, 4
OLD, NEW = 3, 5
#: Operations that may fail because the disk is full.
NEED_ROOM = ("create", "write", "pwrite", "fsync", "link", "rename")
GARBAGE = b"not a database any more " * 400
FOLDER = Path(sys.argv[2]) if len(sys.argv) > 2 else Path()
PLACE = FOLDER / "place"
TARGET, MONDAY, COPY = PLACE / "shop.db", FOLDER / "monday.db", PLACE / "copy.db"
ANSWER = FOLDER / "answer.json"


def forked(act: Callable[[], Any]) -> Any:
    """Run a function in a child; return its answer, or "killed"."""
    ANSWER.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        try:
            answer = act()
        except BaseException as error:  # noqa: BLE001 - reported
            answer = f"{type(error).__name__}: {error}"
        ANSWER.write_text(json.dumps(answer))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return json.loads(ANSWER.read_text()) if ANSWER.exists() else f"killed by {status}"


@contextlib.contextmanager
def served(act: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """Fork a child that calls `act` for each request; give the function that asks it.

    A fork costs three times as much as a look, so the looks share one.
    """
    (asked, ask), (answered, answer) = os.pipe(), os.pipe()
    if (child := os.fork()) == 0:
        os.close(ask)
        with open(asked) as requests:
            for line in requests:
                try:
                    found = act(**json.loads(line))
                except BaseException as error:  # noqa: BLE001 - reported
                    found = f"{type(error).__name__}: {error}"
                os.write(answer, json.dumps(found).encode() + b"\n")
        os._exit(0)
    os.close(asked)
    os.close(answer)
    with open(answered) as answers:

        def call(**arguments: Any) -> Any:
            os.write(ask, json.dumps(arguments).encode() + b"\n")
            return json.loads(answers.readline())

        yield call
        os.close(ask)
        os.waitpid(child, 0)


# ---- the calls, and the directory that each begins with


def fill(path: Path, messages: int, *, in_log: int = 0) -> None:
    """Make a database; the last messages are answered, but only in its log when it is killed."""
    dq = DurableQ(path)
    queue = dq.queue("orders")
    queue.send_many(["x" * 300] * (messages - in_log))
    if in_log:
        dq.close()
        queue.send_many(["y" * 300] * in_log)
        os.kill(os.getpid(), signal.SIGKILL)
    queue.receive(2)
    dq.close()


def made_backup() -> None:
    fill(FOLDER / "source.db", NEW)
    operations.back_up(str(FOLDER / "source.db"), MONDAY)


def old_with_log() -> None:
    forked(lambda: fill(TARGET, OLD, in_log=2))
    TARGET.chmod(MODE)


def garbage_with_log() -> None:
    old_with_log()
    TARGET.write_bytes(GARBAGE)


def log_alone() -> None:
    old_with_log()
    TARGET.unlink()


def restore() -> str:
    operations.restore(MONDAY, str(TARGET))
    return "done"


def replace() -> str:
    operations.restore(MONDAY, str(TARGET), replace=True)
    return "done"


def back_up() -> str:
    operations.back_up(str(TARGET), COPY)
    return "done"


CALLS: dict[str, tuple[Callable[[], None], Callable[[], str]]] = {
    "restore": (lambda: None, restore),
    "restore_beside_a_log": (log_alone, restore),
    "replace": (old_with_log, replace),
    "replace_garbage": (garbage_with_log, replace),
    "back_up": (old_with_log, back_up),
}


# ---- faults


def shim() -> Any:
    library = ctypes.CDLL(os.environ["LD_PRELOAD"])
    library.fault_operations.restype = ctypes.c_char_p
    return library


def with_fault(call: Callable[[], str], action: int, nth: int, error: int) -> list[Any]:
    """Run a call with one fault; return its answer and its operations, one line each."""
    library = shim()
    library.fault_arm(os.fsencode(PLACE), action, nth, error)
    answer = attempt(call)
    operations = library.fault_operations().decode().splitlines()
    library.fault_arm(b"", 0, 0, 0)
    return [answer, operations]


def begin(template: Path) -> None:
    shutil.rmtree(PLACE, ignore_errors=True)
    shutil.copytree(template, PLACE)


def faults(call: str, kind: str, operations: list[str]) -> Iterator[tuple[int, int, int]]:
    """Yield the fault at each operation: the action, the operation's number, the error.

    All calls write their copy alike, under a name of its own. So one sweep of kills has faults at
    those operations, and one of errors at every fifth; the other sweeps leave them out. Situations
    that another fault has shown are left out too: those in the middle of a row of writes to the
    copy, and, for a kill or another process, those after an fsync, which changes no file.
    """
    every = {("restore", "kill"): 1, ("restore", "EIO"): 5}.get((call, kind), len(operations) + 1)
    around = zip(["", *operations], operations, [*operations[1:], ""], strict=False)
    for nth, (before, operation, after) in enumerate(around, 1):
        is_copy = ".partial" in operation
        if is_copy and (nth % every or (before == operation == after and nth % 8)):
            continue
        is_new = not before.startswith("fsync") or (every > 1 and ".partial" in before)
        if kind == "race" and is_new:
            yield STOP, nth, 0
        elif kind == "kill":
            if is_new:
                yield KILL, nth, 0
            if "write" in operation.split()[0]:
                yield TEAR, nth, 0
        elif kind != "race" and (kind != "ENOSPC" or operation.startswith(NEED_ROOM)):
            yield FAIL, nth, getattr(errno, kind)


# ---- the state after a fault


def state(path: Path) -> str:
    """Return which database is at a path, by a plain connection."""
    if not path.exists():
        return "none"
    if path.read_bytes() == GARBAGE:
        return "old"
    raw = driver.connect(f"file:{path}?mode=rw", uri=True, isolation_level=None)
    try:
        check = raw.execute("PRAGMA integrity_check").fetchall()
        messages, held, others = raw.execute(
            "SELECT total(body NOT LIKE '%raced%'), total(state = 1), "
            "total(body NOT IN (?, ?, '\"raced\"')) FROM durableq_message",
            (json.dumps("x" * 300), json.dumps("y" * 300)),
        ).fetchone()
        if others or check != [("ok",)] or (held and messages == NEW):
            return f"bad: {check} {messages} {held} {others}"
        return {OLD: "old", NEW: "new", 0: "empty"}.get(messages, f"bad: {messages} messages")
    finally:
        raw.close()


def plain_look(path: Path) -> str:
    """Return the state that another program would find, without touching the directory."""
    look = FOLDER / "look"
    shutil.rmtree(look, ignore_errors=True)
    look.mkdir()
    for end in ("", "-wal", "-journal"):
        if os.path.exists(f"{path}{end}"):
            shutil.copy(f"{path}{end}", look / f"x.db{end}")
    return state(look / "x.db")


def next_command(path: Path) -> dict[str, Any]:
    """Open the path with durableq; return the state of the database and the log lines."""
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("durableq").addHandler(handler)
    refused = attempt(partial(open_and_close, path))
    return {"said": said, "state": refused or state(path)}


def open_and_close(path: Path) -> None:
    """Open a file with durableq; its counters must reconcile with the rows that are there."""
    with DurableQ(path) as dq:
        faults = [
            finding for finding in operations.audit(dq.store) if finding.level is not Level.OK
        ]
        assert faults == [], faults


def attempt(act: Callable[[], Any]) -> Any:
    """Return an answer, or the error in words."""
    try:
        return act()
    except Exception as error:  # noqa: BLE001 - reported
        return f"{type(error).__name__}: {error}"


def is_noted(path: Path) -> bool:
    """Return whether a whole line is in the note beside a path."""
    note = Path(f"{path}.copying")
    whole, _, _ = note.read_bytes().rpartition(b"\n") if note.exists() else (b"", b"", b"")
    return any(line.startswith(b"{") and line.endswith(b"}") for line in whole.splitlines())


def look(call: str, *, again: bool = True) -> dict[str, Any]:
    """Look with a plain connection, then open the file with durableq, then restore once more."""
    path = COPY if call == "back_up" else TARGET
    seen: dict[str, Any] = {"noted": is_noted(path), "plain": attempt(partial(plain_look, path))}
    seen["next"] = next_command(path)
    if call == "back_up":
        return seen | {"source": attempt(partial(state, TARGET))}
    if not again:
        return seen
    seen["again"] = [attempt(replace), attempt(partial(state, TARGET))]
    seen["left"] = sorted(entry.name for entry in PLACE.iterdir())
    asides = [PLACE / name for name in seen["left"] if name[-1].isdigit()]
    return seen | {"aside": [attempt(partial(state, aside)) for aside in asides]}


# ---- another process between two steps


def unwarned_sender(release: int, answered: int) -> None:
    """Send as a process does that looked for a restore just before it began, and stays open."""
    copy_marker.recover = lambda *_, **__: None
    answers = []
    dq = DurableQ(f"sqlite:///{TARGET}?busy_timeout=0")
    for _ in range(2):
        try:
            answers.append(dq.queue("orders").send("raced"))
        except Exception as error:  # noqa: BLE001 - reported
            answers.append(f"{type(error).__name__}: {error}")
        os.write(answered, b".")
        os.read(release, 1)
    (FOLDER / "sender.json").write_text(json.dumps(answers))
    dq.close()


def raced(act: Callable[[], str], nth: int) -> dict[str, Any]:
    """Stop a call before one of its operations, let a sender send, go on; and send again."""
    caller = os.fork()
    if caller == 0:
        ANSWER.write_text(json.dumps(with_fault(act, STOP, nth, 0)))
        os._exit(0)
    os.waitpid(caller, os.WUNTRACED)
    (released, release), (answered, answer) = os.pipe(), os.pipe()
    sender = os.fork()
    if sender == 0:
        os.close(release)
        os.close(answered)
        unwarned_sender(released, answer)
        os._exit(0)
    os.close(answer)
    os.read(answered, 1)
    os.kill(caller, signal.SIGCONT)
    os.waitpid(caller, 0)
    ended = json.loads(ANSWER.read_text())[0]
    os.write(release, b".")
    os.read(answered, 1)
    os.close(release)
    os.waitpid(sender, 0)
    for descriptor in (released, answered):
        os.close(descriptor)
    sent = json.loads((FOLDER / "sender.json").read_text())
    found: dict[str, Any] = forked(after_race)
    return {"answer": ended, "sent": sent} | found


def after_race() -> dict[str, Any]:
    """Return the state of the path, and the raced messages there and in each file set aside."""
    places = [TARGET, *(name for name in PLACE.iterdir() if name.name[-1].isdigit())]
    raced = [raced_messages(path) for path in places if path.exists()]
    return {"state": state(TARGET), "raced": raced}


def raced_messages(path: Path) -> int:
    """Count the messages of the unwarned sender in a file."""
    raw = driver.connect(f"file:{path}?mode=rw", uri=True, isolation_level=None)
    with contextlib.closing(raw):
        question = "SELECT count(*) FROM durableq_message WHERE body LIKE '%raced%'"
        (number,) = raw.execute(question).fetchone()
        return int(number)


def main(call: str, kind: str) -> None:
    """Sweep one call with one kind of fault."""
    prepare, act = CALLS[call]
    forked(made_backup)
    PLACE.mkdir()
    prepare()
    template = FOLDER / "template"
    PLACE.rename(template)
    begin(template)
    answer, operations = forked(partial(with_fault, act, 0, 0, 0))
    assert answer == "done", answer
    with served(look) as looked:
        for action, nth, error in faults(call, kind, operations):
            begin(template)
            told: dict[str, Any] = {"fault": f"{nth} {operations[nth - 1]}"}
            if action == STOP:
                told |= raced(act, nth)
            else:
                ended = forked(partial(with_fault, act, action, nth, error))
                told |= {"answer": ended if isinstance(ended, str) else ended[0]}
                told |= looked(call=call)
            print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[3])
