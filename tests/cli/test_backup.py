"""`backup`, `restore`, `prune`: their output, their JSON and their refusals."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from durableq import DurableQ
from durableq.admin import operations
from durableq.cli import database
from durableq.engines.sqlite.store import SQLStore
from durableq.model.health import is_healthy
from durableq.store.core import Pruned
from tests.cli.console import Run, Shop
from tests.engine import plain


def test_a_backup_is_made_beside_a_running_application(
    run: Run, shop: Shop, tmp_path: Path
) -> None:
    shop.queue.send("kept")
    shown = run("backup", "copy.db")
    assert (shown.code, shown.err) == (0, "")
    assert shown.out == f"{tmp_path}/copy.db: 0.2 MiB, checked, a copy of durableq.db.\n"
    told = run("backup", "second.db", "--json").json
    assert told == {
        "schema": 1,
        "database": "durableq.db",
        "backup": f"{tmp_path}/second.db",
        "bytes": (tmp_path / "second.db").stat().st_size,
    }
    assert (tmp_path / "copy.db").stat().st_mode & 0o777 == 0o600


def test_a_backup_is_restored_under_another_name(run: Run, shop: Shop, tmp_path: Path) -> None:
    shop.queue.send("held")
    shop.queue.receive()
    assert run("backup", "copy.db").code == 0
    shown = run("restore", "copy.db", "--db", "again.db")
    assert (shown.code, shown.err) == (0, "")
    assert shown.lines == [
        "again.db: restored from copy.db, 0.2 MiB, checked.",
        "1 messages that were in flight are ready again.",
    ]
    told = run("restore", "copy.db", "--db", "third.db", "--json").json
    assert told == {
        "schema": 1,
        "database": "third.db",
        "backup": "copy.db",
        "bytes": (tmp_path / "third.db").stat().st_size,
        "released": 1,
        "set_aside": None,
    }
    with DurableQ(tmp_path / "third.db") as dq:
        assert is_healthy(operations.audit(dq.store))


def test_paths_that_are_not_utf8_are_backed_up_and_restored(
    run: Run, shop: Shop, tmp_path: Path
) -> None:
    shop.queue.send("kept")
    copy, new = (os.fsdecode(name) for name in (b"copy\xff.db", b"new\xff.db"))
    assert run("backup", copy).code == 0
    assert run("restore", copy, "--db", new).code == 0
    assert run("backup", "second.db", "--db", new).code == 0
    replaced = run("restore", copy, "--db", new, "--replace", "--yes")
    assert (replaced.code, replaced.err) == (0, "")
    with DurableQ(tmp_path / new) as dq:
        assert [message.body for message in dq.queue(shop.queue.name).receive()] == ["kept"]


def test_replacing_asks_and_sets_aside(run: Run, shop: Shop, tmp_path: Path) -> None:
    shop.queue.send("kept")
    assert run("backup", "copy.db").code == 0
    shop.queue.send("lost")
    shop.dq.close()
    refused = run("restore", "copy.db")
    assert refused.code == 5
    assert "over it with --replace" in refused.err
    unasked = run("restore", "copy.db", "--replace")
    assert unasked.code == 2
    assert "confirm with --yes" in unasked.err
    shown = run("restore", "copy.db", "--replace", "--yes")
    assert shown.code == 0
    aside = shown.lines[-1].removeprefix("What was there before is now ").removesuffix(".")
    assert plain.one(Path(aside), "SELECT count(*) FROM durableq_message") == 2
    assert plain.one(tmp_path / "durableq.db", "SELECT count(*) FROM durableq_message") == 1


def test_a_database_that_is_open_is_not_replaced(run: Run, shop: Shop) -> None:
    shop.queue.send("kept")
    assert run("backup", "copy.db").code == 0
    shown = run("restore", "copy.db", "--replace", "--yes")
    assert shown.code == 5
    assert "is open in process" in shown.err
    assert shop.queue.info().counts.ready == 1


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["backup", "there.db"], 5, "overwrites nothing"),
        (["backup", "."], 1, "is a directory"),
        (["backup", "nowhere/copy.db"], 1, "is not a directory"),
        (["backup", "copy.db", "--db", "missing.db"], 3, "There is no database"),
        (["backup", "copy.db", "--db", "there.db"], 1, "is not a SQLite database"),
        (["backup", "copy.db", "--db", "memory://"], 1, "memory://"),
        (["restore", "missing.db", "--db", "new.db"], 3, "There is no backup"),
        (["restore", "there.db", "--db", "new.db"], 1, "is not a SQLite database"),
        (["restore", ".", "--db", "new.db"], 1, "is not a file"),
        (["restore", "durableq.db", "--db", "new.db"], 5, "It is no backup"),
        (["restore", "there.db", "--db", "nowhere/new.db"], 1, "is not a directory"),
        (["prune", "--limit", "0"], 2, "--limit"),
        (["prune", "--db", "missing.db"], 3, "There is no database"),
    ],
)
def test_each_mistake_has_its_sentence_and_makes_no_file(
    run: Run, shop: Shop, tmp_path: Path, arguments: list[str], code: int, sentence: str
) -> None:
    _ = shop.store
    (tmp_path / "there.db").write_text("not a database, and precious")
    before = sorted(path.name for path in tmp_path.iterdir())
    shown = run(*arguments)
    assert (shown.code, shown.out) == (code, "")
    assert sentence in shown.err
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert (tmp_path / "there.db").read_text() == "not a database, and precious"


def test_prune_goes_on_until_nothing_is_left(
    run: Run, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.complete(key="k")
    shop.queue.send_many(["old"] * 5)
    plain.script(
        shop.path,
        "UPDATE durableq_message SET retention_from_ms = 1;"
        "UPDATE durableq_idempotency SET expires_at_ms = 1;"
        "INSERT INTO durableq_deleted_queue (name, deleted_at_ms) "
        "VALUES " + ",".join(f"('old-{number}', 1)" for number in range(7)),
    )
    slices: list[int] = []
    prune = SQLStore.prune

    def counted(store: SQLStore, limit: int) -> Pruned:
        slices.append(limit)
        return prune(store, limit)

    monkeypatch.setattr(SQLStore, "prune", counted)
    told = run("prune", "--limit", "2", "--json")
    assert told.code == 0
    assert told.json == {
        "schema": 1,
        "expired": 5,
        "records": 1,
        "history": 0,
        "values": 0,
        "items": 0,
        "others": 7,
    }
    assert slices == [2, 2, 2, 2]
    nothing = "0 records, 0 expired messages, 0 values, 0 items, 0 events of history and 0 other"
    assert run("prune").out == f"Pruned {nothing} rows.\n"
    assert slices[-1] == database.SLICE
