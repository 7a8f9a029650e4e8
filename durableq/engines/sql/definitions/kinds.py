"""The columns that the definitions of tables are made of, for every database."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy
from sqlalchemy import BigInteger, CheckConstraint, Column, Double, Integer, String, Text

from durableq.engines.sql.definitions.elements import StrictAny
from durableq.model.settings import SETTINGS, Kind, QueueSettings

WHOLE: Final = BigInteger().with_variant(Integer(), "sqlite")
REAL: Final[Any] = Double().with_variant(sqlalchemy.REAL(), "sqlite")
TEXT: Final[Any] = Text().with_variant(Text(collation="C"), "postgresql")
# On PostgreSQL no other column is VARCHAR: the driver knows bodies by it (docs/decisions/0047).
BODY: Final[Any] = String(collation="C").with_variant(StrictAny(), "sqlite")


def partial(condition: Any) -> dict[str, Any]:
    """Return the options of an index of the rows that meet a condition."""
    return {"sqlite_where": condition, "postgresql_where": condition}


def whole(name: str, **options: Any) -> Column[int]:
    """Return a column of whole numbers."""
    return Column(name, WHOLE, nullable=False, **options)


def counter(name: str) -> Column[int]:
    """Return a column of whole numbers that begins at 0."""
    return whole(name, server_default="0")


def check(condition: Any, name: str) -> CheckConstraint:
    """Return a check of each row, for SQLite.

    PostgreSQL reads the text of every check again in each statement that writes, which was a
    quarter of a send's function (ExecRelCheck in its execMain.c). There `doctor --deep` looks.
    """
    return CheckConstraint(condition, name=name).ddl_if(dialect="sqlite")


def setting(name: str) -> Column[Any]:
    """Return the column of a setting of queues, with its default."""
    default = getattr(QueueSettings(), name)
    is_real = SETTINGS[name].kind in {Kind.RATE, Kind.SHARE}
    kind = REAL if is_real else WHOLE
    return Column(name, kind, nullable=False, server_default=f"{default:g}")
