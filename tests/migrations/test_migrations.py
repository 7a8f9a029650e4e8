"""The migrations: they make the tables the code expects, all of them or nothing."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.script import ScriptDirectory

from durableq import DurableQ
from durableq.engines.sql import tables
from durableq.engines.sqlite import schema
from durableq.engines.sqlite.driver import driver
from tests.engine import plain

SCHEMA = "SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name"
LATER = """
from alembic import op

revision, down_revision = "9999", "{before}"


def upgrade() -> None:
    op.execute("CREATE TABLE durableq_later (id INTEGER) STRICT")
    op.execute("UPDATE durableq_queue SET max_receives = 99")
    op.execute("DROP TABLE durableq_history")
    op.execute("{last}")
"""


def schema_of(path: Path) -> dict[str, str]:
    """Return every table, index and view as SQL text, without its layout."""
    return {
        name: re.sub(r" ?([(),]) ?", r"\1", re.sub(r"[\s\"]+", " ", sql)).strip()
        for name, sql in plain.rows(path, SCHEMA)
    }


def tables_of_the_code(path: Path) -> dict[str, str]:
    engine = sa.create_engine(f"sqlite:///{path}", module=driver)
    tables.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(sa.text(tables.DEAD_LETTER_VIEW))
    engine.dispose()
    return schema_of(path)


def test_the_migrations_make_exactly_the_tables_of_the_code(tmp_path: Path) -> None:
    DurableQ(tmp_path / "made.db").init()
    made = schema_of(tmp_path / "made.db")
    version_table = made.pop(schema.VERSION_TABLE)
    assert "version_num" in version_table
    assert made == tables_of_the_code(tmp_path / "code.db")
    assert all(name.startswith(("durableq_", "sqlite_")) for name in made)


def test_the_code_knows_every_revision_in_order() -> None:
    script = ScriptDirectory(str(schema.migrations_folder()))
    history = [revision.revision for revision in script.walk_revisions()]
    assert history[::-1] == list(schema.REVISIONS)
    assert script.get_heads() == [schema.REVISIONS[-1]]


def test_the_migrations_are_where_the_code_looks() -> None:
    names = [path.name for path in (schema.migrations_folder() / "versions").glob("*.py")]
    for revision in schema.REVISIONS:
        assert [name for name in names if name.startswith(f"{revision}_")] != []


def later_revision(folder: Path, last: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this code a later one, with one more migration."""
    migrations = folder / "migrations"
    ours = schema.migrations_folder()
    shutil.copytree(ours, migrations, ignore=shutil.ignore_patterns("__pycache__"))
    text = LATER.format(before=schema.REVISIONS[-1], last=last)
    (migrations / "versions" / "9999_later.py").write_text(text)
    monkeypatch.setattr(schema, "migrations_folder", lambda: migrations)
    monkeypatch.setattr(schema, "REVISIONS", (*schema.REVISIONS, "9999"))


@pytest.mark.parametrize("exists", [True, False])
def test_a_migration_that_raises_half_way_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exists: bool
) -> None:
    db = tmp_path / "queue.db"
    if exists:
        with DurableQ(db) as dq:
            dq.queue("orders").send("kept")
    before = schema_of(db) if exists else {}
    with monkeypatch.context() as patched:
        later_revision(tmp_path, "INSERT INTO nowhere VALUES (1)", patched)
        with pytest.raises(sa.exc.OperationalError, match="nowhere"):
            DurableQ(db).migrate()
    assert schema_of(db) == before
    plain.check_whole(db)
    with DurableQ(db) as dq:
        assert dq.init() == ("current" if exists else "empty")
        assert dq.queue("orders").info().settings.max_receives == 3
        assert dq.queue("orders").info().counts.ready == int(exists)


def test_a_later_revision_is_reached_by_migrate_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = tmp_path / "queue.db"
    with DurableQ(db) as dq:
        dq.queue("orders").send("kept")
    later_revision(tmp_path, "UPDATE durableq_queue SET max_recoveries = 9", monkeypatch)
    with DurableQ(db) as dq:
        assert dq.migrate() == "older"
        assert dq.queue("orders").info().settings.max_recoveries == 9
        assert dq.queue("orders").receive()[0].body == "kept"
    assert plain.column(db, "SELECT version_num FROM durableq_version") == ["9999"]
