"""The backend: Django's own, with durableq's SQLite library, waits and checks.

Django's backend uses the standard library's SQLite. Two SQLite libraries on one file in one process
lose each other's locks, so the tables of both must be used through one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from django.core.exceptions import ImproperlyConfigured
from django.db.backends.sqlite3 import base
from django.db.backends.sqlite3._functions import register as register_functions

from durableq.contrib.django.sqlite3.creation import DatabaseCreation
from durableq.contrib.django.sqlite3.features import DatabaseFeatures
from durableq.contrib.django.sqlite3.operations import DatabaseOperations
from durableq.contrib.django.sqlite3.values import register_values
from durableq.engines.sqlite import application_connection
from durableq.model.text import shown
from durableq.model.units import to_ms

_driver: Final = application_connection.driver
_OPTIONS: Final = {"init_command", "synchronous", "timeout", "transaction_mode"}
#: Seconds that a statement waits for other processes, unless OPTIONS["timeout"] says otherwise.
_TIMEOUT: Final = 10

register_values(_driver)


class DatabaseWrapper(base.DatabaseWrapper):
    """A connection of one thread to the file."""

    Database = _driver
    creation_class = DatabaseCreation
    features_class = DatabaseFeatures
    ops_class = DatabaseOperations

    def get_connection_params(self) -> dict[str, Any]:
        """Return the file and the options, of the settings.

        Raises:
            ImproperlyConfigured: no file is named, or an option is none that this backend has,
                or has a wrong value.
        """
        where = f"settings.DATABASES[{self.alias!r}]"
        name, options = self.settings_dict["NAME"], dict(self.settings_dict["OPTIONS"])
        if not name or self.is_in_memory_db() or str(name).startswith("file:"):
            raise ImproperlyConfigured(
                f"{where} names no file, got {shown(name)}: worker processes need one. Set NAME to "
                "a path."
            )
        if unknown := sorted({*options} - _OPTIONS):
            raise ImproperlyConfigured(
                f"{where}['OPTIONS'] has {unknown[0]!r}. This backend has "
                f"{', '.join(sorted(_OPTIONS))}."
            )
        if str(options.get("transaction_mode") or "IMMEDIATE").upper() != "IMMEDIATE":
            raise ImproperlyConfigured(
                f"{where}['OPTIONS']['transaction_mode'] is IMMEDIATE or left out: another one "
                "fails when it begins to write behind another process."
            )
        synchronous = str(options.get("synchronous", "full")).lower()
        if synchronous not in application_connection.SYNCHRONOUS:
            raise ImproperlyConfigured(
                f"{where}['OPTIONS']['synchronous'] is 'full' or 'normal', got "
                f"{shown(options['synchronous'])}."
            )
        self.init_commands = options.get("init_command", "").split(";")
        return {
            "path": Path(name).absolute(),
            "busy_timeout_ms": max(1, to_ms(options.get("timeout", _TIMEOUT), "timeout")),
            "synchronous": synchronous,
            "detect_types": _driver.PARSE_DECLTYPES | _driver.PARSE_COLNAMES,
        }

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """Open a connection."""
        self._own = application_connection.ApplicationConnection(**conn_params)
        raw = self._own.raw
        register_functions(raw)
        for command in ("PRAGMA foreign_keys = ON", *map(str.strip, self.init_commands)):
            raw.execute(command).close()
        return raw

    def create_cursor(self, name: str | None = None) -> Any:
        """Return a cursor whose statements wait for other processes."""
        return self.connection.cursor(factory=partial(Cursor, run=self._own.run))

    def _start_transaction_under_autocommit(self) -> None:
        with self.wrap_database_errors:
            self._own.begin()

    def _commit(self) -> Any:
        if self.connection is not None:
            with self.wrap_database_errors:
                self._own.check()
        return super()._commit()

    def _close(self) -> None:
        if self.connection is not None:
            with self.wrap_database_errors:
                self._own.close()


class Cursor(_driver.Cursor):
    """A cursor that takes Django's placeholders: `%s`, and `%(name)s`.

    Args:
        raw: the driver's connection.
        run: runs a statement, perhaps more than once.
    """

    _converted = base.SQLiteCursorWrapper.convert_query

    def __init__(self, raw: Any, run: Callable[[Callable[[], Any]], Any]) -> None:
        super().__init__(raw)
        self._run = run

    def execute(self, query: str, params: Any = None) -> Any:
        """Run a statement."""
        execute = super().execute
        if params is None:
            return self._run(partial(execute, query))
        names = [*params] if isinstance(params, Mapping) else None
        return self._run(partial(execute, self._converted(query, param_names=names), params))

    def executemany(self, query: str, param_list: Iterable[Any]) -> Any:
        """Run a statement for each set of parameters."""
        given = [*param_list]  # it may be run again
        names = [*given[0]] if given and isinstance(given[0], Mapping) else None
        converted = self._converted(query, param_names=names)
        return self._run(partial(super().executemany, converted, given))
