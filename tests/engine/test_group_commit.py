"""One commit for the operations of threads that wait for the turn of their process to write."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from durableq import (
    Busy,
    Conflict,
    DurableQ,
    DurableQError,
    InvalidBody,
    OutcomeUnknown,
    Queue,
    StorageFull,
    UnknownQueue,
)
from durableq.engines.sql import sending
from durableq.engines.sqlite import group_commit
from durableq.engines.sqlite.database import Database
from durableq.engines.sqlite.group_commit import Turn
from durableq.engines.sqlite.store import SQLStore
from durableq.model.message import Completion, Receipt, draft
from scripts.count_calls import ROOT
from tests.engine import plain
from tests.support import new_file, scaled, wait_for


class Crowd:
    """Threads that make one call each, in the order in which they were started."""

    def __init__(self, dq: DurableQ) -> None:
        store = dq.store
        assert isinstance(store, SQLStore)
        self.database: Database = store._database
        self.turn: Turn = self.database.turn
        self.outcomes: dict[int, Any] = {}
        self.threads: list[threading.Thread] = []

    def start(self, call: Callable[[], object]) -> None:
        """Start a thread, and wait until it waits for the turn."""
        number, before = len(self.threads), len(self.turn._waiting)

        def run() -> None:
            try:
                self.outcomes[number] = call()
            except BaseException as error:  # noqa: BLE001 - the outcome of the thread
                self.outcomes[number] = error

        self.threads.append(threading.Thread(target=run, daemon=True))
        self.threads[-1].start()
        wait_for(lambda: len(self.turn._waiting) > before, what="a thread to wait")

    def join(self) -> list[Any]:
        """Wait for all threads, and return their outcomes in order."""
        for thread in self.threads:
            thread.join(scaled(30))
            assert not thread.is_alive(), "it waits for ever"
        return [self.outcomes[number] for number in range(len(self.threads))]

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Write in another thread, for the length of the block."""
        begun, ended = threading.Event(), threading.Event()

        def write() -> None:
            with self.database.write():
                begun.set()
                ended.wait(scaled(60))

        thread = threading.Thread(target=write, daemon=True)
        thread.start()
        assert begun.wait(scaled(10))
        try:
            yield
        finally:
            ended.set()
            thread.join()


@pytest.fixture
def crowd(dq: DurableQ, monkeypatch: pytest.MonkeyPatch) -> Crowd:
    monkeypatch.setattr(group_commit, "MAX_GROUP_SECONDS", 3600.0)  # on a slow machine too
    return Crowd(dq)


@pytest.fixture
def commits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The thread of each COMMIT."""
    found: list[int] = []
    commit = Database._commit

    def note(self: Database, raw: Any) -> None:
        commit(self, raw)
        found.append(threading.get_ident())

    monkeypatch.setattr(Database, "_commit", note)
    return found


def bodies(db: Path) -> dict[str, str]:
    """Return the stored bodies by id."""
    rows = plain.rows(db, "SELECT id, body FROM durableq_message ORDER BY id")
    return {str(number): body for number, body in rows}


def test_threads_that_wait_are_answered_after_one_commit(
    crowd: Crowd, orders: Queue, db: Path, commits: list[int]
) -> None:
    with crowd.writing():
        for number in range(20):
            crowd.start(partial(orders.send, number))
        commits.clear()
    ids = crowd.join()
    assert len(commits) == 2, "that of the thread that wrote, and that of the group"
    assert bodies(db) == {message_id: str(number) for number, message_id in enumerate(ids)}
    assert ids == sorted(ids, key=int), "in the order of their coming"
    assert orders.info().counters.sent == 20


def test_an_error_of_one_operation_is_its_own(
    crowd: Crowd, orders: Queue, dq: DurableQ, db: Path, commits: list[int]
) -> None:
    small = dq.queue("small", max_body_bytes=10)
    small.info()
    no_queue = Queue(dq, "none")
    stale = [Completion(Receipt("orders", "1", "00" * 16))]
    with crowd.writing():
        crowd.start(lambda: orders.send("first"))
        crowd.start(lambda: no_queue.send(1))
        crowd.start(lambda: small.send_many(["ok", "x" * 20]))
        crowd.start(lambda: dq.store.complete(stale))
        crowd.start(lambda: orders.send("last"))
        commits.clear()
    first, unknown, large, completed, last = crowd.join()
    assert isinstance(unknown, UnknownQueue)
    assert isinstance(large, InvalidBody)
    assert [outcome.refused for outcome in completed] == [True]
    assert len(commits) == 2
    assert bodies(db) == {first: '"first"', last: '"last"'}
    plain.check_sound(db)


def test_a_group_that_one_operation_undid_is_run_one_by_one(
    crowd: Crowd, orders: Queue, db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk rolls back all of the transaction."""
    send = sending.send

    def fill_the_disk(tx: Any, queue: str, drafts: Any) -> list[str]:
        ids = send(tx, queue, drafts)
        if drafts[0].body == '"too large"':
            tx.raw.execute("ROLLBACK")
            raise StorageFull("The disk is full.")
        return ids

    monkeypatch.setattr(sending, "send", fill_the_disk)
    with crowd.writing():
        for body in ("first", "too large", "last"):
            crowd.start(partial(orders.send, body))
    first, full, last = crowd.join()
    assert isinstance(full, StorageFull)
    assert bodies(db) == {first: '"first"', last: '"last"'}
    assert orders.info().counters.sent == 2
    plain.check_sound(db)


