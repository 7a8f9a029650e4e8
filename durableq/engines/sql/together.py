"""Several operations in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from durableq.engines.sql import receiving, releasing, sending, settling
from durableq.engines.sql.transactions import AllOrNothing, WriteTransaction
from durableq.model.errors import DurableQError
from durableq.model.message import Outcome, Received
from durableq.store.core import Answer, Call, Extend, Receive, Release, Send, Settle


def together(tx: WriteTransaction, calls: Sequence[Call]) -> list[Answer]:
    """Run the calls in order; return their answers, or the errors of durableq."""
    return [attempt(tx, _perform, call) for call in calls]


def attempt(tx: WriteTransaction, operation: Callable[..., Any], *arguments: Any) -> Any:
    """Run one operation of several in a transaction; return its answer, or the error of durableq.

    An error undoes the operation alone, unless it has ended the transaction: then it is raised.
    """
    try:
        with AllOrNothing(tx):
            answer = operation(tx, *arguments)
            tx.write_counters()
    except DurableQError as error:
        if not tx.raw.in_transaction:
            raise
        return error
    return answer


def _perform(tx: WriteTransaction, call: Call) -> list[str] | Received | list[Outcome]:
    match call:
        case Send(queue, drafts):
            return sending.send(tx, queue, drafts)
        case Receive(queue, limit, visibility_ms, owner_id, by_group, gather, served):
            terms = visibility_ms, owner_id, False if by_group else None, gather
            if served is not None:
                return receiving.receive_served(tx, queue, limit, *terms, served)
            return receiving.receive(tx, queue, limit, *terms)
        case Extend(receipts, visibility_ms):
            return releasing.extend(tx, receipts, visibility_ms)
        case Settle(completions, failures, actor):
            return settling.settle(tx, completions, failures, actor)
        case Release(receipts):
            return releasing.release(tx, receipts)
