"""The message table with the columns of all planned features; counters in a table of their own.

The message table is rebuilt: a column behind a large body is slow to read. Indexes and triggers of
an application on that table are made again. The upgrade is one transaction, as each migration.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.types import UserDefinedType

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
FOREVER_MS = (1 << 47) - 1
OWNER_BASE = 1 << 40
COUNTERS = [
    "sent",
    "moved_in",
    "moved_out",
    "completed",
    "duplicates",
    "discarded",
    "expired",
    "purged",
]
#: The value of each column that is new or that is not copied as it is.
NEW_VALUES = {
    "rank": "-priority",
    "first_received_at_ms": str(FOREVER_MS),
    "retention_from_ms": "max(enqueued_at_ms, delayed_until_ms)",
    "expires_at_ms": str(FOREVER_MS),
    "debounce_until_ms": "0",
    "owner_id": str(OWNER_BASE),
    "body_bytes": "length(CAST(body AS BLOB))",
    "body_format": "0",
    "sequence": "0",
    "group_id": "NULL",
    "replace_key": "NULL",
    "sqs_id": "NULL",
    "system_attributes": "NULL",
}
#: Indexes and triggers on the table that are not ours, whatever their names begin with.
OF_AN_APPLICATION = """\
SELECT sql FROM sqlite_schema
WHERE lower(tbl_name) = 'durableq_message' AND type IN ('index', 'trigger') AND sql IS NOT NULL
    AND name NOT IN (
        'durableq_message_ready', 'durableq_message_delayed', 'durableq_message_leased',
        'durableq_message_deferred', 'durableq_message_dead'
    )"""
#: Also of a file whose row of sqlite_sequence is gone, or behind.
LAST_ID = """\
SELECT max(id) FROM (
    SELECT coalesce(max(id), 0) AS id FROM durableq_message
    UNION ALL SELECT seq FROM sqlite_sequence WHERE name = 'durableq_message'
)"""


class AnyType(UserDefinedType[Any]):
    """SQLite's ANY."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        """Return the type's name in a STRICT table."""
        return "ANY"


def whole(name: str, **options: Any) -> sa.Column[int]:
    """Return a column of whole numbers."""
    return sa.Column(name, WHOLE, nullable=False, **options)


def text(name: str) -> sa.Column[str]:
    """Return a column of text, NULL where there is none."""
    return sa.Column(name, sa.Text)


def upgrade() -> None:
    """Rebuild the messages, move the counters, name the hosts of workers, rename two tables."""
    with renaming_changes_no_reference():
        rebuild_messages()
    move_counters()
    op.execute("ALTER TABLE durableq_worker RENAME COLUMN in_hand TO in_flight")
    op.add_column(
        "durableq_worker", sa.Column("host_id", sa.Text, nullable=False, server_default="")
    )
    rename_moves()


def downgrade() -> None:
    """Refuse: a queue is restored from a backup, not downgraded."""
    raise NotImplementedError


@contextmanager
def renaming_changes_no_reference() -> Iterator[None]:
    """Let views and foreign keys that name a table mean the later table of that name."""
    op.execute("PRAGMA legacy_alter_table = ON")
    try:
        yield
    finally:
        op.execute("PRAGMA legacy_alter_table = OFF")


def rebuild_messages() -> None:
    """Copy the messages in order of id; the sequence of ids continues."""
    connection = op.get_bind()
    last_id = connection.execute(sa.text(LAST_ID)).scalar_one()
    theirs = connection.execute(sa.text(OF_AN_APPLICATION)).scalars().all()
    for name in ("ready", "delayed", "leased", "deferred", "dead"):
        op.drop_index(f"durableq_message_{name}")
    op.rename_table("durableq_message", "durableq_message_0004")
    names = [column.name for column in create_message().columns]
    refuse_other_columns(connection, names)
    values = [NEW_VALUES.get(name, f'"{name}"') for name in names]
    columns = ", ".join(f'"{name}"' for name in names)
    op.execute(
        f"INSERT INTO durableq_message ({columns}) "  # noqa: S608 - constants
        f"SELECT {', '.join(values)} FROM durableq_message_0004 ORDER BY id"
    )
    op.execute("DROP TABLE durableq_message_0004")
    connection.execute(sa.text("DELETE FROM sqlite_sequence WHERE name = 'durableq_message'"))
    connection.execute(
        sa.text("INSERT INTO sqlite_sequence (name, seq) VALUES ('durableq_message', :last_id)"),
        {"last_id": last_id},
    )
    create_indexes()
    name_owners(connection)
    for statement in theirs:
        connection.exec_driver_sql(statement)


def refuse_other_columns(connection: sa.Connection, names: list[str]) -> None:
    """Refuse to drop data that durableq did not store.

    Raises:
        ValueError: the old table has a column that an application added.
    """
    before = connection.exec_driver_sql("PRAGMA table_xinfo(durableq_message_0004)").all()
    others = [row[1] for row in before if row[1] not in names]
    if others:
        raise ValueError(
            "an application added columns to durableq_message, which is rebuilt without them: "
            + ", ".join(others)
        )


def create_message() -> sa.Table:
    """Make the table of messages."""
    numbers = (
        "queue_id state rank priority deferred receive_count recovery_count lease_until_ms "
        "delayed_until_ms enqueued_at_ms sent_at_ms first_received_at_ms retention_from_ms "
        "expires_at_ms debounce_until_ms"
    )
    return op.create_table(
        "durableq_message",
        sa.Column("id", WHOLE, primary_key=True, nullable=False),
        *map(whole, numbers.split()),
        sa.Column("receipt", sa.LargeBinary, nullable=False),
        *map(whole, ["owner_id", "body_bytes", "body_format", "sequence"]),
        sa.Column("source_queue_id", WHOLE),
        *map(text, ["group_id", "replace_key", "key"]),
        sa.Column("payload_hash", sa.LargeBinary),
        *map(text, ["sqs_id", "attributes", "system_attributes"]),
        sa.Column("body", sa.LargeBinary().with_variant(AnyType(), "sqlite"), nullable=False),
        sa.CheckConstraint("state IN (0, 1, 2, 3)", name="durableq_message_state"),
        sa.CheckConstraint("length(receipt) = 16", name="durableq_message_receipt"),
        sa.CheckConstraint(
            "(key IS NULL) = (payload_hash IS NULL)", name="durableq_message_key_has_hash"
        ),
        sa.CheckConstraint(
            "length(CAST(body AS BLOB)) <= 67108864", name="durableq_message_body_size"
        ),
        sqlite_autoincrement=True,
        sqlite_strict=True,
    )


def create_indexes() -> None:
    """Make the indexes of messages, after the copy: sorting is faster than inserting."""
    index("ready", ["queue_id", "rank", "id"], "state = 0")
    index("delayed", ["queue_id", "delayed_until_ms"], "state = 2")
    index("leased", ["queue_id", "lease_until_ms"], "state = 1")
    index("deferred", ["queue_id", "key"], '"deferred" = 1')
    index("dead", ["id"], "source_queue_id IS NOT NULL")


def index(name: str, columns: list[str], where: str) -> None:
    """Make a partial index of messages."""
    op.create_index(
        f"durableq_message_{name}", "durableq_message", columns, sqlite_where=sa.text(where)
    )


def name_owners(connection: sa.Connection) -> None:
    """Enter the owner of each leased message: its receipt began with it. Receipts stay valid."""
    starts = "SELECT DISTINCT substr(receipt, 1, 4) FROM durableq_message WHERE state = 1"
    for start in connection.execute(sa.text(starts)).scalars().all():
        connection.execute(
            sa.text(
                "UPDATE durableq_message SET owner_id = :owner "
                "WHERE state = 1 AND substr(receipt, 1, 4) = :start"
            ),
            {"owner": OWNER_BASE + int.from_bytes(start, "big"), "start": start},
        )


def move_counters() -> None:
    """Move the counters of queues into their own table."""
    op.create_table(
        "durableq_counters",
        sa.Column("queue_id", WHOLE, primary_key=True, nullable=False),
        *(whole(name, server_default="0") for name in COUNTERS),
        sqlite_strict=True,
    )
    names = ", ".join(COUNTERS)
    op.execute(
        f"INSERT INTO durableq_counters (queue_id, {names}) "  # noqa: S608 - constants
        f"SELECT id, {names} FROM durableq_queue"
    )
    for name in COUNTERS:
        op.execute(f"ALTER TABLE durableq_queue DROP COLUMN {name}")


def rename_moves() -> None:
    """Name the table of redrive tasks, and their decisions, as all of durableq does."""
    op.execute("ALTER TABLE durableq_move RENAME TO durableq_redrive_task")
    op.execute("ALTER TABLE durableq_redrive_task RENAME COLUMN verdict TO decision")
    connection = op.get_bind()
    tasks = connection.execute(sa.text("SELECT id, decision FROM durableq_redrive_task")).all()
    for task_id, decision in tasks:
        fields = json.loads(decision)
        renamed = json.dumps({"name": fields.pop("word"), **fields})
        connection.execute(
            sa.text("UPDATE durableq_redrive_task SET decision = :renamed WHERE id = :id"),
            {"renamed": renamed, "id": task_id},
        )
