"""Workers: registered, told of, and forgotten with their host's boot."""

from __future__ import annotations

import dataclasses
from typing import Final

from sqlalchemy import delete, insert, literal_column, or_, select, update

from durableq.engines.sql.definitions.elements import Statement, parameter
from durableq.engines.sql.definitions.tables import worker
from durableq.model.info import WorkerStats

_STATS: Final = [field.name for field in dataclasses.fields(WorkerStats)]

_w = worker.c
REGISTER = Statement(
    insert(worker)
    .values({c.name: parameter(c.name) for c in worker.columns if c.name != "id"})
    .returning(worker.c.id)
)
BEAT = Statement(
    update(worker).where(worker.c.id == parameter("of")).values(beat_at_ms=parameter("now_ms"))
)
BEAT_AND_TELL = Statement(
    update(worker)
    .where(worker.c.id == parameter("of"))
    .values({"beat_at_ms": parameter("now_ms")} | {n: parameter(n) for n in _STATS})
)
TELL_QUEUES = Statement(
    update(worker).where(worker.c.id == parameter("of")).values(queues=parameter("queues"))
)
DRAIN = Statement(
    update(worker).where(worker.c.id == parameter("of")).values(draining=literal_column("1"))
)
UNREGISTER = Statement(delete(worker).where(worker.c.id == parameter("of")))
WORKERS = Statement(
    select(
        _w.name,
        _w.pid,
        _w.created_ms,
        _w.boot_id,
        _w.pid_namespace,
        _w.id,
        _w.started_at_ms,
        _w.beat_at_ms,
        _w.restarts,
        _w.state,
        _w.handled,
        _w.failed,
        _w.in_flight,
        _w.oldest_began_ms,
        _w.queues,
        _w.host_id,
        _w.draining,
        _w.schedules,
    ).order_by(_w.id)
)
_other_boot = _w.boot_id != parameter("boot_id")
EARLIER_WORKERS = Statement(
    select(_w.id).where(
        _other_boot,
        or_(_w.host_id == parameter("host_id"), _w.host_id == literal_column("''")),
    )
)
FORGET_WORKERS = Statement(
    delete(worker).where(_other_boot, _w.beat_at_ms < parameter("before_ms"))
)
UNREGISTER_ALL = Statement(delete(worker))
