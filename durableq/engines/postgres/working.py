"""Completions and a receive in one call of the function `work`, and what it leaves to others."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any, Final, NamedTuple

from durableq.engines.postgres.arrays import byte_strings, text, texts, whole, wholes
from durableq.engines.postgres.calls import Answered, call, observe
from durableq.engines.postgres.database import Database
from durableq.engines.postgres.functions import DECLINED, FULL
from durableq.engines.postgres.looks import FROM_THE_START, Look, Looks
from durableq.engines.sql import receiving, settling
from durableq.engines.sql.reclaiming import stored_owner
from durableq.engines.sql.transactions import Token
from durableq.model.errors import DurableQError, OutcomeUnknown
from durableq.model.message import (
    FOREVER_MS,
    OVER_BUDGET_MS,
    Completion,
    Envelope,
    Message,
    Outcome,
    Receipt,
    Received,
    State,
    of_fields,
)
from durableq.runtime.clock import shift
from durableq.store.core import Receive

_receipt: Final = attrgetter("receipt")
_IN_FLIGHT: Final = State.IN_FLIGHT  # to look up a member takes 0.2 µs for each message
#: The receipts of each receive: queue, token, and where each message id stands among all.
Groups = list[tuple[str, Token, dict[int, int]]]
#: Columns of the first row of an answer.
_CLOCK, _NUMBERS, _DONE = 1, 11, 12
_NOTHING_RECEIVED: Final = Received([], [], 0)


class _Seen(NamedTuple):
    """The numbers of the head of the answer, in their order."""

    visibility_ms: int
    rank: int | None
    first_id: int | None
    now_ms: int
    lease_ms: int
    due_ms: int | None
    until_ms: int | None
    pages: int
    microseconds: int

    @property
    def wait_ms(self) -> int | None:
        """The time until a receive may bring a message; None: not known."""
        waits = []
        if self.due_ms is not None and self.due_ms < OVER_BUDGET_MS:
            waits.append(max(0, self.due_ms - self.now_ms))
        if self.until_ms is not None:
            waits.append(max(0, self.until_ms - self.lease_ms))
        return min(waits, default=None)


class Done(NamedTuple):
    """The outcomes of completions, and the answer of a receive."""

    outcomes: list[Outcome]
    received: Received | DurableQError


def work(
    database: Database, looks: Looks, completions: Sequence[Completion], wanted: Receive | None
) -> Done | None:
    """Complete, receive, or both; None: nothing was done. A receive that is served is alone.

    Raises:
        Busy, Conflict, OutcomeUnknown: as for `calls.call`.
    """
    ended: tuple[bytes | None, ...] = ()
    groups: Groups = []
    if completions:
        groups = settling.by_receive([*map(_receipt, completions)])
        lists = in_lists(groups)
        if lists is None:
            return None
        results = [completions[place].result for _, _, at in groups for place in at.values()]
        ended = *lists, texts(results) if any(results) else None
    if wanted is None:
        answered = call(database, "complete", *ended)
        if answered is None:
            return None
        clock_ms, lost, *done = answered.numbers
        observe(database, clock_ms)
        return Done(_outcomes(database, completions, groups, lost, done), _NOTHING_RECEIVED)
    look, token = looks.next(wanted.queue), receiving.new_token()
    terms = _terms(database, wanted, look, token)
    alone = "receive" if wanted.served is None else "serve"
    answered = call(database, "work" if completions else alone, *ended, *terms)
    if answered is None:
        return None
    head = answered.rows[0]
    observe(database, head[_CLOCK])
    outcomes = []
    if completions:
        lost, done = head[_NUMBERS][1], head[_DONE] or []
        outcomes = _outcomes(database, completions, groups, lost, done)
    return Done(outcomes, _received(database, looks, wanted, (look, token), answered))


def in_lists(groups: Groups) -> tuple[bytes, bytes, bytes, bytes] | None:
    """Return queues, tokens, ends and ids as a function takes them; None: it cannot."""
    ids = [message_id for *_, at in groups for message_id in at]
    if not ids or len({*ids}) != len(ids):
        return None
    ends, end = [], 0
    for *_, at in groups:
        end += len(at)
        ends.append(end)
    queues, tokens, _ = zip(*groups, strict=True)
    return texts(queues), byte_strings(tokens), wholes(ends), wholes(ids)


# ---- completions


def _outcomes(
    database: Database,
    completions: Sequence[Completion],
    groups: Groups,
    lost: int,
    done: list[int],
) -> list[Outcome]:
    """Return the outcomes; the shared operation says why a receipt was refused.

    Args:
        database: the schema.
        completions: of the call.
        groups: their receipts.
        lost: the number of records that were not there.
        done: the ids of the messages that have ended.
    """
    if lost:
        names = ", ".join(dict.fromkeys(queue for queue, *_ in groups))
        settling.warn_lost(names, lost, len(done))
    if len(done) == len(completions):
        return [Outcome.DONE] * len(done)
    places = {message_id: place for *_, at in groups for message_id, place in at.items()}
    ended = {places[message_id] for message_id in done}
    others = [place for place in range(len(completions)) if place not in ended]
    outcomes = [Outcome.DONE] * len(completions)
    judged = _judge(database, [completions[place] for place in others], is_first=not done)
    for place, outcome in zip(others, judged, strict=True):
        outcomes[place] = outcome
    return outcomes


def _judge(
    database: Database, completions: Sequence[Completion], *, is_first: bool
) -> list[Outcome]:
    try:
        return database.run(settling.complete, completions)
    except DurableQError as error:
        if is_first:
            raise
        raise OutcomeUnknown(
            f"Some messages were completed; why the others were not is unknown ({error}). Repeat "
            "the call with the same keys or receipts; that is safe."
        ) from error


# ---- a receive


def _terms(
    database: Database, wanted: Receive, look: Look, token: Token
) -> tuple[bytes | None, ...]:
    """Return the arguments of a receive."""
    owner = stored_owner(wanted.owner_id) if wanted.owner_id else database.owner_outside
    return (
        text(wanted.queue),
        whole(wanted.limit),
        whole(wanted.visibility_ms),
        bytes(token),
        whole(owner),
        *map(whole, look),
    )


def _received(
    database: Database,
    looks: Looks,
    wanted: Receive,
    begun: tuple[Look, Token],
    answered: Answered,
) -> Received | DurableQError:
    """Return the answer of a receive, to which the shared operation may add.

    Args:
        database: the schema.
        looks: where looks begin.
        wanted: the receive.
        begun: where this look began, and the token of its receipts.
        answered: the answer of the function.
    """
    head, *rows = answered.rows
    says, _, *numbers = head[_NUMBERS]
    if not numbers:  # it has not looked: the queue is paused, or something is due
        return _rest(database, wanted, [])
    seen = _Seen(*numbers)
    look, token = begun
    if seen.first_id is not None and seen.rank is not None:
        found = Look(seen.rank, seen.first_id, seen.now_ms, seen.lease_ms)
        looks.note(wanted.queue, look, found, seen.pages, seen.microseconds / 1e6)
    elif look != FROM_THE_START:
        looks.forget(wanted.queue)
        again = work(database, looks, (), wanted)
        return _rest(database, wanted, []) if again is None else again.received
    messages = _messages(wanted.queue, token.hex(), seen.visibility_ms, rows)
    messages = shift(messages, answered.moment.offset_ms)
    if says & DECLINED:
        return _rest(database, wanted, messages)
    more = bool(says & FULL)
    return Received(messages, [], 0, more, None if messages or more else seen.wait_ms)


def _messages(
    queue: str, token: str, visibility_ms: int, rows: Sequence[tuple[Any, ...]]
) -> list[Message]:
    messages = []
    for row in rows:
        id_, sent, body, key, attributes, priority, received, recovered, enqueued, *rest = row
        group, expires_at_ms, _, _, *envelope = rest
        message_id = str(id_)
        fields = (
            message_id,
            queue,
            body,
            key,
            attributes,
            priority,
            _IN_FLIGHT,
            received,
            recovered,
            sent,
            enqueued,
            0,
            visibility_ms,
            None,
            of_fields(Receipt, (queue, message_id, token)),
            group,
            None if expires_at_ms == FOREVER_MS else expires_at_ms,
            Envelope(*envelope) if envelope else None,
        )
        messages.append(of_fields(Message, fields))
    return messages


def _rest(database: Database, wanted: Receive, messages: list[Message]) -> Received | DurableQError:
    """Let the shared operation receive behind these messages, which are leased."""
    limit = wanted.limit - len(messages)
    of_queue = wanted.queue, limit, wanted.visibility_ms, wanted.owner_id
    try:
        if wanted.served is None:
            rest = database.run(receiving.receive, *of_queue)
        else:
            rest = database.run(receiving.receive_served, *of_queue, None, None, wanted.served)
    except DurableQError as error:
        return Received(messages, [], 0, more=True) if messages else error
    return rest._replace(messages=messages + rest.messages) if messages else rest
