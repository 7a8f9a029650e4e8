"""Ctrl-C at any call, also of the libraries: nothing stays open, and nothing is half done."""

from __future__ import annotations

import gc
import itertools
import logging
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from durableq import DurableQ, Queue
from durableq.engines.postgres.location import POOL_SIZE
from scripts.count_calls import ROOT
from tests.engine import plain
from tests.support import observing_calls, scaled, wait_for

pytestmark = [
    pytest.mark.parametrize("db", ["postgres"], indirect=True),
    pytest.mark.usefixtures("dropping_what_finalizers_raise"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
#: The least number of calls that an operation makes.
SOME = 30


@pytest.fixture
def dropping_what_finalizers_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C may come in one; and a connection is closed by one if a library has lost hold of it.

    pytest would keep the exceptions, and what their frames have open.
    """
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)


def interrupt_at(
    number: int, call: Callable[[], object], root: str, kept: list[BaseException] | None = None
) -> bool:
    """Call a function, with Ctrl-C at one of its calls; return whether it has so many."""
    left, is_inside = number, False

    def interrupt(frame: FrameType, event: str, _: object) -> None:
        nonlocal left
        if not is_inside or event not in {"call", "c_return"}:
            return
        name = frame.f_code.co_filename
        # Before Python 3.13 a Ctrl-C there keeps the lock of all logging: other threads hang.
        if name.startswith(root) and name != logging.__file__:
            left -= 1
            if left < 0:
                sys.setprofile(None)
                raise KeyboardInterrupt

    with observing_calls():
        try:
            sys.setprofile(interrupt)
            is_inside = True
            call()
            is_inside = False
        except KeyboardInterrupt as error:
            is_inside = False
            if kept is not None:
                kept.append(error)
    return left < 0


def pool(orders: Queue) -> Any:
    store: Any = orders._app.store
    return store._database.pool


def send(orders: Queue) -> Callable[[], object]:
    return lambda: orders.send("interrupted")


def read(orders: Queue) -> Callable[[], object]:
    return orders.info


def transact(orders: Queue) -> Callable[[], object]:
    orders.send("in a transaction")
    (message,) = orders.receive()

    def run() -> None:
        with message.transaction() as tx:
            tx.execute("SELECT 1")
            tx.send("orders-2", 1)

    return run


@pytest.mark.parametrize("prepare", [send, read, transact])
@pytest.mark.parametrize(("root", "step"), [(ROOT, 1), ("", 13)], ids=["ours", "all"])
def test_ctrl_c_at_any_call_leaves_the_thread_and_the_pool_usable(
    dq: DurableQ,
    orders: Queue,
    db: str,
    prepare: Callable[[Queue], Callable[[], object]],
    root: str,
    step: int,
) -> None:
    # A lease that an interrupted call leaves ends after the test: its message would die in time.
    dq.queue("orders", visibility_timeout=3600)
    dq.queue("orders-2")
    prepare(orders)()
    number, is_interrupted = 0, True
    while is_interrupted:
        is_interrupted = interrupt_at(number, prepare(orders), root)
        number += step
        orders.send("afterwards")
        info = orders.info()
        counters = info.counters
        assert info.counts.present == counters.sent - counters.completed
        assert counters.completed == dq.queue("orders-2").info().counters.sent
    assert number > SOME
    gc.collect()
    assert pool(orders).free == POOL_SIZE, "connections were lost"
    with_threads(lambda: orders.send("of a thread"))
    plain.check_sound(db)


def with_threads(call: Callable[[], object], number: int = 8) -> None:
    threads = [threading.Thread(target=call) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(scaled(60))
        assert not thread.is_alive()


def test_a_kept_traceback_keeps_no_lock(dq: DurableQ, db: str) -> None:
    """An interactive Python keeps the last traceback, and with it all that its frames hold."""
    limited = dq.queue("limited", max_backlog=10_000)  # a send to it writes alone
    changes = itertools.count(1)
    for call in (send(limited), lambda: dq.queue("limited", visibility_timeout=next(changes))):
        kept: list[BaseException] = []
        number = 0
        while interrupt_at(number, call, ROOT, kept):
            limited.send("afterwards")
            number += 1
        assert len(kept) > SOME
        kept.clear()  # before the pool is closed, to which connections go back from its frames
    info = limited.info()
    assert info.counts.present == info.counters.sent


def test_ctrl_c_while_the_server_works_cancels_the_statement(orders: Queue, db: str) -> None:
    orders.send(1)
    (message,) = orders.receive()
    main = threading.main_thread().ident
    sleeping = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)'"

    def interrupt() -> None:
        wait_for(lambda: plain.one(db, sleeping))
        assert main is not None
        signal.pthread_kill(main, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt), message.transaction() as tx:
        tx.execute("SELECT pg_sleep(600)")
    thread.join()
    assert plain.one(db, sleeping) == 0
    message.complete()
