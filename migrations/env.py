"""Alembic's environment: it runs inside the transaction that durableq opened.

`durableq migrate` hands over its connection. For `alembic revision --autogenerate` in a checkout
there is none: then the file named by DURABLEQ_DB (default durableq.db) is used.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import Any

import sqlalchemy
from alembic import context

from durableq.engines.sql.definitions.tables import metadata
from durableq.engines.sqlite import compiler  # noqa: F401 - a new revision renders its elements
from durableq.engines.sqlite.database import Database
from durableq.engines.sqlite.location import Location
from durableq.engines.sqlite.schema import VERSION_TABLE


def _is_ours(thing: Any, name: str | None, kind: str, reflected: bool, compared: Any) -> bool:
    """Leave an application's own tables alone."""
    return kind != "table" or (name or "").startswith("durableq_")


with ExitStack() as stack:
    connection: sqlalchemy.Connection | None = context.config.attributes.get("connection")
    if connection is None:
        database = Database(Location.parse(os.environ.get("DURABLEQ_DB", "durableq.db")))
        connection = stack.enter_context(database.adapter.engine.begin())
    context.configure(
        connection=connection,
        target_metadata=metadata,
        version_table=VERSION_TABLE,
        include_object=_is_ours,
        render_as_batch=True,
    )
    with context.begin_transaction():
        context.run_migrations()
