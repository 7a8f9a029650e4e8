"""Settle the results of handlers: the window, shared commits, and repetition after a failure."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from durableq import (
    Batch,
    Busy,
    Delivery,
    DurableQ,
    DurableQError,
    OutcomeUnknown,
    Queue,
    RetryLater,
    StorageFull,
    UnknownQueue,
)
from durableq.client.handlers import Handler
from durableq.model.message import Completion, Failure, Reason
from durableq.store.core import Answer, Call, Capability, Receive, Settle
from durableq.supervisor.scoreboard import Scoreboard
from durableq.worker import completer, executors, fetcher
from durableq.worker.completer import Completer
from durableq.worker.in_flight import Work
from durableq.worker.options import WorkerOptions
from durableq.worker.state import WorkerState
from durableq.worker.worker import Worker
from tests.engine import plain
from tests.support import scaled, wait_for

NEVER_MS = 600_000
EFFECT = "CREATE TABLE effect (key)"


@pytest.fixture(autouse=True)
def _tries_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completer, "AGAIN_SECONDS", 0.01)
    monkeypatch.setattr(executors, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(fetcher, "PAUSE_SECONDS", 0.01)


def worker(dq: DurableQ, **options: Any) -> Worker:
    return Worker(dq, WorkerOptions("", dq.url, "worker", drain=True, **options))


@pytest.fixture
def completions(dq: DurableQ, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the list of the number of successes in each commit of any so far."""
    sizes: list[int] = []
    together = dq.store.together

    def counted(calls: Sequence[Call]) -> list[Answer]:
        answers = together(calls)
        sizes.extend(
            len(call.completions) for call in calls if isinstance(call, Settle) and call.completions
        )
        return answers

    monkeypatch.setattr(dq.store, "together", counted)
    return sizes


# ---- the window


def test_the_successes_of_fast_handlers_share_a_commit(
    dq: DurableQ, orders: Queue, completions: list[int]
) -> None:
    @dq.handler("orders", prefetch=20)
    def charge(message: Delivery) -> None:
        if message.body == 19:
            running.stopping.set()

    orders.send_many(list(range(20)))
    running = worker(dq, settle_window_ms=NEVER_MS)
    running.run()
    assert completions == [20]
    assert orders.info().counters.completed == 20


def test_without_a_window_each_success_is_settled_at_once(
    dq: DurableQ, orders: Queue, completions: list[int]
) -> None:
    @dq.handler("orders", prefetch=5)
    def charge(message: Delivery) -> None:
        if message.body:
            wait_for(lambda: len(completions) == message.body, what="the one before to be settled")

    orders.send_many(list(range(5)))
    worker(dq, settle_window_ms=0).run()
    assert completions == [1] * 5


class Settling:
    """A completer with messages in flight."""

    def __init__(self, dq: DurableQ, received: Sequence[Delivery]) -> None:
        options = WorkerOptions("", dq.url, "worker", settle_window_ms=NEVER_MS)
        self.state = WorkerState(dq, options, Scoreboard())
        self.work = Work(Handler("orders", print, batch=None), received, time.monotonic())
        self.state.in_flight.add(self.work)
        self.completer = Completer(self.state)

    def submit(self, delivery: Delivery, how: Completion | Failure, ran_ms: int = 0) -> None:
        self.completer.submit(self.work, delivery, how, ran_ms * 1_000_000)


@contextmanager
def settling(dq: DurableQ, received: Sequence[Delivery]) -> Iterator[Settling]:
    part = Settling(dq, received)
    part.completer.start()
    yield part
    part.completer.close()
    part.state.close()
    assert part.state.error is None
    assert part.state.in_flight.works() == []


def test_a_slow_success_does_not_wait_and_commits_the_waiting_ones(
    dq: DurableQ, orders: Queue, completions: list[int]
) -> None:
    orders.send_many([1, 2, 3])
    received = orders.receive(3)
    first, slow, last = [(one, Completion(one.receipt, None, one.key)) for one in received]
    with settling(dq, received) as part:
        part.submit(*first, ran_ms=1)
        part.submit(*slow, ran_ms=NEVER_MS)
        wait_for(lambda: completions, what="the slow one to be settled")
        assert completions == [2]
        part.submit(*last, ran_ms=1)
    assert completions == [2, 1], "the end waits for no window"


