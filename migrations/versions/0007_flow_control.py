"""Flow control: settings of limits, their state, groups, deduplication, values of `once`.

Columns are added last, in place, with the values of limits that are off: no table is rebuilt.
SQLite reads all messages once, for the new indexes, which are empty.

The history of PostgreSQL begins here: with all tables, whose text is beside this module.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
REAL_NUMBER: Any = sa.Double().with_variant(sa.REAL(), "sqlite")
FOREVER_MS = (1 << 47) - 1
SETTINGS: dict[str, float] = {
    "rate": 0.0,
    "burst": 0,
    "max_in_flight": 0,
    "group_concurrency": 0,
    "group_on_dead": 0,
    "group_rate": 0.0,
    "group_burst": 0,
    "breaker": 0,
    "breaker_share": 0.5,
    "breaker_minimum": 10,
    "breaker_window_ms": 30_000,
    "breaker_open_ms": 10_000,
    "breaker_open_max_ms": 300_000,
    "breaker_probes": 3,
    "slow_start_ms": 10_000,
    "retry_share": 0.0,
    "max_backlog": 0,
    "max_backlog_bytes": 0,
    "on_full": 0,
    "block_timeout_ms": 30_000,
    "min_free_bytes": 0,
    "deduplication_window_ms": 300_000,
    "expires_in_ms": 0,
    "on_expiry": 0,
    "priority_aging_ms": 0,
    "limits": 0,
}
COUNTERS = (
    *("cancelled", "replaced", "shed", "deduplicated", "in_flight", "backlog_bytes"),
    *("tat_ns", "delivered_at_ms", "retry_credit", "turn"),
)
STATE = (
    "breaker_phase",
    "breaker_since_ms",
    "breaker_until_ms",
    "breaker_trips",
    "breaker_died",
    "breaker_judged",
    "breaker_completed",
)
POSTGRES_TABLES = Path(__file__).with_name("0007_postgresql.sql")
STRICT: dict[str, Any] = {"sqlite_strict": True}
WITHOUT_ROWID: dict[str, Any] = {"sqlite_with_rowid": False, **STRICT}


def whole(name: str, default: float | None = None) -> sa.Column[Any]:
    """Return a column of whole numbers."""
    return column(name, WHOLE, default)


def column(name: str, kind: Any, default: float | None = None) -> sa.Column[Any]:
    """Return a column that is never NULL."""
    server_default = None if default is None else f"{default:g}"
    return sa.Column(name, kind, nullable=False, server_default=server_default)


def text(name: str, default: str | None = None) -> sa.Column[Any]:
    """Return a column of text that is never NULL."""
    return sa.Column(name, sa.Text, nullable=False, server_default=default)


def upgrade() -> None:
    """Add the columns and the indexes, and make the tables."""
    if op.get_bind().dialect.name == "postgresql":
        for statement in POSTGRES_TABLES.read_text("utf-8").split(";\n"):
            op.get_bind().exec_driver_sql(statement)
        return
    for name, default in SETTINGS.items():
        kind = REAL_NUMBER if isinstance(default, float) else WHOLE
        op.add_column("durableq_queue", column(name, kind, default))
    for name in COUNTERS:
        op.add_column("durableq_counters", whole(name, 0))
    op.add_column("durableq_redrive_task", column("rate", REAL_NUMBER, 0))
    op.add_column("durableq_redrive_task", whole("tat_ns", 0))
    create_tables()
    create_other_tables()
    op.execute("INSERT INTO durableq_flow (queue_id) SELECT id FROM durableq_queue")
    create_indexes()


def create_tables() -> None:
    """Make the tables of the limits' state."""
    op.create_table(
        "durableq_flow",
        sa.Column("queue_id", WHOLE, primary_key=True, nullable=False),
        *(whole(name, 0) for name in STATE),
        text("breaker_reason", ""),
        **STRICT,
    )
    op.create_table(
        "durableq_failure",
        *map(whole, ("queue_id", "message_id", "at_ms")),
        *(whole(name, 0) for name in ("unavailable", "completed")),
        sa.PrimaryKeyConstraint("queue_id", "message_id", name="durableq_failure_message"),
        **WITHOUT_ROWID,
    )
    op.create_table(
        "durableq_group",
        whole("queue_id"),
        text("group_id"),
        *(whole(name, 0) for name in ("active", "holding", "tat_ns")),
        sa.PrimaryKeyConstraint("queue_id", "group_id", name="durableq_group_id"),
        **WITHOUT_ROWID,
    )


def create_other_tables() -> None:
    """Make the tables of deduplication and of `once`."""
    op.create_table(
        "durableq_deduplication",
        whole("queue_id"),
        *map(text, ("scope", "deduplication_id")),
        *map(whole, ("message_id", "expires_at_ms")),
        sa.PrimaryKeyConstraint(
            "queue_id", "scope", "deduplication_id", name="durableq_deduplication_id"
        ),
        **WITHOUT_ROWID,
    )
    op.create_table(
        "durableq_once",
        text("key"),
        sa.Column("value", sa.Text),
        *map(whole, ("created_at_ms", "expires_at_ms", "stale_until_ms", "compute_ms")),
        sa.Column("owner_token", sa.LargeBinary),
        whole("owner_until_ms"),
        text("owner_process", ""),
        sa.PrimaryKeyConstraint("key", name="durableq_once_key"),
        **WITHOUT_ROWID,
    )


def create_indexes() -> None:
    """Make the indexes."""
    for name, columns, condition in (
        ("blocked", ["queue_id", "group_id", "sequence", "id"], "state = 3"),
        ("replace_key", ["queue_id", "replace_key"], "replace_key IS NOT NULL"),
        ("expiry", ["expires_at_ms"], f"expires_at_ms != {FOREVER_MS}"),
    ):
        op.create_index(
            f"durableq_message_{name}",
            "durableq_message",
            columns,
            sqlite_where=sa.text(condition),
        )
    op.create_index("durableq_deduplication_expiry", "durableq_deduplication", ["expires_at_ms"])
    op.create_index("durableq_once_expiry", "durableq_once", ["stale_until_ms"])
    op.create_index(
        "durableq_group_idle",
        "durableq_group",
        ["tat_ns"],
        sqlite_where=sa.text("active = 0 AND holding = 0"),
    )


def downgrade() -> None:
    """Refuse: a queue is restored from a backup, not downgraded."""
    raise NotImplementedError
