"""Dead letters by the many, with what killed each: in groups, and what became of the recovered."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import text

from durableq.engines.sql.queries import find_queue
from durableq.engines.sql.statements import compiled
from durableq.model.dead_letters import RECOVERY_ACTOR, DeadLetterGroup, Recovered, RecoveredFate
from durableq.model.message import Reason

#: Every dead letter with its last burial, which may have been crowded out of its history.
DEAD_LETTERS: Final = """\
durableq_message AS m INDEXED BY durableq_message_dead
LEFT JOIN durableq_queue AS source ON source.id = m.source_queue_id
LEFT JOIN durableq_history AS died ON died.id =
    (SELECT max(id) FROM durableq_history WHERE message_id = m.id AND event = 'buried')
WHERE m.source_queue_id IS NOT NULL"""
REASON: Final = f"coalesce(died.reason, '{Reason.HANDLER_ERROR}')"

GROUPS = compiled(
    text(
        f"""\
SELECT kind.queue, kind.reason, kind.fingerprint, coalesce(example.error_type, ''),
       coalesce(example.error_message, ''), coalesce(example.place, ''), kind.number,
       kind.first_died_ms, kind.last_died_ms, coalesce(example.message_id, kind.some_id)
FROM (
    SELECT source.name AS queue, {REASON} AS reason,
           coalesce(died.fingerprint, '') AS fingerprint, count(*) AS number,
           min(m.enqueued_at_ms) AS first_died_ms, max(m.enqueued_at_ms) AS last_died_ms,
           coalesce(max(died.id), 0) AS newest, max(m.id) AS some_id
    FROM {DEAD_LETTERS} AND (:of_queue IS NULL OR source.name = :of_queue)
    GROUP BY 1, 2, 3
) AS kind
LEFT JOIN durableq_history AS example ON example.id = kind.newest
ORDER BY kind.number DESC, kind.newest DESC"""  # noqa: S608 - constants
    )
)
_BACK: Final = (
    "{0}.queue_id = :in_queue AND {0}.event IN ('retried', 'requeued') "
    f"AND substr({{0}}.actor, 1, {len(RECOVERY_ACTOR)}) = '{RECOVERY_ACTOR}'"
)
RECOVERIES = compiled(
    text(
        f"""\
SELECT back.message_id, back.at_ms,
       EXISTS (SELECT 1 FROM durableq_history AS died WHERE died.message_id = back.message_id
               AND died.id > back.id AND died.event = 'buried'),
       EXISTS (SELECT 1 FROM durableq_message AS m WHERE m.id = back.message_id)
FROM durableq_history AS back
WHERE {_BACK.format("back")} AND back.at_ms >= :since_ms
  AND NOT EXISTS (SELECT 1 FROM durableq_history AS later
                  WHERE later.message_id = back.message_id AND later.id > back.id
                  AND {_BACK.format("later")})
ORDER BY back.at_ms DESC, back.message_id DESC
LIMIT :limit"""  # noqa: S608 - constants
    )
)


def dead_letter_groups(raw: Any, queue: str | None) -> list[DeadLetterGroup]:
    """Return the dead letters by what killed them, most numerous first."""
    if queue is not None:
        find_queue(raw, queue)
    return [_group(row) for row in GROUPS(raw, of_queue=queue).fetchall()]


def recoveries(raw: Any, queue: str, since_ms: int, limit: int) -> list[Recovered]:
    """Return what recovery processes sent back to a queue, newest first."""
    dead_letters = find_queue(raw, queue).dead_letter_queue_id
    found = RECOVERIES(raw, in_queue=dead_letters, since_ms=since_ms, limit=limit).fetchall()
    return [
        Recovered(str(message_id), at_ms, _fate(died_again, is_there))
        for message_id, at_ms, died_again, is_there in found
    ]


def _group(row: tuple[Any, ...]) -> DeadLetterGroup:
    name, reason, fingerprint, error_type, error_message, place, *numbers, example = row
    count, first_died_ms, last_died_ms = numbers
    return DeadLetterGroup(
        name,
        Reason(reason),
        fingerprint,
        error_type,
        error_message,
        place,
        count,
        first_died_ms,
        last_died_ms,
        str(example),
    )


def _fate(died_again: int, is_there: int) -> RecoveredFate:
    if died_again:
        return RecoveredFate.DIED
    return RecoveredFate.PENDING if is_there else RecoveredFate.ENDED
