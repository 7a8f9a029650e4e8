"""The setting DURABLEQ of a Django project, and the URL of its database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from durableq.model.text import shown

ENGINE: Final = "durableq.contrib.django.sqlite3"
#: The keys of DURABLEQ: fields of a Configuration, and the types of their values.
_FIELDS: Final[Mapping[str, tuple[str, tuple[type, ...]]]] = {
    "DATABASE": ("alias", (str,)),
    "MODULES": ("modules", (list, tuple)),
    "OPTIONS": ("options", (dict,)),
}
#: Options of psycopg.connect that are no options of libpq.
_OF_PSYCOPG: Final = {
    *("autocommit", "context", "cursor_factory", "prepare_threshold", "row_factory"),
    *("isolation_level", "pool", "server_side_binding", "assume_role", "client_encoding"),
}
#: Our names of the fields of an address, as libpq has them.
_ADDRESS: Final = {"NAME": "dbname", "USER": "user", "PASSWORD": "password", "HOST": "host"}


@dataclass(frozen=True)
class Configuration:
    """The setting DURABLEQ, with its defaults."""

    #: A key of DATABASES: the database in which the queues are.
    alias: str = "default"
    #: Modules of each application that are imported at the start; they register handlers.
    modules: Sequence[str] = ("tasks", "handlers")
    #: Options of the URL: `synchronous` or `schema`, for example.
    options: Mapping[str, Any] = field(default_factory=dict)


def configuration() -> Configuration:
    """Return the setting DURABLEQ.

    Raises:
        ImproperlyConfigured: it has another key, a value of another type, or names no database.
    """
    given: Any = getattr(settings, "DURABLEQ", {})
    if not isinstance(given, Mapping) or not {*given} <= {*_FIELDS}:
        raise ImproperlyConfigured(
            f"settings.DURABLEQ is a dict with DATABASE, MODULES and OPTIONS, got {shown(given)}."
        )
    for name, value in given.items():
        if not isinstance(value, _FIELDS[name][1]):
            wanted = " or ".join(one.__name__.lower() for one in _FIELDS[name][1])
            raise ImproperlyConfigured(
                f"settings.DURABLEQ[{name!r}] is a {wanted}, got {shown(value)}."
            )
    made = Configuration(**{_FIELDS[name][0]: value for name, value in given.items()})
    if made.alias not in settings.DATABASES:
        raise ImproperlyConfigured(
            f"settings.DURABLEQ names the DATABASE {shown(made.alias)}, which settings.DATABASES "
            "does not have."
        )
    return made


def url_of_database() -> str:
    """Return the URL of the database that the queues are in, as its connections have it now.

    In Django's tests that is the test database.

    Raises:
        ImproperlyConfigured: durableq cannot use it.
    """
    configured = configuration()
    connection = connections[configured.alias]
    if connection.vendor == "postgresql":
        return _postgresql(connection.settings_dict, configured.options)
    if connection.settings_dict["ENGINE"] != ENGINE:
        raise ImproperlyConfigured(
            f"DATABASES[{configured.alias!r}] has the ENGINE "
            f"{connection.settings_dict['ENGINE']!r}. For SQLite, durableq needs {ENGINE!r}: two "
            "SQLite libraries on one file in one process lose each other's locks. PostgreSQL "
            "needs no ENGINE of durableq's."
        )
    path = Path(connection.settings_dict["NAME"]).absolute()
    query = f"?{urlencode(configured.options)}" if configured.options else ""
    return f"sqlite:///{quote(str(path))}{query}"


def _postgresql(database: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    given = {name: database[field] for field, name in _ADDRESS.items() if database.get(field)}
    if database.get("PORT"):
        given["port"] = database["PORT"]
    given |= {k: v for k, v in database["OPTIONS"].items() if k not in _OF_PSYCOPG}
    return f"postgresql://?{urlencode({**given, **options}, quote_via=quote)}"
