"""Bugs to plant where PostgreSQL's tables are made, upgraded and restored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from durableq.engines.postgres import copies, database, schema
from durableq.engines.sql.schema import SchemaState

TABLES: Final = "tests/migrations/test_postgres_schema.py::"
DUMPS: Final = "tests/migrations/test_postgres_released.py::"


def make_tables_beside_others() -> None:
    """A write takes no lock of the schema."""
    cls: Any = database.Database
    look_at = cls._look_at

    def look_at_without_lock(self: Any, link: Any) -> None:
        look_at(self, link)
        self.begin_alone = self.begin_alone.replace("pg_advisory_xact_lock", "abs")

    cls._look_at = look_at_without_lock


def look_for_tables_once() -> None:
    """The lock is waited for, and what others made meanwhile is not seen."""
    module: Any = schema
    create, state_of = module.create, module.state_of

    def create_at_once(database: Any) -> None:
        module.state_of = lambda *_: SchemaState.EMPTY
        try:
            create(database)
        finally:
            module.state_of = state_of

    module.create = create_at_once


def keep_the_leases_of_a_dump() -> None:
    module: Any = copies
    module.are_restored = lambda *_: False


def migrate_under_workers() -> None:
    module: Any = schema
    module._check_unused = lambda *_: None


def use_tables_of_a_newer_release() -> None:
    module: Any = schema
    state_of = module.state_of

    def of_this_one(*arguments: Any) -> SchemaState:
        found: SchemaState = state_of(*arguments)
        return SchemaState.CURRENT if found is SchemaState.NEWER else found

    module.state_of = of_this_one


BUGS: Final[tuple[Callable[[], None], ...]] = (
    make_tables_beside_others,
    look_for_tables_once,
    keep_the_leases_of_a_dump,
    migrate_under_workers,
    use_tables_of_a_newer_release,
)
_ONCE: Final = TABLES + "test_processes_that_open_an_empty_database_make_the_tables_once"
SEEN_BY: Final = [
    ("make_tables_beside_others", _ONCE),
    ("look_for_tables_once", _ONCE),
    (
        "keep_the_leases_of_a_dump",
        DUMPS + "test_the_workers_of_a_dump_are_forgotten_and_their_messages_ready[0007]",
    ),
    ("migrate_under_workers", TABLES + "test_tables_that_a_worker_uses_are_not_migrated"),
    ("use_tables_of_a_newer_release", TABLES + "test_tables_of_a_newer_durableq_are_refused"),
]
