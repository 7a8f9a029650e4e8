"""The tables and views that PostgreSQL has beside those of all engines, and storage settings."""

from __future__ import annotations

from typing import Final

from durableq.engines.sql.columns import COUNTERS

#: What a hot verb adds to the counters of a queue; maintenance folds the rows into them. It has no
#: key: a replica that wants one compares whole rows.
_DELTA: Final = """\
CREATE TABLE durableq_counter_delta (
    queue_id BIGINT NOT NULL,
    sent BIGINT NOT NULL,
    completed BIGINT NOT NULL
)"""
_REPLICATED: Final = "ALTER TABLE durableq_counter_delta REPLICA IDENTITY FULL"
_AS_STORED: Final = (
    *(name for name in COUNTERS if name not in {"sent", "completed"}),
    *("in_flight", "backlog_bytes", "tat_ns", "delivered_at_ms", "retry_credit", "turn"),
)
#: The counters as they stand, which all queries read. The planner leaves the sum out where neither
#: of the two is asked for.
_TOTALS: Final = f"""\
CREATE VIEW durableq_totals AS
SELECT c.queue_id, c.sent + coalesce(d.sent, 0) AS sent,
    c.completed + coalesce(d.completed, 0) AS completed,
    {", ".join(f"c.{name}" for name in _AS_STORED)}
FROM durableq_counters AS c LEFT JOIN (
    SELECT queue_id, sum(sent)::bigint AS sent, sum(completed)::bigint AS completed
    FROM durableq_counter_delta GROUP BY queue_id
) AS d ON d.queue_id = c.queue_id"""  # noqa: S608 - constants
#: A queue's rows live for seconds: they are vacuumed when one in a hundred is dead, at full speed.
_VACUUMED: Final = (
    "autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0, "
    "autovacuum_analyze_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.2"
)
_CHURNING: Final = ("message", "idempotency", "counter_delta", "counters")

#: In the order of their creation.
CREATE: Final = (
    _DELTA,
    _REPLICATED,
    _TOTALS,
    *(f"ALTER TABLE durableq_{name} SET ({_VACUUMED})" for name in _CHURNING),
)