def test_no_result_is_lost_between_threads_that_submit_and_receive(
    dq: DurableQ, orders: Queue
) -> None:
    dq.queue("empty")
    shares = []
    for _ in range(4):
        orders.send_many(list(range(100)))
        shares.append(list(orders.receive(100)))

    def submit(part: Settling, share: Sequence[Delivery]) -> None:
        for one in share:
            part.submit(one, Completion(one.receipt))

    with settling(dq, [one for share in shares for one in share]) as part:
        threads = [threading.Thread(target=submit, args=[part, share]) for share in shares]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            part.completer.receive("empty", 1)
    assert orders.info().counters.completed == 400


# ---- together with a receive


def test_a_receive_settles_the_waiting_results_in_its_transaction(
    dq: DurableQ, orders: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls_made: list[list[type]] = []
    together = dq.store.together

    def noted(calls: Sequence[Call]) -> list[Answer]:
        calls_made.append([type(call) for call in calls])
        return together(calls)

    monkeypatch.setattr(dq.store, "together", noted)
    dq.handler("orders", prefetch=2)(lambda message: None)
    orders.send_many([1, 2, 3])
    running = worker(dq, settle_window_ms=NEVER_MS)
    running.run()
    assert calls_made == [[Receive], [Settle, Receive], [Settle, Receive]]
    assert orders.info().counters.completed == 3


def test_results_are_settled_although_the_queue_to_receive_from_is_gone(
    dq: DurableQ, orders: Queue
) -> None:
    orders.send("x")
    (received,) = orders.receive()
    with settling(dq, [received]) as part:
        part.submit(received, Completion(received.receipt))
        with pytest.raises(UnknownQueue):
            part.completer.receive("gone", 1)
        assert orders.info().counters.completed == 1


# ---- failures of the file


class Accident:
    """Let the next commits of a thread fail, before or after they have happened."""

    def __init__(self, dq: DurableQ, monkeypatch: pytest.MonkeyPatch) -> None:
        self._left = 0
        self._thread = ""
        database = getattr(dq.store, "_database")  # noqa: B009 - an engine's own
        self._commit: Callable[[Any], None] = database._commit
        monkeypatch.setattr(database, "_commit", self._fail)

    def plan(self, error: DurableQError, *, happens: bool, thread: str = "") -> None:
        self._error, self._happens, self._left = error, happens, 2 if thread else 1
        self._thread = thread or threading.current_thread().name

    def _fail(self, raw: Any) -> None:
        met = self._left and threading.current_thread().name == self._thread
        if not met or self._happens:
            self._commit(raw)
        if met:
            self._left -= 1
            if not self._happens:
                raw.execute("ROLLBACK")
            raise self._error

    @property
    def is_over(self) -> bool:
        return self._left == 0


@pytest.fixture
def accident(dq: DurableQ, monkeypatch: pytest.MonkeyPatch) -> Accident:
    return Accident(dq, monkeypatch)


FAULTS = pytest.mark.parametrize(
    ("error", "happens"),
    [
        (Busy("busy"), False),
        (StorageFull("full"), False),
        (OutcomeUnknown("unknown"), False),
        (OutcomeUnknown("unknown"), True),
    ],
    ids=["busy", "full", "unknown, undone", "unknown, done"],
)
KINDS = pytest.mark.parametrize("kind", ["function", "coroutine"])


def of_kind(kind: str, function: Callable[[Any], None]) -> Callable[[Any], Any]:
    async def coroutine(given: Any) -> None:
        function(given)

    return function if kind == "function" else coroutine


@FAULTS
def test_settling_that_fails_with_a_receive_is_tried_again_and_nothing_is_done_twice(
    dq: DurableQ, orders: Queue, db: Path, accident: Accident, error: DurableQError, happens: bool
) -> None:
    handled = []
    dq.queue("orders", visibility_timeout=scaled(2))

    @dq.handler("orders", prefetch=4)
    def charge(message: Delivery) -> Any:
        handled.append(message.body)
        if message.body == 3:
            accident.plan(error, happens=happens)
        if message.body == 0 and message.receive_count == 1:
            raise RetryLater(0.1)
        return message.body

    for number in range(4):
        orders.send(number, key=f"k{number}")
    worker(dq, settle_window_ms=NEVER_MS).run()
    assert accident.is_over
    assert sorted(handled) == [0, 0, 1, 2, 3]
    counters = orders.info().counters
    assert (counters.completed, counters.moved_out) == (4, 0)
    results = "SELECT result FROM durableq_idempotency WHERE status = 1 ORDER BY key"
    assert plain.column(db, results) == ["0", "1", "2", "3"]
    assert plain.column(db, "SELECT count(*) FROM durableq_history") == [1]
    plain.check_sound(db)


@FAULTS
def test_settling_that_fails_alone_is_tried_again(
    dq: DurableQ, orders: Queue, db: Path, accident: Accident, error: DurableQError, happens: bool
) -> None:
    for number in range(2):
        orders.send(number, key=f"k{number}")
    good, bad = orders.receive(2)
    with settling(dq, [good, bad]) as part:
        accident.plan(error, happens=happens, thread="completer")
        part.submit(bad, Failure(Reason.HANDLER_ERROR, "Accident", "its own"))
        part.submit(good, Completion(good.receipt, "7", good.key), ran_ms=NEVER_MS)
        wait_for(lambda: accident.is_over, what="two commits that fail")
    assert orders.info().counters.completed == 1
    assert plain.column(db, "SELECT result FROM durableq_idempotency WHERE status = 1") == ["7"]
    assert plain.column(db, "SELECT count(*) FROM durableq_history") == [1]
    plain.check_sound(db)


@FAULTS
@KINDS
def test_a_batch_that_cannot_be_settled_at_once_is_settled_later(
    dq: DurableQ,
    orders: Queue,
    db: Path,
    accident: Accident,
    error: DurableQError,
    happens: bool,
    kind: str,
) -> None:
    sizes = []

    def post(batch: Batch) -> None:
        sizes.append(len(batch))
        batch.fail(batch[0], "not this one")
        batch.set_result(batch[1], "kept")
        accident.plan(error, happens=happens)

    dq.queue("orders", max_receives=1)
    dq.handler("orders", batch=4)(of_kind(kind, post))
    sent = [orders.send(number, key=f"k{number}") for number in range(4)]
    worker(dq).run()
    assert (accident.is_over, sizes) == (True, [4])
    counters = orders.info().counters
    assert (counters.completed, counters.moved_out) == (3, 1)
    record = orders.record("k1")
    assert record is not None
    assert record.result == '"kept"'
    assert dq.store.require(Capability.DEAD_LETTERS).dead_letter(sent[0]) is not None
    plain.check_sound(db)


@FAULTS
@KINDS
def test_a_transaction_that_the_file_fails_does_not_fail_the_message(
    dq: DurableQ,
    orders: Queue,
    db: Path,
    accident: Accident,
    error: DurableQError,
    happens: bool,
    kind: str,
) -> None:
    plain.script(db, EFFECT)
    handled: list[int] = []

    def charge(message: Delivery) -> None:
        if not handled:
            accident.plan(error, happens=happens)
        handled.append(message.receive_count)
        with message.transaction() as tx:
            tx.execute("INSERT INTO effect VALUES (:key)", {"key": message.key})

    dq.handler("orders")(of_kind(kind, charge))
    orders.send({}, key="k")
    worker(dq).run()
    assert handled == ([1] if happens else [1, 1])
    assert plain.column(db, "SELECT key FROM effect") == ["k"]
    assert plain.column(db, "SELECT count(*) FROM durableq_history") == [0]
    assert orders.info().counters.completed == 1
    plain.check_sound(db)


def test_messages_that_could_not_be_released_are_free_when_the_worker_ends(
    dq: DurableQ, orders: Queue, db: Path, accident: Accident
) -> None:
    @dq.handler("orders", prefetch=3)
    def charge(message: Delivery) -> None:
        accident.plan(Busy("busy"), happens=False)
        running.stopping.set()

    orders.send_many([0, 1, 2])
    running = worker(dq)
    running.run()
    assert accident.is_over
    assert plain.column(db, "SELECT state FROM durableq_message") == [0, 0]
    assert orders.info().counters.completed == 1
    plain.check_sound(db)
