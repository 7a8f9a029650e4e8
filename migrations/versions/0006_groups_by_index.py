"""The group of each dead letter in its own row, with an index in the order of the groups.

The columns are added last, in place: no table is rebuilt. SQLite compares every message with the
conditions of the table for each of them, and the dead letters are written again with the reason and
the fingerprint of their last burial. Where a long history has lost the burial, both are those that
durableq showed until now.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

COPY_BURIALS = """\
UPDATE durableq_message AS m
SET burial_reason = coalesce(died.reason, 'handler_error'),
    burial_fingerprint = coalesce(died.fingerprint, '')
FROM durableq_message AS dead INDEXED BY durableq_message_dead
LEFT JOIN durableq_history AS died ON died.id =
    (SELECT max(id) FROM durableq_history WHERE message_id = dead.id AND event = 'buried')
WHERE m.id = dead.id AND dead.source_queue_id IS NOT NULL"""
DEAD_LETTER_VIEW = """\
CREATE VIEW durableq_dead_letter AS
SELECT m.id, source.name AS queue, m.key, m.burial_reason AS reason,
       datetime(m.enqueued_at_ms / 1000, 'unixepoch') AS died_at,
       failure.error_type, failure.error_message, failure.actor,
       m.recovery_count, m.body, m.burial_fingerprint AS fingerprint
FROM durableq_message AS m
JOIN durableq_queue AS source ON source.id = m.source_queue_id
LEFT JOIN durableq_history AS failure ON failure.id =
    (SELECT max(id) FROM durableq_history
     WHERE message_id = m.id AND event IN ('failed', 'lease_expired'))"""


def upgrade() -> None:
    """Add the columns, fill them in, and make the index and the view."""
    for name in ("burial_reason", "burial_fingerprint"):
        op.add_column("durableq_message", sa.Column(name, sa.Text))
    op.execute(COPY_BURIALS)
    op.create_index(
        "durableq_message_burial",
        "durableq_message",
        ["source_queue_id", "burial_reason", "burial_fingerprint", "enqueued_at_ms"],
        sqlite_where=sa.text("source_queue_id IS NOT NULL"),
    )
    op.execute("DROP VIEW durableq_dead_letter")
    op.execute(DEAD_LETTER_VIEW)


def downgrade() -> None:
    """Refuse: a queue is restored from a backup, not downgraded."""
    raise NotImplementedError
