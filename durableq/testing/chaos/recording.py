"""The sends and receives of the queues with limits, as the database itself records them.

A trigger writes a row for each stored message: how many its queue had then. Another writes one for
each receive, in its transaction: its time on the lease clock, and the numbers in flight just then.
So a receive is known also if its worker was killed before its handler began, and no time of a
process stands between. All is read by plain statements of the driver.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Final, NamedTuple

from durableq.client.app import DurableQ
from durableq.demo import reading
from durableq.model.settings import Limits
from durableq.testing.chaos.limited import QUEUES

_QUEUES: Final = "('calls', 'steps', 'parcels')"
# In both databases. Numbers of states: 1 is in flight, 3 is blocked.
_TABLES: Final = (
    """
CREATE TABLE chaos_effect (
    id {id} PRIMARY KEY, queue TEXT, message_id TEXT, receipt TEXT, place TEXT
)""",
    """
CREATE TABLE chaos_receive (
    id {id} PRIMARY KEY, queue TEXT, message_id TEXT, receipt {bytes}, at_ms BIGINT,
    in_flight BIGINT, in_group BIGINT, breaker BIGINT, group_id TEXT, receive_count BIGINT
)""",
    "CREATE TABLE chaos_stored (id {id} PRIMARY KEY, queue TEXT, message_id TEXT, present BIGINT)",
)
_SENT: Final = f"""
    INSERT INTO chaos_stored (queue, message_id, present)
    SELECT name, CAST(NEW.id AS TEXT),
        (SELECT count(*) FROM durableq_message WHERE queue_id = NEW.queue_id)
    FROM durableq_queue WHERE id = NEW.queue_id AND name IN {_QUEUES};"""  # noqa: S608 - constants
_RECEIVED: Final = f"""
    INSERT INTO chaos_receive
        (queue, message_id, receipt, at_ms, in_flight, in_group, breaker, group_id, receive_count)
    SELECT q.name, CAST(NEW.id AS TEXT), NEW.receipt,
        NEW.lease_until_ms - q.visibility_timeout_ms,
        (SELECT count(*) FROM durableq_message WHERE queue_id = q.id AND state = 1),
        (SELECT count(*) FROM durableq_message
            WHERE queue_id = q.id AND state = 1 AND group_id = NEW.group_id),
        (SELECT breaker_phase FROM durableq_flow WHERE queue_id = NEW.queue_id), NEW.group_id,
        NEW.receive_count
    FROM durableq_queue AS q WHERE q.id = NEW.queue_id AND q.name IN {_QUEUES};"""  # noqa: S608
_WHEN: Final = (
    ("chaos_sent", "AFTER INSERT ON durableq_message", "", _SENT),
    (
        "chaos_received",
        "AFTER UPDATE OF receipt ON durableq_message",
        "WHEN (NEW.state = 1 AND NEW.receipt <> OLD.receipt)",
        _RECEIVED,
    ),
)
_RECEIVES: Final = """
SELECT queue, message_id, receipt, at_ms, in_flight, in_group, breaker, group_id, receive_count
FROM chaos_receive ORDER BY id"""
_EFFECTS: Final = "SELECT queue, message_id, receipt, place FROM chaos_effect ORDER BY id"
_STORED: Final = "SELECT queue, message_id, present FROM chaos_stored ORDER BY id"
_PHASES: Final = """
SELECT q.name, h.detail FROM durableq_history AS h JOIN durableq_queue AS q ON q.id = h.queue_id
WHERE h.event = 'breaker' ORDER BY h.id"""
_STANDS: Final = f"""
SELECT q.name, CASE WHEN q.limits & {int(Limits.IN_FLIGHT)} <> 0 THEN c.in_flight END,
    coalesce(f.breaker_phase, 0),
    (SELECT count(*) FROM durableq_message AS m WHERE m.queue_id = q.id AND m.state = 1)
FROM durableq_queue AS q JOIN durableq_counters AS c ON c.queue_id = q.id
LEFT JOIN durableq_flow AS f ON f.queue_id = q.id
WHERE q.name IN ('calls', 'steps', 'parcels')"""  # noqa: S608 - the number of a bit
#: Messages in flight, the newest receive first; and whether others of its group wait behind it.
_HOLDERS: Final = """
SELECT r.message_id, r.receipt, EXISTS (
    SELECT 1 FROM durableq_message AS other
    WHERE other.queue_id = m.queue_id AND other.group_id = m.group_id AND other.state = 3
)
FROM chaos_receive AS r JOIN durableq_message AS m
    ON m.id = CAST(r.message_id AS BIGINT) AND m.state = 1 AND m.receipt = r.receipt
