"""The table of redrive tasks."""

from __future__ import annotations

from sqlalchemy import Column, Index, Table, literal_column

from durableq.engines.sql.definitions.kinds import REAL, TEXT, WHOLE, counter, partial, whole
from durableq.engines.sql.definitions.tables import metadata

redrive_task = Table(
    "durableq_redrive_task",
    metadata,
    # AUTOINCREMENT: the id of a task that was forgotten is not another's.
    Column("id", WHOLE, primary_key=True, nullable=False),
    Column("state", TEXT, nullable=False),
    Column("wanted", TEXT, nullable=False),
    Column("decision", TEXT, nullable=False),
    Column("to_queue", TEXT),
    Column("actor", TEXT, nullable=False),
    # Messages that came to their queue by a later event of the history are not meant.
    whole("last_event"),
    # The last message that was decided about. In a whole queue it had this rank.
    whole("cursor"),
    whole("total"),
    whole("moved"),
    whole("skipped"),
    whole("started_at_ms"),
    whole("updated_at_ms"),
    # Messages a second, 0 for no limit, and the theoretical arrival time of its next.
    Column("rate", REAL, nullable=False, server_default="0"),
    counter("tat_ns"),
    # Messages with a higher id were sent later, and are not meant.
    counter("last_message"),
    counter("cursor_rank"),
    # The queue all of whose messages are meant; NULL: dead letters by a filter, `wanted`.
    Column("queue_id", WHOLE),
    Column("failure", TEXT, nullable=False, server_default=""),
    sqlite_autoincrement=True,
    sqlite_strict=True,
)
# One task of a whole queue runs at a time, whichever processes start them.
Index(
    "durableq_redrive_task_running",
    redrive_task.c.queue_id,
    unique=True,
    **partial(redrive_task.c.state == literal_column("'running'")),
)
