"""Waiting for the write lock: tickets are a courtesy, and no one depends on them."""

from __future__ import annotations

import fcntl
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from durableq import Busy, DurableQ, Queue
from durableq.engines.sqlite import write_lock
from durableq.engines.sqlite.ticket import DESCRIPTORS, Ticket
from durableq.runtime.waits import waited_seconds
from tests.engine import plain
from tests.support import wait_for

HOLD_TICKET = """
import fcntl, sys
log = open(sys.argv[1], "rb")
fcntl.flock(log, fcntl.LOCK_EX)
print("READY", flush=True)
sys.stdin.read()
"""
#: Its transaction waits for the write lock, so that it takes a ticket; then it forks.
FORK = """
import os, sys, threading, time
from durableq import DurableQ
from durableq.engines.sqlite.driver import driver

dq = DurableQ(sys.argv[1])
other = driver.connect(sys.argv[1], isolation_level=None, check_same_thread=False)
dq.queue("orders").info()
database = dq.store._database

def release():
    while database.lock.ticket.holder is None:
        time.sleep(0.001)
    other.rollback()

other.execute("BEGIN IMMEDIATE")
threading.Thread(target=release).start()
with database.write():
    pass
assert database.lock.is_contended
with database.write():
    if os.fork() == 0:
        print(os.getpid(), flush=True)
    time.sleep(600)
"""
HAMMER = """
import sys
from durableq import DurableQ
queue = DurableQ(f"sqlite:///{sys.argv[1]}?synchronous=normal").queue("orders")
for number in range(100_000):
    queue.send(number)
    if number == 200:
        print("READY", flush=True)
"""


#: Pauses of a single wait. None is under half a millisecond, so it has lasted half a second.
MOST_PAUSES = 1_000


@pytest.fixture
def database(dq: DurableQ, orders: Queue) -> Any:
    orders.info()
    store: Any = dq.store
    return store._database


@pytest.fixture
def lasting_contention(monkeypatch: pytest.MonkeyPatch) -> None:
    """Transactions take tickets until the end of the test: to start a process takes long."""
    monkeypatch.setattr(write_lock, "CONTENDED_SECONDS", 3600.0)


@contextmanager
def child(code: str, argument: object) -> Iterator[subprocess.Popen[str]]:
    """Run a program until the end of the block; it has printed a line by its beginning."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(argument)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def contend(database: Any, db: Path) -> None:
    """Let a write of this thread wait for the lock of another connection."""
    with plain.connection(db) as other:
        other.execute("BEGIN IMMEDIATE")
        waiting = threading.Thread(
            target=lambda: database.write().__enter__().__exit__(*[None] * 3)
        )
        waiting.start()
        wait_for(lambda: database.lock.ticket.holder is not None, what="a ticket")
        other.execute("ROLLBACK")
        waiting.join()
    assert database.lock.is_contended


def ticket_is_free(db: Path) -> bool:
    with closing(Ticket(db)) as ticket:
        return ticket.take("test")


def test_a_transaction_that_waited_gives_its_ticket_back(database: Any, db: Path) -> None:
    contend(database, db)
    assert ticket_is_free(db)
    with database.write() as tx:
        assert database.lock.ticket.holder is tx
        assert not ticket_is_free(db)
    assert ticket_is_free(db)
    with pytest.raises(ZeroDivisionError), database.write():
        _ = 1 / 0
    assert ticket_is_free(db)
    assert database.lock.ticket.holder is None


def test_a_ticket_is_given_back_when_its_wait_ends_in_vain(db: Path) -> None:
    with DurableQ(f"sqlite:///{db}?busy_timeout=0.2") as dq:
        orders = dq.queue("orders")
        orders.info()
        with plain.connection(db) as other, ThreadPoolExecutor(1) as pool:
            other.execute("BEGIN IMMEDIATE")
            assert isinstance(pool.submit(orders.send, 1).exception(), Busy)
            assert ticket_is_free(db)
            other.execute("ROLLBACK")
        assert orders.send(2)


def test_pauses_grow_until_a_wait_is_old_and_then_are_short(
    database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few questions while others write; many from the oldest waiter; few to a stopped holder."""
    now, pauses = 0.0, []

    def sleep(seconds: float) -> None:
        nonlocal now
        pauses.append((now, seconds))
        now += seconds

    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(random, "uniform", lambda _low, _high: 1.0)
    wait = write_lock._Wait(database.file, 30.0)
    while now < 4.0:
        wait.pause()
    assert [seconds for _, seconds in pauses[:5]] == pytest.approx(
        [0.001, 0.001, 0.002, 0.004, 0.005]
    )
    assert {round(seconds, 6) for at, seconds in pauses if 0.04 < at < 0.2} == {0.001}
    assert pauses[-1][1] == 0.010


def test_without_contention_no_ticket_is_taken(database: Any, orders: Queue) -> None:
    orders.send(1)
    assert set() == DESCRIPTORS
    assert not database.lock.is_contended