WHERE r.queue = ? ORDER BY r.id DESC"""
CLOSED, OPEN, HALF_OPEN = range(3)


class Receive(NamedTuple):
    """A receive of a message."""

    queue: str
    message_id: str
    receipt: str
    #: On the lease clock.
    at_ms: int
    #: Messages of the queue, and of the group, that were in flight then, this one counted.
    in_flight: int
    in_group: int
    #: The phase of the queue's circuit breaker.
    breaker: int
    group: str | None
    #: Counted receives of the message, this one included.
    receive_count: int


class Stored(NamedTuple):
    """A message that a send stored."""

    queue: str
    message_id: str
    #: Messages in the queue then, this one included.
    present: int


class Effect(NamedTuple):
    """The effect of a completed message; those of a group are in the order of the commits."""

    queue: str
    message_id: str
    receipt: str
    #: GROUP:NUMBER.
    place: str


class Stand(NamedTuple):
    """A queue at a moment, in one read."""

    queue: str
    #: Messages in flight by the queue's counter, if it keeps one.
    counter: int | None
    breaker: int
    in_flight: int


class Holder(NamedTuple):
    """A message in flight."""

    message_id: str
    receipt: str
    #: Whether others of its group wait behind it.
    is_head: bool


class Recording(NamedTuple):
    """The facts about the queues with limits in the final database."""

    file: reading.File
    receives: list[Receive]
    effects: list[Effect]
    #: The phases of each breaker, by queue, with their reasons.
    phases: list[tuple[str, str, str]]
    stands: list[Stand]
    stored: list[Stored]


def prepare(shop: DurableQ, *, checks_indexes: bool = False) -> None:
    """Create the tables of effects, sends and receives, and the triggers.

    Args:
        shop: the application on the database.
        checks_indexes: whether the server is to check its indexes at the end.
    """
    with shop.engine.begin() as connection:
        is_postgres = shop.engine.dialect.name == "postgresql"
        if checks_indexes:
            connection.exec_driver_sql("CREATE EXTENSION amcheck")
        number = "BIGINT GENERATED ALWAYS AS IDENTITY" if is_postgres else "INTEGER"
        kinds = {"id": number, "bytes": "BYTEA" if is_postgres else "BLOB"}
        for text in _TABLES:
            connection.exec_driver_sql(text.format_map(kinds))
        for name, event, condition, action in _WHEN:
            for text in _trigger(name, event, condition, action, is_postgres=is_postgres):
                connection.exec_driver_sql(text)


def _trigger(
    name: str, event: str, condition: str, action: str, *, is_postgres: bool
) -> Iterator[str]:
    """Yield the statements that create a trigger."""
    if not is_postgres:
        yield f"CREATE TRIGGER {name} {event} FOR EACH ROW {condition} BEGIN {action} END"
        return
    yield (
        f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN {action} RETURN NULL; END $$"
    )
    yield (f"CREATE TRIGGER {name} {event} FOR EACH ROW {condition} EXECUTE FUNCTION {name}()")


def read(place: str) -> Recording:
    """Read the database at its end; `place` is as for `reading.connect`."""
    with closing(reading.connect(place)) as reader:
        phases = [(queue, json.loads(detail)) for queue, detail in reader.rows(_PHASES)]
        return Recording(
            reading.read(place, QUEUES),
            [Receive(*row) for row in reader.rows(_RECEIVES)],
            [Effect(*row) for row in reader.rows(_EFFECTS)],
            [(queue, detail["phase"], detail["reason"]) for queue, detail in phases],
            [Stand(*row) for row in reader.rows(_STANDS)],
            [Stored(*row) for row in reader.rows(_STORED)],
        )


class Watch:
    """Reads the database while it is used.

    Args:
        place: as for `reading.connect`.
    """

    def __init__(self, place: str) -> None:
        self.reader: Final = reading.connect(place)
        #: Each look at each queue.
        self.stands: list[Stand] = []

    def look(self) -> None:
        """Read how the queues stand."""
        self.stands += [Stand(*row) for row in self.reader.rows(_STANDS)]

    def stand(self, queue: str) -> Stand:
        """Return how a queue stood at the last look."""
        return next(stand for stand in reversed(self.stands) if stand.queue == queue)

    def holders(self, queue: str) -> list[Holder]:
        """Return the messages in flight, the newest receive first."""
        return [Holder(*row) for row in self.reader.rows(_HOLDERS, queue)]

    def close(self) -> None:
        """Close its connection."""
        self.reader.close()
