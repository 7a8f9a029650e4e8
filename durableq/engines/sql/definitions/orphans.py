"""Counts of rows that refer to nothing, or that contradict another row."""

from __future__ import annotations

from typing import Final

from sqlalchemy import func, select, text

from durableq.engines.sql.definitions.elements import Statement
from durableq.engines.sql.definitions.tables import is_state, message, worker
from durableq.model.items import TOKENS
from durableq.model.message import Event, RecordStatus, State
from durableq.model.settings import Limits

_QUEUES: Final = "(SELECT id FROM durableq_queue)"
_ITEM_TABLES: Final = "(SELECT id FROM durableq_item_table)"
_IN_FLIGHT: Final = int(State.IN_FLIGHT)
_IN_PROGRESS: Final = int(RecordStatus.IN_PROGRESS)

_owner = message.c.owner_id


def _count(table: str, condition: str) -> Statement:
    return Statement(select(func.count()).select_from(text(table)).where(text(condition)))


MESSAGES_WITHOUT_QUEUE = _count(
    "durableq_message",
    f"queue_id NOT IN {_QUEUES} OR source_queue_id NOT IN {_QUEUES}",
)
QUEUES_WITHOUT_PAIR = _count("durableq_queue", f"dead_letter_queue_id NOT IN {_QUEUES}")
QUEUES_WITHOUT_COUNTERS = _count(
    "durableq_queue",
    "id NOT IN (SELECT queue_id FROM durableq_counters) "
    "OR id NOT IN (SELECT queue_id FROM durableq_flow)",
)
KEYS_WITHOUT_OWNER = _count(
    "durableq_idempotency AS r",
    f"r.status = {_IN_PROGRESS} AND NOT EXISTS "  # noqa: S608 - constants
    "(SELECT 1 FROM durableq_message AS m WHERE "
    "m.id = r.owner_message_id AND m.receipt = r.owner_receipt "
    f"AND m.state = {_IN_FLIGHT})",
)
RECORDS_WITHOUT_QUEUE = _count("durableq_idempotency", f"queue_id NOT IN {_QUEUES}")
SCHEDULES_WITHOUT_QUEUE = _count("durableq_schedule", f"queue_id NOT IN {_QUEUES}")
DOCUMENTS_WITHOUT_QUEUE = _count("durableq_queue_document", f"queue_id NOT IN {_QUEUES}")
ATTEMPTS_WITHOUT_QUEUE = _count("durableq_receive_attempt", f"queue_id NOT IN {_QUEUES}")
ITEMS_WITHOUT_TABLE = _count(
    "durableq_item",
    f"table_id <> {TOKENS} AND table_id NOT IN {_ITEM_TABLES}",
)
HISTORY_WITHOUT_QUEUE = _count("durableq_history", f"queue_id NOT IN {_QUEUES}")
# NULL where the bounded history has lost the burial.
_IS_ANOTHER_BURIAL: Final = (
    "SELECT reason <> m.burial_reason OR fingerprint <> m.burial_fingerprint "  # noqa: S608
    f"FROM durableq_history WHERE message_id = m.id AND event = '{Event.BURIED}' "
    "ORDER BY id DESC LIMIT 1"
)
DEAD_LETTERS_MISGROUPED = _count(
    "durableq_message AS m",
    "m.source_queue_id IS NOT NULL AND (m.burial_reason IS NULL OR m.burial_fingerprint IS NULL "
    f"OR ({_IS_ANOTHER_BURIAL}))",
)
LEASE_OWNERS = Statement(
    select(_owner, func.count()).where(is_state(State.IN_FLIGHT)).group_by(_owner)
)
_SUM_OF_BODIES: Final = " + ".join(
    "(SELECT coalesce(sum(body_bytes), 0) FROM durableq_message AS m "  # noqa: S608 - constants
    f"WHERE m.queue_id = q.id AND m.state = {int(state)})"
    for state in State
)
QUEUES_WITH_OTHER_BYTES = _count(
    "durableq_queue AS q JOIN durableq_counters AS c ON c.queue_id = q.id",
    f"q.limits & {int(Limits.BACKLOG_BYTES)} <> 0 AND c.backlog_bytes <> {_SUM_OF_BODIES}",
)
_OF_GROUPS: Final = (
    "JOIN durableq_queue AS q ON q.id = m.{queue} "
    f"WHERE q.limits & {int(Limits.GROUPS)} <> 0 AND m.group_id IS NOT NULL"
)
# The counts of each group less its messages: nothing is left of those that are right.
_LEFT_OF_GROUPS: Final = (
    "SELECT queue_id, group_id, active, holding FROM durableq_group "  # noqa: S608 - constants
    "UNION ALL SELECT m.queue_id, m.group_id, -1, 0 FROM durableq_message AS m "
    f"{_OF_GROUPS.format(queue='queue_id')} AND m.state <> {int(State.BLOCKED)} "
    "UNION ALL SELECT m.source_queue_id, m.group_id, 0, -1 FROM durableq_message AS m "
    f"{_OF_GROUPS.format(queue='source_queue_id')}"
)
GROUPS_WITH_OTHER_COUNTS = _count(
    "(SELECT sum(active) AS active, sum(holding) AS holding "  # noqa: S608 - constants
    f"FROM ({_LEFT_OF_GROUPS}) AS every GROUP BY queue_id, group_id) AS counted",
    "active <> 0 OR holding <> 0",
)
_HAS_GROUPS: Final = f"q.limits & {int(Limits.GROUPS)} <> 0"
_BLOCKED: Final = int(State.BLOCKED)
GROUPS_STRANDED = _count(
    "(SELECT DISTINCT queue_id, group_id FROM durableq_message "  # noqa: S608 - constants
    f"WHERE state = {_BLOCKED}) AS b JOIN durableq_queue AS q ON q.id = b.queue_id "
    "LEFT JOIN durableq_group AS g ON g.queue_id = b.queue_id AND g.group_id = b.group_id",
    f"NOT ({_HAS_GROUPS}) OR (coalesce(g.active, 0) < q.group_concurrency "
    "AND (q.group_on_dead = 0 OR coalesce(g.holding, 0) = 0))",
)
MESSAGES_OUT_OF_TURN = _count(
    "durableq_message AS m JOIN durableq_queue AS q ON q.id = m.queue_id",
    f"m.group_id IS NOT NULL AND m.source_queue_id IS NULL AND {_HAS_GROUPS} "  # noqa: S608
    f"AND m.state IN ({int(State.READY)}, {int(State.DELAYED)}) AND EXISTS "
    "(SELECT 1 FROM durableq_message AS b WHERE b.queue_id = m.queue_id "
    f"AND b.group_id = m.group_id AND b.state = {_BLOCKED} "
    "AND (b.sequence < m.sequence OR (b.sequence = m.sequence AND b.id < m.id)))",
)
WORKER_IDS = Statement(select(worker.c.id))
