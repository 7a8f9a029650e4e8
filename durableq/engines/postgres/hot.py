"""The hot verbs: send, receive, complete and extend in one round trip, beside each other.

Each calls a function of `functions`. What that declines, the shared operation does alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any, Final

from durableq.engines.postgres.arrays import byte_strings, text, texts, whole, wholes
from durableq.engines.postgres.calls import call, fold_in_turn, notify, observe
from durableq.engines.postgres.database import Database
from durableq.engines.postgres.looks import Looks
from durableq.engines.postgres.working import Done, in_lists, work
from durableq.engines.sql import releasing
from durableq.engines.sql.receiving import Receiving
from durableq.engines.sql.releasing import Releasing
from durableq.engines.sql.sending import Sending
from durableq.engines.sql.settling import Settling, by_receive
from durableq.engines.sql.together import together
from durableq.model import codec
from durableq.model.drafts import DraftFlow, Envelope
from durableq.model.errors import DurableQError
from durableq.model.limits import MAX_RECEIVE, MAX_SEND_BATCH, MAX_VISIBILITY_MS
from durableq.model.message import (
    Completion,
    Draft,
    Failure,
    Gather,
    Outcome,
    Receipt,
    Received,
    Served,
)
from durableq.store.core import Answer, Call, Receive, Send, Settle

_flow: Final = attrgetter("flow")
_NO_FLOW: Final = DraftFlow()
_NO_ENVELOPE: Final = Envelope()
#: Of envelopes, as a function takes them.
_Arrays = tuple[bytes | None, bytes | None]
_NO_ENVELOPES: Final[_Arrays] = (None, None)
#: A receive for the SQS endpoint that is no batch of groups, and cannot be repeated.
_PLAINLY: Final = Served()


class HotVerbs(Sending, Receiving, Settling, Releasing):
    """The core of the store: hot where that is possible, shared otherwise."""

    _database: Database

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._looks = Looks()

    def send(self, queue: str, drafts: Sequence[Draft], *, connection: Any = None) -> list[str]:
        """Store a batch, or let it join the caller's transaction."""
        if connection is None and 0 < len(drafts) <= MAX_SEND_BATCH:
            ids = _send(self._database, queue, drafts)
            if ids is not None:
                return ids
        return super().send(queue, drafts, connection=connection)

    def receive(
        self,
        queue: str,
        limit: int,
        *,
        visibility_ms: int | None = None,
        owner_id: int = 0,
        wait_ms: int = 0,
        by_group: bool = False,
        gather: Gather | None = None,
        served: Served | None = None,
    ) -> Received:
        """Lease ready messages, or wait for one."""
        wanted = Receive(queue, limit, visibility_ms, owner_id, by_group, gather, served)
        if type(wait_ms) is int and not wait_ms and _is_plain(wanted):
            done = self._work((), wanted)
            if done is not None:
                if isinstance(done.received, DurableQError):
                    raise done.received
                return done.received
        return super().receive(
            queue,
            limit,
            visibility_ms=visibility_ms,
            owner_id=owner_id,
            wait_ms=wait_ms,
            by_group=by_group,
            gather=gather,
            served=served,
        )

    def complete(self, completions: Sequence[Completion]) -> list[Outcome]:
        """End messages in success."""
        done = self._work(completions, None) if completions else None
        return super().complete(completions) if done is None else done.outcomes

    def settle(
        self,
        completions: Sequence[Completion],
        failures: Sequence[tuple[Receipt, Failure]],
        *,
        actor: str = "",
    ) -> list[Outcome]:
        """Complete and fail."""
        if failures:
            return super().settle(completions, failures, actor=actor)
        return self.complete(completions)

    def extend(self, receipts: Sequence[Receipt], visibility_ms: int) -> list[Outcome]:
        """Let leases end later."""
        outcomes = None
        if receipts and _is_whole(visibility_ms, MAX_VISIBILITY_MS):
            outcomes = _extend(self._database, receipts, visibility_ms)
        return super().extend(receipts, visibility_ms) if outcomes is None else outcomes

    def together(self, calls: Sequence[Call]) -> list[Answer]:
        """Run several operations in one transaction."""
        answers: list[Answer] = []
        match calls:
            case [Send(queue, [_, *_] as drafts)] if len(drafts) <= MAX_SEND_BATCH:
                ids = _send(self._database, queue, drafts)
                answers = [] if ids is None else [ids]
            case [Settle([_, *_] as completions, [])]:
                done = self._work(completions, None)
                answers = [] if done is None else [done.outcomes]
            case [Receive() as wanted] if _is_plain(wanted):
                done = self._work((), wanted)
                answers = [] if done is None else [done.received]
            case [
                Settle([_, *_] as completions, []),
                Receive(served=None) as wanted,
            ] if _is_plain(wanted):
                done = self._work(completions, wanted)
                answers = [] if done is None else [done.outcomes, done.received]
        return answers or self._database.run(together, calls)

    def _work(self, completions: Sequence[Completion], wanted: Receive | None) -> Done | None:
        return work(self._database, self._looks, completions, wanted)


