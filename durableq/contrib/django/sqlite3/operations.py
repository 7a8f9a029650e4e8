"""SQL of Django for durableq's SQLite library."""

from __future__ import annotations

from typing import Any

from django.db.backends.sqlite3 import operations


class DatabaseOperations(operations.DatabaseOperations):
    """Django's operations for SQLite."""

    connection: Any

    def force_group_by(self) -> list[str]:
        """Return the GROUP BY of an aggregate that an SQLite before 3.39 would take for none."""
        version = self.connection.Database.sqlite_version_info
        return ["GROUP BY TRUE"] if version < (3, 39) else []
