"""The migrations: they make the tables the code expects, all of them or nothing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.script import ScriptDirectory

from durableq import DatabaseUnusable, DurableQ
from durableq.engines.sql import migrating
from durableq.engines.sql.definitions import tables
from durableq.engines.sqlite import schema
from durableq.engines.sqlite.driver import driver
from tests.engine import plain

SCHEMA = "SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name"
LATER = """
import sqlalchemy as sa
from alembic import op

revision, down_revision = "9999", "{before}"


def upgrade() -> None:
    op.create_table("durableq_later", sa.Column("id", sa.Integer), sqlite_strict=True)
    op.execute("UPDATE durableq_queue SET max_receives = 99")
    op.drop_table("durableq_once")
    op.execute("{last}")
"""


def schema_of(path: Path) -> dict[str, str]:
    """Return every table, index and view as SQL text, without its layout."""
    return {
        name: re.sub(r" ?([(),]) ?", r"\1", re.sub(r"[\s\"]+", " ", sql)).strip()
        for name, sql in plain.rows(path, SCHEMA)
    }


def migrated(path: Path) -> Path:
    """Make a file by running every migration."""
    engine = sa.create_engine(f"sqlite:///{path}", module=driver)
    with engine.begin() as connection:
        migrating.run_migrations(connection)
    engine.dispose()
    return path


def test_a_new_file_has_exactly_the_tables_and_rows_of_the_migrations(tmp_path: Path) -> None:
    new = tmp_path / "new.db"
    with DurableQ(new) as dq:
        dq.init()
    old = migrated(tmp_path / "migrated.db")
    assert schema_of(new) == schema_of(old)
    assert all(name.startswith(("durableq_", "sqlite_")) for name in schema_of(new))
    for table in {schema.VERSION_TABLE, *tables.metadata.tables} - {"durableq_meta"}:
        every_row = f"SELECT * FROM {table}"  # but those of meta, which an open store writes
        assert plain.rows(new, every_row) == plain.rows(old, every_row), table


def test_a_new_file_imports_neither_sqlalchemy_nor_alembic(tmp_path: Path) -> None:
    program = "import sys, durableq; durableq.DurableQ('new.db').init(); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(migrating.migrations_folder().parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "durableq.engines.sqlite.schema" in done.stdout.split()
    assert not {"sqlalchemy", "alembic"} & set(done.stdout.split())


def test_a_creation_that_raises_half_way_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = tmp_path / "queue.db"
    with monkeypatch.context() as patched:
        patched.setattr(schema, "_STAMP", "INSERT INTO nowhere VALUES (?)")
        with pytest.raises(driver.OperationalError, match="nowhere"):
            DurableQ(db).init()
    assert schema_of(db) == {}
    with DurableQ(db) as dq:
        assert dq.init() == "empty"


def test_the_code_knows_every_revision_in_order() -> None:
    script = ScriptDirectory(str(migrating.migrations_folder()))
    history = [revision.revision for revision in script.walk_revisions()]
    assert history[::-1] == list(schema.REVISIONS)
    assert script.get_heads() == [schema.REVISIONS[-1]]


def test_a_new_revision_is_generated_from_the_definitions(tmp_path: Path) -> None:
    db, migrations = tmp_path / "queue.db", tmp_path / "migrations"
    ours = migrating.migrations_folder()
    shutil.copytree(ours, migrations, ignore=shutil.ignore_patterns("__pycache__"))
    with DurableQ(db) as dq:
        dq.init()
    plain.script(db, "DROP VIEW durableq_dead_letter; DROP TABLE durableq_message")
    program = (
        "from alembic import command\nfrom alembic.config import Config\nconfig = Config()\n"
        f"config.set_main_option('script_location', {str(migrations)!r})\n"
        "command.revision(config, 'again', autogenerate=True)"
    )
    path = os.environ | {"PYTHONPATH": str(ours.parent), "DURABLEQ_DB": str(db)}
    subprocess.run([sys.executable, "-c", program], env=path, capture_output=True, check=True)
    (made,) = (migrations / "versions").glob("*_again.py")
    text = made.read_text()
    assert "op.create_table('durableq_message'" in text
    assert "length(CAST(body AS BLOB)) <= " in text


def test_the_migrations_are_where_the_code_looks() -> None:
    names = [path.name for path in (migrating.migrations_folder() / "versions").glob("*.py")]
    for revision in schema.REVISIONS:
        assert [name for name in names if name.startswith(f"{revision}_")] != []


def later_revision(folder: Path, last: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this code a later one, with one more migration."""
    migrations = folder / "migrations"
    ours = migrating.migrations_folder()
    shutil.copytree(ours, migrations, ignore=shutil.ignore_patterns("__pycache__"))
    text = LATER.format(before=schema.REVISIONS[-1], last=last)
    (migrations / "versions" / "9999_later.py").write_text(text)
    monkeypatch.setattr(migrating, "migrations_folder", lambda: migrations)
    monkeypatch.setattr(schema, "REVISIONS", (*schema.REVISIONS, "9999"))


def test_a_migration_that_raises_half_way_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = tmp_path / "queue.db"
    with DurableQ(db) as dq:
        dq.queue("orders").send("kept")
    before = schema_of(db)
    with monkeypatch.context() as patched:
        later_revision(tmp_path, "INSERT INTO nowhere VALUES (1)", patched)
        with pytest.raises(DatabaseUnusable, match="as it was: no such table: nowhere"):
            DurableQ(db).migrate()
    assert schema_of(db) == before
    plain.check_whole(db)
    with DurableQ(db) as dq:
        assert dq.init() == "current"
        assert dq.queue("orders").info().settings.max_receives == 3
        assert dq.queue("orders").info().counts.ready == 1


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
