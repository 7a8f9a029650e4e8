"""One commit for the operations of threads that wait for the turn of their process to write."""

from __future__ import annotations

import os
import threading
import warnings
from contextlib import suppress
from functools import partial
from pathlib import Path
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
from durableq.model.message import Completion, Receipt, draft
from tests.engine import plain
from tests.engine.crowd import Crowd, bodies
from tests.support import new_file, scaled, wait_for


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


def test_neighbouring_sends_to_a_queue_are_one_send(
    crowd: Crowd, orders: Queue, dq: DurableQ, db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue is asked for, and its counter written, once; a long body is sent by itself."""
    other = dq.queue("other")
    other.info()
    sent, send = [], sending.send

    def note(tx: Any, queue: str, drafts: Any) -> list[str]:
        sent.append((queue, [each.body for each in drafts]))
        return send(tx, queue, drafts)

    monkeypatch.setattr(sending, "send", note)
    long = "x" * group_commit.SHORT_BODY
    with crowd.writing():
        for queue, body in ((orders, 1), (orders, 2), (other, 3), (orders, 4), (orders, long)):
            crowd.start(partial(queue.send, body))
        crowd.start(partial(orders.send, 5))
        crowd.start(partial(orders.send_many, [6, 7]))
    *single, many = crowd.join()
    stored = {message_id: body for message_id, body in bodies(db).items() if len(body) == 1}
    assert [queue for queue, _ in sent] == [
        "orders",
        "other",
        "orders",
        "orders",
        "orders",
        "orders",
    ]
    assert [len(drafts) for _, drafts in sent] == [2, 1, 1, 1, 1, 2]
    assert [stored.get(one) for one in (*single, *many)] == [*"1234", None, *"567"]
    assert orders.info().counters.sent == 7
    plain.check_sound(db)


def test_one_refused_send_of_several_is_refused_alone(crowd: Crowd, dq: DurableQ, db: Path) -> None:
    small = dq.queue("small", max_body_bytes=10)
    small.info()
    with crowd.writing():
        for body in ("first", "x" * 20, "last"):
            crowd.start(partial(small.send, body))
    first, large, last = crowd.join()
    assert isinstance(large, InvalidBody)
    assert "The body has " in str(large), "it sent one"
    assert bodies(db) == {first: '"first"', last: '"last"'}
    assert small.info().counters.sent == 2
    plain.check_sound(db)


def test_a_group_that_one_operation_undid_is_run_one_by_one(
    crowd: Crowd, orders: Queue, db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk rolls back all of the transaction."""
    send = sending.send

    def fill_the_disk(tx: Any, queue: str, drafts: Any) -> list[str]:
        ids = send(tx, queue, drafts)
        if any(each.body == '"too large"' for each in drafts):
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
