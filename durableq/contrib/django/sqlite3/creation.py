"""Test databases: files, because durableq has no database in memory that processes share."""

from __future__ import annotations

from pathlib import Path

from django.db.backends.sqlite3 import creation

from durableq.contrib.django import dq


class DatabaseCreation(creation.DatabaseCreation):
    """Django's test databases, on files with a write-ahead log."""

    def _get_test_db_name(self) -> str:
        """Return TEST["NAME"], or a file beside that of the settings."""
        settings = self.connection.settings_dict
        named = settings["TEST"]["NAME"]
        path = Path(settings["NAME"])
        return str(named) if named else str(path.with_name(f"test_{path.name}"))

    def _create_test_db(self, verbosity: int, autoclobber: bool, keepdb: bool = False) -> str:
        name: str = super()._create_test_db(verbosity, autoclobber, keepdb)
        if not keepdb:
            _remove_log(name)  # of a run that was killed: SQLite would play it back
        return name

    def _clone_test_db(self, suffix: str, verbosity: int, keepdb: bool = False) -> None:
        """Copy the test database for a process of `test --parallel`, through SQLite."""
        target = Path(self.get_test_db_clone_settings(suffix)["NAME"])
        if keepdb and target.exists():
            return
        target.unlink(missing_ok=True)
        _remove_log(str(target))
        with self.connection.cursor() as cursor:
            cursor.execute("VACUUM INTO %s", [str(target)])

    def setup_worker_connection(self, _worker_id: int) -> None:
        """Use the copy in a process of `test --parallel`."""
        super().setup_worker_connection(_worker_id)
        dq.close()

    def _destroy_test_db(self, test_database_name: str, verbosity: int) -> None:
        dq.close()
        Path(test_database_name).unlink(missing_ok=True)
        _remove_log(test_database_name)


def _remove_log(name: str) -> None:
    for end in ("-wal", "-shm"):
        Path(f"{name}{end}").unlink(missing_ok=True)
