"""Fingerprints of failures, redrive tasks, paused queues, statistics of workers.

Columns are added last, in place: no table is rebuilt, so the sequences continue. Existing dead
letters get the data that later ones have from the start: the last failure, copied to the event
`buried`, with its fingerprint.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from durableq.model.fingerprint import fingerprint

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

DEAD_LETTER_VIEW = """\
CREATE VIEW durableq_dead_letter AS
SELECT m.id, source.name AS queue, m.key, died.reason,
       datetime(m.enqueued_at_ms / 1000, 'unixepoch') AS died_at,
       failure.error_type, failure.error_message, failure.actor,
       m.recovery_count, m.body, died.fingerprint
FROM durableq_message AS m
JOIN durableq_queue AS source ON source.id = m.source_queue_id
LEFT JOIN durableq_history AS died ON died.id =
    (SELECT max(id) FROM durableq_history WHERE message_id = m.id AND event = 'buried')
LEFT JOIN durableq_history AS failure ON failure.id =
    (SELECT max(id) FROM durableq_history
     WHERE message_id = m.id AND event IN ('failed', 'lease_expired'))"""

BURIALS = """\
SELECT died.id, died.reason, coalesce(failure.error_type, ''),
       coalesce(failure.error_message,
                iif(died.reason = 'idempotency_conflict',
                    'its key already succeeded with a different payload', ''))
FROM durableq_message AS m
JOIN durableq_history AS died ON died.id =
    (SELECT max(id) FROM durableq_history WHERE message_id = m.id AND event = 'buried')
LEFT JOIN durableq_history AS failure ON failure.id =
    (SELECT max(id) FROM durableq_history WHERE message_id = m.id AND id < died.id
     AND event IN ('failed', 'lease_expired') AND reason = died.reason)
WHERE m.source_queue_id IS NOT NULL"""
TELL_BURIAL = """\
UPDATE durableq_history
SET error_type = :error_type, error_message = :error_message, fingerprint = :fingerprint
WHERE id = :id"""


def whole(name: str) -> sa.Column[int]:
    """Return a column of whole numbers, 0 in existing rows."""
    return sa.Column(name, WHOLE, nullable=False, server_default="0")


def text(name: str) -> sa.Column[str]:
    """Return a column of text, empty in existing rows."""
    return sa.Column(name, sa.Text, nullable=False, server_default="")


def upgrade() -> None:
    """Add the columns, the table of moves and the index of the dead; tell the burials."""
    op.add_column("durableq_queue", whole("paused"))
    op.add_column("durableq_history", text("fingerprint"))
    op.add_column("durableq_history", text("place"))
    op.add_column("durableq_worker", whole("restarts"))
    op.add_column("durableq_worker", text("state"))
    for name in ("handled", "failed", "in_hand", "oldest_began_ms"):
        op.add_column("durableq_worker", whole(name))
    op.create_index(
        "durableq_message_dead",
        "durableq_message",
        ["id"],
        sqlite_where=sa.text("source_queue_id IS NOT NULL"),
    )
    create_move()
    op.execute("DROP VIEW durableq_dead_letter")
    op.execute(DEAD_LETTER_VIEW)
    tell_burials()


def downgrade() -> None:
    """Refuse: a queue is restored from a backup, not downgraded."""
    raise NotImplementedError


def create_move() -> None:
    """Moves of many letters, each with its place."""
    op.create_table(
        "durableq_move",
        sa.Column("id", WHOLE, primary_key=True, nullable=False),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("state", "wanted", "verdict")),
        sa.Column("to_queue", sa.Text),
        sa.Column("actor", sa.Text, nullable=False),
        *(
            sa.Column(name, WHOLE, nullable=False)
            for name in (
                "last_event",
                "cursor",
                "total",
                "moved",
                "skipped",
                "started_at_ms",
                "updated_at_ms",
            )
        ),
        sqlite_autoincrement=True,
        sqlite_strict=True,
    )


def tell_burials() -> None:
    """Copy the last failure of each dead letter to its burial."""
    connection = op.get_bind()
    for burial, reason, error_type, message in connection.execute(sa.text(BURIALS)).all():
        told = {
            "id": burial,
            "error_type": error_type,
            "error_message": message,
            "fingerprint": fingerprint(f"{reason} {error_type}", message),
        }
        connection.execute(sa.text(TELL_BURIAL), told)
