"""A transition that does not find a row as it was read moves nothing and reports it.

On SQLite the write lock keeps other processes out between a read and a transition. On a database
with row locks it does not, so each test changes a row at that moment, in the same transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from durableq import Conflict, DurableQ
from durableq.engines.sql import reclaiming
from durableq.engines.sql.columns import STORED_QUEUE
from durableq.engines.sql.definitions.tables import queue
from durableq.engines.sql.dialect import RowStatement
from durableq.engines.sql.transactions import StoredQueue, Transaction
from durableq.engines.sqlite import statements
from durableq.model.dead_letters import DeadLetterFilter
from durableq.model.decisions import Decision, Discard, Hold, Requeue
from durableq.model.message import Completion, Message, Outcome, Reason, Refusal, State
from durableq.store.core import Store
from durableq.testing.contract.case import (
    DEAD,
    complete,
    counters_reconcile,
    fail,
    kill,
    look,
    receipt,
    receive,
    send,
    story,
    take,
)
from tests.engine import plain

Before = Callable[[str | RowStatement, str], None]
OTHER = "receipt = x'0000000000000000000000000000aaaa'"
OTHER_OWNS_THE_KEY = f"UPDATE durableq_idempotency SET owner_{OTHER}"
TAKEN = f"UPDATE durableq_message SET state = 1, {OTHER} WHERE id = "


@pytest.fixture
def store(dq: DurableQ) -> Store:
    return dq.store


@pytest.fixture
def before(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Before]:
    """Plan a change of a row, once, just before a statement runs, in either form of its list."""
    planned: dict[str | RowStatement, str] = {}
    forms = vars(statements)
    many = {forms.get(f"{name}_ONE"): text for name, text in forms.items()}
    session: Any = store
    session = session._database.session()
    execute, run, run_many = session.execute, Transaction.run, Transaction.run_many

    def change(statement: str | RowStatement) -> None:
        statement = many.get(statement, statement)
        if statement in planned:
            session.raw.execute(planned.pop(statement))

    def execute_after(statement: str, *values: Any) -> Any:
        change(statement)
        return execute(statement, *values)

    def run_after(self: Transaction, statement: str, **values: Any) -> Any:
        change(statement)
        return run(self, statement, **values)

    def run_many_after(self: Transaction, statement: RowStatement, rows: Any) -> Any:
        change(statement)
        return run_many(self, statement, rows)

    monkeypatch.setattr(session, "execute", execute_after)
    monkeypatch.setattr(Transaction, "run", run_after)
    monkeypatch.setattr(Transaction, "run_many", run_many_after)
    yield planned.__setitem__
    assert not planned, "The statement did not run."


def ids(messages: list[Message]) -> list[str]:
    return [message.id for message in messages]


def test_a_message_taken_between_choosing_and_leasing_is_not_delivered(
    store: Store, before: Before
) -> None:
    first, second = send(store), send(store, key="k")
    before(statements.LEASE, TAKEN + first)
    assert ids(receive(store)) == [second]
    assert look(store, first).receive_count == 0


TAKES_THE_KEY_OF = (
    "INSERT INTO durableq_idempotency (queue_id, key, status, owner_message_id, owner_receipt, "
    "payload_hash, created_at_ms) SELECT queue_id, key, 0, 999, "
    "x'0000000000000000000000000000aaaa', payload_hash, 0 FROM durableq_message WHERE id = "
)


def test_a_message_whose_key_was_taken_meanwhile_is_put_back_uncounted(
    store: Store, before: Before
) -> None:
    keyed, other = send(store, key="k"), send(store, key="other")
    before(statements.TAKE_NEW_KEYS, TAKES_THE_KEY_OF + keyed)
    messages = receive(store)
    assert ids(messages) == [other]
    assert (look(store, keyed).state, look(store, keyed).receive_count) == (State.READY, 0)
    assert complete(store, receipt(messages[0])) == [Outcome.DONE]


def test_a_known_key_that_another_took_over_meanwhile_is_left_to_it(
    store: Store, db: Path, before: Before
) -> None:
    send(store, key="k")
    assert store.complete([Completion(take(store), None, "k")]) == [Outcome.DONE]
    plain.script(db, "UPDATE durableq_idempotency SET expires_at_ms = 1")
    late, other = send(store, key="k"), send(store, key="other")
    before(statements.TAKE_KEY_ROWS, f"{OTHER_OWNS_THE_KEY} WHERE key = 'k'")
    assert ids(receive(store)) == [other]
    assert (look(store, late).state, look(store, late).receive_count) == (State.READY, 0)


def test_no_key_is_taken_for_a_message_that_lost_its_lease(
    dq: DurableQ, store: Store, before: Before
) -> None:
    message_id = send(store, key="k")
    before(statements.TAKE_NEW_KEYS, TAKEN + message_id)
    assert receive(store) == []
    assert dq.queue("orders").record("k") is None


def test_a_duplicate_taken_meanwhile_is_not_counted(store: Store, before: Before) -> None:
    send(store, key="k")
    assert store.complete([Completion(take(store), None, "k")]) == [Outcome.DONE]
    duplicate = send(store, key="k")
    before(statements.END_READY, TAKEN + duplicate)
    received = store.receive("orders", 10)
    assert (received.messages, received.duplicates) == ([], [])
    assert counters_reconcile(store)


def test_a_message_deferred_by_another_process_is_not_set_aside_twice(
    store: Store, before: Before
) -> None:
    send(store, key="k")
    take(store)
    second = send(store, key="k")
    before(statements.DEFER, TAKEN + second)
    assert store.receive("orders", 10).set_aside == 0


@pytest.mark.parametrize(
    ("reason", "statement"),
    [(Reason.REJECTED, statements.BURY), (Reason.HANDLER_ERROR, statements.PUT_BACK)],
)
def test_a_failure_of_a_lease_lost_meanwhile_is_stale(
    store: Store, before: Before, reason: Reason, statement: str
) -> None:
    message_id = send(store, key="k")
    lease = take(store)
    before(statement, TAKEN + message_id)
    assert fail(store, lease, reason=reason) is Outcome.STALE
    assert story(store, message_id) == []
    assert counters_reconcile(store)


def test_a_release_of_a_lease_lost_meanwhile_is_stale(store: Store, before: Before) -> None:
    message_id = send(store)
    lease = take(store)
    before(statements.PUT_BACK, TAKEN + message_id)
    assert store.release([lease]) == [Outcome.STALE]


@pytest.mark.parametrize(
    ("decision", "statement"),
    [
        (Discard("no"), statements.DISCARD),
        (Requeue("again"), statements.REDRIVE),
        (Hold("later"), statements.PUT_BACK),
    ],
)
def test_a_decision_about_a_lease_lost_meanwhile_is_stale(
    dq: DurableQ, before: Before, decision: Decision, statement: str
) -> None:
    store: Any = dq.store
    message_id = kill(store)
    events = story(store, message_id)
    lease = take(store, DEAD)
    before(statement, TAKEN + message_id)
    assert store.decide([(lease, decision)]) == [Outcome.STALE]
    assert story(store, message_id) == events
    assert counters_reconcile(store)


def test_a_lease_that_was_taken_back_meanwhile_is_not_reclaimed_twice(
    dq: DurableQ, before: Before
) -> None:
    store: Any = dq.store
    message_id = send(store)
    take(store)
    before(statements.PUT_BACK, TAKEN + message_id)
    with store._database.write() as tx:
        assert reclaiming.reclaim_all(tx) == 0
    assert story(store, message_id) == []


@pytest.mark.parametrize(
    ("statement", "result"), [("COMPLETE_KEYS", None), ("COMPLETE_KEY_ROWS", "1")]
)
def test_a_completion_whose_record_is_gone_is_logged(
    store: Store,
    before: Before,
    caplog: pytest.LogCaptureFixture,
    statement: str,
    result: str | None,
) -> None:
    send(store, key="k")
    lease = take(store)
    before(getattr(statements, statement), "DELETE FROM durableq_idempotency")
    assert store.complete([Completion(lease, result, "k")]) == [Outcome.DONE]
    assert "1 of 1 completed messages of orders had lost their records" in caplog.text


def test_a_failure_does_not_wake_messages_behind_the_key_of_another(
    store: Store, before: Before
) -> None:
    send(store, key="k")
    lease = take(store)
    second = send(store, key="k")
    assert store.receive("orders", 10).set_aside == 1
    before(statements.DROP_KEY, OTHER_OWNS_THE_KEY)
    assert fail(store, lease) is Outcome.RETRY
    assert look(store, second).state is State.DELAYED


@pytest.mark.parametrize(
    ("statement", "change"),
    [
        (statements.CANCEL, lambda store, ids: store.cancel(ids)),
        (statements.DELAY, lambda store, ids: store.reschedule(ids, delay_ms=5_000)),
        (statements.RUN_NOW, lambda store, ids: store.reschedule(ids)),
    ],
    ids=["cancel", "delay", "run now"],
)
def test_a_message_taken_while_it_is_controlled_is_refused(
    store: Store, before: Before, statement: str, change: Callable[[Any, list[str]], Any]
) -> None:
    taken, free = send(store, delay=60), send(store, delay=60)
    before(statement, TAKEN + taken)
    assert change(store, [taken, free]) == [Refusal.IN_FLIGHT, None]
    assert look(store, taken).state is State.IN_FLIGHT
    assert story(store, taken) == []
    assert counters_reconcile(store)


def test_a_message_taken_while_it_is_replaced_is_left_alone(dq: DurableQ, before: Before) -> None:
    store: Any = dq.store
    taken = send(store, 1, replace_key="k")
    before(statements.END_REPLACED, TAKEN + taken)
    send(store, 2, replace_key="k")
    assert look(store, taken).state is State.IN_FLIGHT
    assert story(store, taken) == []
    assert store.queue("orders").counters.replaced == 0
    assert counters_reconcile(store)


def test_a_message_that_ended_while_it_is_controlled_is_refused(
    dq: DurableQ, before: Before
) -> None:
    store: Any = dq.store
    ended, free = send(store), send(store)
    before(statements.CANCEL, f"DELETE FROM durableq_message WHERE id = {ended}")
    assert store.cancel([ended, free]) == [Refusal.UNKNOWN, None]
    assert store.queue("orders").counters.cancelled == 1


@pytest.mark.parametrize(
    ("statement", "change"),
    [
        (statements.UPDATE_REDRIVE, lambda store, task_id: store.continue_redrive(task_id, 10)),
        (statements.UPDATE_REDRIVE, lambda store, task_id: store.cancel_redrive(task_id)),
        (statements.SET_REDRIVE_RATE, lambda store, task_id: store.set_redrive_rate(task_id, 50)),
    ],
    ids=["continue", "cancel", "set rate"],
)
def test_a_redrive_task_that_another_process_continued_meanwhile_is_left_to_it(
    dq: DurableQ, before: Before, statement: str, change: Callable[[Any, str], Any]
) -> None:
    store: Any = dq.store
    message_id = kill(store)
    task = store.start_redrive(DeadLetterFilter(), Requeue("again"), rate=5)
    before(statement, "UPDATE durableq_redrive_task SET tat_ns = 7")
    with pytest.raises(Conflict, match="Another process continued redrive task"):
        change(store, task.id)
    assert look(store, message_id).queue == DEAD
    assert store.redrive_task(task.id) == task


def test_a_stored_queue_has_the_columns_that_are_read() -> None:
    assert StoredQueue._fields == (*STORED_QUEUE, "dead_letter_limits")
    assert set(STORED_QUEUE) <= {column.name for column in queue.columns}
