"""The statements of a step of a redrive task: few for each message, and none for each queue.

Steps that end when their time is over are in the contract of engines; the callers that take such
steps have tests of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from durableq import DurableQ, Requeue
from durableq.engines.sql.redrive_steps import PAGE
from durableq.engines.sqlite.store import SQLStore
from durableq.model.dead_letters import DeadLetterFilter, WholeQueue
from durableq.model.message import Failure, Reason, draft
from durableq.store.core import Capability

#: The end of its group in the target, and two looks at that; the message; its place in its group;
#: its event, and how many it has.
STATEMENTS_OF_A_FIFO_MOVE = 7
#: The next messages; they become ready; those that were blocked; their leases.
STATEMENTS_OF_A_PAGE = 4


def statements(dq: DurableQ, operation: Callable[[], object]) -> list[str]:
    """Return the statements of an operation."""
    store = dq.store
    assert isinstance(store, SQLStore)
    raw: Any = store._database.session().raw
    found: list[str] = []
    raw.set_trace_callback(found.append)
    try:
        operation()
    finally:
        raw.set_trace_callback(None)
    return found


def step(dq: DurableQ, wanted: DeadLetterFilter | WholeQueue, limit: int) -> list[str]:
    """Return the statements of a step that moves so many messages."""
    redrive = dq.store.require(Capability.REDRIVE)
    target = "repaired" if isinstance(wanted, WholeQueue) else None
    task = redrive.start_redrive(wanted, Requeue(), to_queue=target)
    found = statements(dq, lambda: redrive.continue_redrive(task.id, limit))
    assert redrive.cancel_redrive(task.id).moved == limit
    return found


def test_a_message_costs_few_statements_to_move_between_fifo_queues(dq: DurableQ) -> None:
    for queue in ("failed", "repaired"):
        dq.store.declare_queue(queue, {"group_concurrency": 1, "bury_at": 1})
        dq.store.send(queue, [draft(n, group=f"g{n % 50}") for n in range(200)])
    all_of_it = WholeQueue("failed")
    one, two = (len(step(dq, all_of_it, pages * PAGE)) for pages in (1, 2))
    assert two - one == STATEMENTS_OF_A_PAGE + PAGE * STATEMENTS_OF_A_FIFO_MOVE


def test_a_step_looks_at_no_queue_without_leased_dead_letters(dq: DurableQ) -> None:
    def die() -> None:
        queue = dq.queue("orders", max_receives=1)
        queue.send("a")
        (delivery,) = queue.receive(1)
        dq.store.fail([(delivery.receipt, Failure(Reason.HANDLER_ERROR, "E", "e"))], actor="test")

    die()
    among_few = step(dq, DeadLetterFilter(), 1)
    for number in range(20):
        dq.store.declare_queue(f"other-{number}", {})
    die()
    assert len(step(dq, DeadLetterFilter(), 1)) == len(among_few)