def test_a_commit_that_raises_leaves_the_outcome_of_all_unknown(
    crowd: Crowd, orders: Queue, db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with crowd.writing():
        for number in range(3):
            crowd.start(partial(orders.send, number))

        def fail(_: Database, raw: Any) -> None:
            raw.execute("COMMIT")
            if threading.get_ident() in {thread.ident for thread in crowd.threads}:
                raise OutcomeUnknown("COMMIT failed.")

        monkeypatch.setattr(Database, "_commit", fail)
    outcomes = crowd.join()
    assert [type(outcome) for outcome in outcomes] == [OutcomeUnknown] * 3
    assert len({id(outcome) for outcome in outcomes}) == 3, "each thread adds its own traceback"
    assert len(bodies(db)) == 3


def test_a_group_ends_at_its_greatest_number(
    crowd: Crowd, orders: Queue, commits: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "MAX_GROUP", 5)
    with crowd.writing():
        for number in range(12):
            crowd.start(partial(orders.send, number))
        commits.clear()
    crowd.join()
    assert len(commits) == 1 + 3
    assert len(set(commits)) == 4, "each group is written by the first of its threads"


def test_a_group_takes_no_more_when_it_holds_the_lock_for_long(
    crowd: Crowd, orders: Queue, commits: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "MAX_GROUP_SECONDS", 0.0)
    with crowd.writing():
        for number in range(4):
            crowd.start(partial(orders.send, number))
        commits.clear()
    crowd.join()
    assert len(commits) == 1 + 4


def test_a_transaction_of_user_code_is_served_in_its_order_and_alone(
    crowd: Crowd, orders: Queue, db: Path
) -> None:
    orders.send("held")
    (message,) = orders.receive()

    def settle() -> None:
        with message.transaction() as tx:
            tx.send("orders", "inside")

    with crowd.writing():
        crowd.start(lambda: orders.send("before"))
        crowd.start(settle)
        crowd.start(lambda: orders.send("after"))
    crowd.join()
    assert list(bodies(db).values()) == ['"before"', '"inside"', '"after"']


def test_who_waits_longer_than_the_busy_timeout_is_told_so(db: Path) -> None:
    with DurableQ(f"sqlite:///{new_file(db)}?busy_timeout=0.3") as dq:
        orders = dq.queue("orders")
        orders.info()
        crowd = Crowd(dq)
        with crowd.writing():
            crowd.start(lambda: orders.send(1))
            crowd.start(lambda: dq.store.extend([], 1000))
            outcomes = crowd.join()
        assert [type(outcome) for outcome in outcomes] == [Busy, Busy]
        assert "this process itself has an open write transaction" in str(outcomes[0])
        orders.send(2)
    assert list(bodies(db).values()) == ["2"]


def test_a_thread_with_a_transaction_of_its_own_does_not_wait_behind_those_that_wait_for_it(
    crowd: Crowd, dq: DurableQ, orders: Queue
) -> None:
    with dq.engine.begin():
        thread = threading.Thread(target=orders.send, args=(1,))
        thread.start()  # it has the turn, and waits for this transaction
        wait_for(lambda: crowd.turn.holder == thread.ident, what="the thread to have the turn")
        with pytest.raises(Conflict):
            orders.send(2)
    thread.join()
    assert orders.info().counts.ready == 1


def test_ctrl_c_ends_the_wait_of_a_thread_and_no_other(
    crowd: Crowd, orders: Queue, db: Path
) -> None:
    with crowd.writing():
        crowd.start(lambda: orders.send("first"))

        def interrupt() -> None:
            wait_for(lambda: len(crowd.turn._waiting) == 2, what="this thread to wait")
            os.kill(os.getpid(), signal.SIGINT)

        interrupter = threading.Thread(target=interrupt)
        interrupter.start()
        with pytest.raises(KeyboardInterrupt):
            orders.send("interrupted")
        interrupter.join()
        crowd.start(lambda: orders.send("last"))
    first, last = crowd.join()
    assert bodies(db) == {first: '"first"', last: '"last"'}


class Interruption:
    """A KeyboardInterrupt at a step of this thread's writing, where a signal could be handled."""

    def __init__(self, step: int) -> None:
        self.left = step
        self.is_writing = False
        self.came = False

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        """Count a step; for sys.setprofile."""
        self.is_writing = self.is_writing or frame.f_code is Turn._write.__code__
        is_ours = frame.f_code.co_filename.startswith(ROOT)  # not a callback of the collector
        if self.is_writing and is_ours and event in {"call", "c_return"}:
            self.left -= 1
            if self.left < 0:
                sys.setprofile(None)
                self.came = True
                raise KeyboardInterrupt


def write_a_group_with(interruption: Interruption, crowd: Crowd, orders: Queue) -> object:
    """Let this thread write a group with two others, interrupted; return its outcome."""

    def follow() -> None:
        with crowd.writing():
            ready.set()
            wait_for(lambda: crowd.turn._waiting, what="the first thread to wait")
            for number in range(2):
                crowd.start(partial(orders.send, f"follower {number}"))

    ready = threading.Event()
    others = threading.Thread(target=follow, daemon=True)
    others.start()
    assert ready.wait(scaled(10))
    sys.setprofile(interruption)
    try:
        return orders.send("leader")
    except KeyboardInterrupt as error:
        return error
    finally:
        sys.setprofile(None)
        others.join()


def test_ctrl_c_at_each_step_of_a_group_leaves_no_thread_waiting_and_tells_none_a_lie(
    dq: DurableQ, orders: Queue, db: Path
) -> None:
    answered, unknown = 0, 0
    for step in itertools.count():
        plain.script(db, "DELETE FROM durableq_message")
        crowd, interruption = Crowd(dq), Interruption(step)
        outcome = write_a_group_with(interruption, crowd, orders)
        outcomes = crowd.join()
        found = bodies(db)
        assert len(set(found.values())) == len(found), "a message was stored twice"
        if not isinstance(outcome, KeyboardInterrupt):
            assert found[str(outcome)] == '"leader"'
        for number, told in enumerate(outcomes):
            assert isinstance(told, str | OutcomeUnknown), step
            if isinstance(told, str):
                assert found[told] == f'"follower {number}"', step
                answered += 1
            else:
                unknown += 1
        assert crowd.turn.holder is None, step
        if not interruption.came:
            break
        orders.send("after")
    assert step > 30, "the group was not interrupted at each of its steps"
    assert answered > unknown, "only an interrupted COMMIT leaves an outcome unknown"


def test_an_interrupted_thread_leaves_its_group_to_the_next(
    crowd: Crowd, orders: Queue, db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send, this = sending.send, threading.get_ident()

    def interrupt(tx: Any, queue: str, drafts: Any) -> list[str]:
        if threading.get_ident() == this and drafts[0].body != '"leader"':
            raise KeyboardInterrupt
        return send(tx, queue, drafts)

    monkeypatch.setattr(sending, "send", interrupt)
    outcome = write_a_group_with(Interruption(1 << 30), crowd, orders)
    assert isinstance(outcome, KeyboardInterrupt)
    ids = crowd.join()
    assert bodies(db) == {ids[0]: '"follower 0"', ids[1]: '"follower 1"'}


def test_a_child_forked_while_threads_wait_does_not_wait_for_them(
    crowd: Crowd, orders: Queue, db: Path
) -> None:
    """Not inside a transaction: SQLite in the child would take its lock for held for ever."""
    assert crowd.turn.take()
    crowd.start(lambda: orders.send("parent"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
        child = os.fork()
    if child == 0:
        with suppress(BaseException):
            sender = threading.Thread(target=orders.send, args=("child",), daemon=True)
            sender.start()  # in another thread: the parent's turn is of this one
            sender.join(scaled(30))
            os._exit(sender.is_alive())
        os._exit(2)
    crowd.turn.give(threading.get_ident())
    crowd.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert sorted(bodies(db).values()) == ['"child"', '"parent"']


CALLS = st.lists(
    st.sampled_from(["send", "send three", "too large", "no queue", "stale", "receive"]),
    min_size=2,
    max_size=12,
)


def called(dq: DurableQ, call: str, number: int) -> object:
    """Make a call, and return what does not depend on the file."""
    store = dq.store
    try:
        if call == "receive":
            return [message.body for message in store.receive("orders", 2).messages]
        if call == "stale":
            receipt = Receipt("orders", "1", "00" * 16)
            return [outcome.refused for outcome in store.complete([Completion(receipt)])]
        if call == "no queue":
            return store.send("none", [draft(number)])
        sent = [number, "x" * 200] if call == "too large" else [number] * (1 + 2 * ("th" in call))
        return len(store.send("orders", [draft(body) for body in sent]))
    except DurableQError as error:
        return type(error)


@given(CALLS)
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_group_has_the_outcomes_of_its_operations_one_by_one(
    tmp_path_factory: pytest.TempPathFactory, calls: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("group")
    states = []
    for name in ("alone.db", "group.db"):
        with DurableQ(new_file(folder / name)) as dq:
            orders = dq.queue("orders", max_body_bytes=100)
            orders.info()
            crowd = Crowd(dq)
            if name == "alone.db":
                outcomes = [called(dq, call, number) for number, call in enumerate(calls)]
            else:
                with crowd.writing():
                    for number, call in enumerate(calls):
                        crowd.start(partial(called, dq, call, number))
                outcomes = crowd.join()
            info = orders.info()
            states.append((outcomes, info.counts, info.counters, bodies(folder / name)))
    assert states[0] == states[1]
