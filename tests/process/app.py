"""The application that the workers of these tests run. A message's body names the act to do.

Its effect is a row of the table `effect`, which has no constraints: a double effect would show.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from tempfile import gettempdir
from typing import Any, NamedTuple

from durableq import DeadLetter, Decision, Delivery, Discard, DurableQ, Requeue

APP = "tests.process.app:dq"
EFFECT = "CREATE TABLE effect (key TEXT NOT NULL, pid INTEGER NOT NULL)"
RECORD_EFFECT = "INSERT INTO effect VALUES (:key, :pid)"


class Line(NamedTuple):
    """A line of a process in the ledger."""

    word: str
    of: str
    pid: int


def place_of(db: str | Path) -> Path:
    """Return the file of a database, or a path that stands for a schema of PostgreSQL."""
    _, is_postgres, schema = str(db).rpartition("schema=")
    return Path(gettempdir(), f"durableq-{schema}.pg") if is_postgres else Path(db)


class Ledger:
    """A file beside the database to which processes append, one write a line."""

    def __init__(self, db: str | Path) -> None:
        beside = place_of(db)
        self.path = beside.with_suffix(".ledger")
        self.breaker = beside.with_suffix(".open")
        self.pipe = beside.with_suffix(".pipe")

    def note(self, word: str, of: str) -> None:
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(handle, f"{word} {of} {os.getpid()}\n".encode())
        os.close(handle)

    def lines(self, *words: str) -> list[Line]:
        text = self.path.read_text() if self.path.exists() else ""
        split = [line.split() for line in text.rpartition("\n")[0].splitlines()]
        return [Line(w, of, int(pid)) for w, of, pid in split if not words or w in words]

    def pids(self, word: str) -> list[int]:
        return [line.pid for line in self.lines(word)]

    def open_gate(self) -> None:
        """Let the handlers that wait at the gate go on."""
        self.breaker.touch()

    def open_pipe(self) -> None:
        """Let the handler that waits for the pipe go on."""
        handle = os.open(self.pipe, os.O_WRONLY)
        os.write(handle, b".")
        os.close(handle)

    def wait_at_gate(self) -> None:
        from tests.support import wait_for  # brings pytest, which most workers can do without

        wait_for(self.breaker.exists, seconds=60, what="the gate to open")

    def first(self, name: str) -> bool:
        """Return whether this is the first call with this name, of all processes."""
        try:
            self.path.with_suffix(f".{name}").touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


dq = DurableQ()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@dq.handler("orders")
@dq.handler("bulk", prefetch=5)
def charge(message: Delivery) -> Any:
    ledger = Ledger(dq.url)
    key = message.key or message.id
    ledger.note("invoke", key)
    do = message.body.get("do")
    if do == "wait" or (do == "wait once" and message.receive_count == 1):
        ledger.wait_at_gate()
    if do == "die before" and ledger.first(f"{key}-{do}"):
        die()
    with message.transaction() as tx:
        tx.execute(RECORD_EFFECT, {"key": key, "pid": os.getpid()})
        if do == "die inside" and ledger.first(f"{key}-{do}"):
            die()
        tx.result = {"charged": key}
    if do == "die after" and ledger.first(f"{key}-{do}"):
        die()
    ledger.note("done", key)
    return None


@dq.recovery("orders")
def recover(dead_letter: DeadLetter) -> Decision:
    """Requeue even ones, discard odd ones; note each decision."""
    Ledger(dq.url).note("judged", dead_letter.id)
    return Requeue("even") if int(dead_letter.id) % 2 == 0 else Discard("odd")