def _is_plain(wanted: Receive) -> bool:
    """Return whether a function can do a receive; the shared operation explains bad arguments."""
    visibility_ms = wanted.visibility_ms
    return (
        not wanted.by_group
        and wanted.gather is None
        and wanted.served in (None, _PLAINLY)
        and _is_whole(wanted.limit, MAX_RECEIVE)
        and (visibility_ms is None or _is_whole(visibility_ms, MAX_VISIBILITY_MS))
        and type(wanted.owner_id) is int
        and wanted.owner_id >= 0
    )


def _is_whole(number: object, most: int) -> bool:
    return type(number) is int and 1 <= number <= most


def _extend(
    database: Database, receipts: Sequence[Receipt], visibility_ms: int
) -> list[Outcome] | None:
    """Extend leases; None: not done."""
    groups = by_receive(receipts)
    lists = in_lists(groups)
    answered = None if lists is None else call(database, "extend", *lists, whole(visibility_ms))
    if answered is None:
        return None
    clock_ms, *done_ids = answered.numbers
    observe(database, clock_ms)
    done = {*done_ids}
    longer = {place for *_, at in groups for message_id, place in at.items() if message_id in done}
    others = [place for place in range(len(receipts)) if place not in longer]
    outcomes = [Outcome.DONE] * len(receipts)
    if others:  # the shared operation says why
        refused = [receipts[place] for place in others]
        judged = database.run(releasing.extend, refused, visibility_ms)
        for place, outcome in zip(others, judged, strict=True):
            outcomes[place] = outcome
    return outcomes


def _send(database: Database, queue: str, drafts: Sequence[Draft]) -> list[str] | None:
    """Store a batch in a queue without limits; None: not done."""
    envelopes = _envelopes(drafts) if any(map(_flow, drafts)) else _NO_ENVELOPES
    if envelopes is None:
        return None
    bodies, keys, hashes, attributes, delays, priorities, _ = zip(*drafts, strict=True)
    largest = max(len(body) if body.isascii() else codec.size(body) for body in bodies)
    answered = call(
        database,
        "send",
        text(queue),
        whole(largest),
        texts(bodies),
        texts(keys) if any(keys) else None,
        byte_strings(hashes) if any(hashes) else None,
        texts(attributes) if any(attributes) else None,
        None if delays.count(None) == len(delays) else wholes(delays),
        wholes(priorities) if any(priorities) else None,
        *envelopes,
    )
    if answered is None:
        return None
    has_listeners, clock_ms, *ids = answered.numbers
    observe(database, clock_ms)
    if has_listeners:
        notify(database)
    ids.sort()  # in the order of the drafts: they were taken in it
    fold_in_turn(database, ids)
    return [*map(str, ids)]


def _envelopes(drafts: Sequence[Draft]) -> _Arrays | None:
    """Return the formats of bodies and the system attributes; None: a draft has other options."""
    flows = [draft.flow or _NO_FLOW for draft in drafts]
    if any(flow._replace(envelope=None) != _NO_FLOW for flow in flows):
        return None
    formats, system_attributes, *_ = zip(
        *(flow.envelope or _NO_ENVELOPE for flow in flows), strict=True
    )
    return (
        wholes(formats) if any(formats) else None,
        texts(system_attributes) if any(system_attributes) else None,
    )
