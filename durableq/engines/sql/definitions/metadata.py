"""Metadata: small texts by name."""

from __future__ import annotations

from sqlalchemy import delete, func, select, text

from durableq.engines.sql.definitions.elements import Statement, parameter
from durableq.engines.sql.definitions.tables import meta

META = Statement(select(meta.c.value).where(meta.c.name == parameter("of")))
DROP_META = Statement(delete(meta).where(meta.c.name == parameter("of")))
_ends_with_tail = func.substr(
    meta.c.name, func.length(meta.c.name) - func.length(parameter("tail", meta.c.name)) + 1
)
DROP_NOTES = Statement(
    delete(meta).where(
        meta.c.name.startswith(parameter("note", meta.c.name)),
        _ends_with_tail == parameter("tail", meta.c.name),
    )
)
META_VALUES = Statement(
    select(meta.c.name, meta.c.value).where(meta.c.name.startswith(parameter("start", meta.c.name)))
)
SET_META = Statement(
    text(
        "INSERT INTO durableq_meta (name, value) VALUES (:of, :value) "
        "ON CONFLICT (name) DO UPDATE SET value = excluded.value"
    )
)
