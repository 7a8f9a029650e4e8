"""The hot verbs: send, receive, complete and extend in one round trip, beside each other.

Each calls a function of `functions`. What that declines, the shared operation does alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter, itemgetter
from typing import Any, Final

from durableq.engines.postgres.arrays import ByteStrings, Texts, Wholes
from durableq.engines.postgres.calls import call
from durableq.engines.postgres.database import Database
from durableq.engines.sql.receiving import Receiving
from durableq.engines.sql.releasing import Releasing
from durableq.engines.sql.sending import Sending
from durableq.engines.sql.settling import Settling
from durableq.model import codec
from durableq.model.limits import MAX_SEND_BATCH
from durableq.model.message import Draft

_flow: Final = attrgetter("flow")
_first: Final = itemgetter(0)


class HotVerbs(Sending, Receiving, Settling, Releasing):
    """The core of the store: hot where that is possible, shared otherwise."""

    _database: Database

    def send(self, queue: str, drafts: Sequence[Draft], *, connection: Any = None) -> list[str]:
        """Store a batch, or let it join the caller's transaction."""
        if connection is None and 0 < len(drafts) <= MAX_SEND_BATCH:
            ids = _send(self._database, queue, drafts)
            if ids is not None:
                return ids
        return super().send(queue, drafts, connection=connection)


def _send(database: Database, queue: str, drafts: Sequence[Draft]) -> list[str] | None:
    """Store a batch in a queue without limits; None: not done."""
    if any(map(_flow, drafts)):
        return None
    bodies, keys, hashes, attributes, delays, priorities, _ = zip(*drafts, strict=True)
    largest = max(len(body) if body.isascii() else codec.size(body) for body in bodies)
    answered = call(
        database,
        "send",
        queue,
        largest,
        database.channel,
        Texts(bodies),
        Texts(keys) if any(keys) else None,
        ByteStrings(hashes) if any(hashes) else None,
        Texts(attributes) if any(attributes) else None,
        None if delays.count(None) == len(delays) else Wholes(delays),
        Wholes(priorities) if any(priorities) else None,
    )
    if answered is None:
        return None
    ids = answered.rows[0][2]
    ids.sort()  # in the order of the drafts: they were taken in it
    return [*map(str, ids)]