@pytest.fixture
def no_endless_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wait that goes on and on raises an AssertionError, long before a deadline of a test.

    Its pauses are counted, not its seconds: on a loaded machine a wait takes longer, but has no
    more pauses.
    """
    pauses = Counter[write_lock._Wait]()
    pause = write_lock._Wait.pause

    def counted(wait: write_lock._Wait) -> None:
        pauses[wait] += 1
        assert pauses[wait] < MOST_PAUSES, "the wait does not end"
        pause(wait)

    monkeypatch.setattr(write_lock._Wait, "pause", counted)


@pytest.mark.usefixtures("lasting_contention", "no_endless_wait")
@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL], ids=["stop", "kill"])
def test_a_holder_of_the_ticket_that_stops_or_dies_holds_up_no_write(
    database: Any, orders: Queue, db: Path, number: signal.Signals
) -> None:
    contend(database, db)
    with child(HOLD_TICKET, f"{db}-wal") as holder:
        assert said(holder) == "READY"
        holder.send_signal(number)
        for body in range(20):
            orders.send(body)
    wait_for(lambda: ticket_is_free(db), what="the ticket")


@pytest.mark.usefixtures("lasting_contention", "no_endless_wait")
def test_behind_a_stopped_holder_of_the_ticket_a_wait_ends_in_time(db: Path) -> None:
    """The lock is held by a third process: both waits, for ticket and lock, count as one."""
    with DurableQ(f"sqlite:///{db}?busy_timeout=0.3") as dq:
        orders = dq.queue("orders")
        orders.info()
        store: Any = dq.store
        contend(store._database, db)
        with child(HOLD_TICKET, f"{db}-wal") as holder, plain.connection(db) as other:
            assert said(holder) == "READY"
            other.execute("BEGIN IMMEDIATE")
            with ThreadPoolExecutor(1) as pool, pytest.raises(Busy):
                pool.submit(orders.send, 1).result()


def test_a_child_that_a_killed_holder_forked_does_not_keep_the_ticket(db: Path) -> None:
    with DurableQ(db) as dq:
        dq.queue("orders").info()
        with child(FORK, db) as parent:
            forked = int(said(parent))
            try:
                assert not ticket_is_free(db)
                parent.kill()
                parent.wait()
                wait_for(lambda: ticket_is_free(db), seconds=1, what="the ticket")
            finally:
                os.kill(forked, signal.SIGKILL)


def test_closing_a_ticket_drops_no_lock_of_sqlite(database: Any, db: Path) -> None:
    """POSIX drops a process's locks on a file at the close of any descriptor of it."""
    other = "import sys; from tests.engine import plain; sys.exit(plain.is_locked(sys.argv[1]))"
    with database.write():
        assert ticket_is_free(db)  # it opens the log, and closes it
        answer = subprocess.run([sys.executable, "-c", other, db], check=False, cwd=os.getcwd())
        assert answer.returncode == 1, "another process got the write lock"


def test_the_last_connection_takes_the_descriptor_with_it(
    dq: DurableQ, database: Any, db: Path
) -> None:
    contend(database, db)
    assert len(DESCRIPTORS) == 1
    dq.close()
    assert set() == DESCRIPTORS


def test_a_thread_adds_up_its_waits_for_the_lock(database: Any, db: Path) -> None:
    waits: list[float] = []

    def write() -> None:
        with database.write():
            pass
        waits.append(waited_seconds())

    def hold(is_waiting: Callable[[], Any]) -> threading.Thread:
        """Let a thread wait for the lock for a while."""
        waiting = threading.Thread(target=write)
        waiting.start()
        wait_for(is_waiting, what="a thread that waits")
        since = time.monotonic()
        wait_for(lambda: time.monotonic() - since >= 0.05, what="a while")
        return waiting

    with plain.connection(db) as other:
        other.execute("BEGIN IMMEDIATE")
        waiting = hold(lambda: database.lock.ticket.holder is not None)
        other.execute("ROLLBACK")
        waiting.join()
    with database.write():
        waiting = hold(lambda: database.turn._waiting)
    waiting.join()
    assert len(waits) == 2
    assert all(wait >= 0.05 for wait in waits), waits


def test_on_a_network_file_system_no_ticket_is_taken(db: Path) -> None:
    with DurableQ(f"sqlite:///{db}?allow_network_filesystem=true") as dq:
        dq.queue("orders").info()
        store: Any = dq.store
        lock = store._database.lock
        with plain.connection(db) as other:
            other.execute("BEGIN IMMEDIATE")
            thread = threading.Thread(target=lambda: dq.queue("orders").send(1))
            thread.start()
            wait_for(lambda: lock._contended_until, what="a wait")
            assert lock.ticket.holder is None
            other.execute("ROLLBACK")
            thread.join()
        assert not lock.is_contended


def test_a_file_system_without_such_locks_needs_no_ticket(
    database: Any, orders: Queue, db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    contend(database, db)
    monkeypatch.setattr(fcntl, "flock", refuse)
    assert orders.send(1)


def test_no_process_starves_among_others_that_write_all_the_time(db: Path) -> None:
    with DurableQ(db) as dq:
        orders = dq.queue("orders")
        orders.info()
        with child(HAMMER, db) as one, child(HAMMER, db) as two:
            assert (said(one), said(two)) == ("READY", "READY")
            for body in range(20):
                orders.send(body)


def test_an_operation_has_the_write_lock_before_it_reads(db: Path) -> None:
    with DurableQ(db) as dq:
        store: Any = dq.store
        assert not plain.is_locked(db)
        with store._database.write():
            assert plain.is_locked(db)
