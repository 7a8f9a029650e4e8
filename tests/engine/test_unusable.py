"""Files that cannot be a database of durableq are refused with a reason and left untouched."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from durableq import (
    DatabaseUnusable,
    DurableQ,
    ForeignDatabase,
    InvalidInput,
    NewerDatabase,
    OlderDatabase,
)
from durableq.engines.sqlite import location, schema
from tests.engine import plain

FOREIGN = """
CREATE TABLE album (id INTEGER PRIMARY KEY, title TEXT);
INSERT INTO album VALUES (1, 'Kind of Blue');"""


def refusal(db: Path | str, kind: type[Exception] = DatabaseUnusable) -> str:
    with pytest.raises(kind) as caught:
        _ = DurableQ(db).store
    assert type(caught.value) is kind
    return str(caught.value)


def beside(db: Path) -> list[str]:
    return sorted(path.name for path in db.parent.iterdir())


def test_a_new_file_is_its_owners_alone_under_any_umask(db: Path) -> None:
    before = os.umask(0)
    try:
        with DurableQ(db) as dq:
            dq.queue("orders").send(1)
            modes = {p.name: oct(p.stat().st_mode & 0o777) for p in db.parent.iterdir()}
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(["queue.db", "queue.db-shm", "queue.db-wal"], "0o600")


def test_a_files_own_permissions_are_left_as_they_are(dq: DurableQ, db: Path) -> None:
    db.chmod(0o660)
    dq.close()
    dq.queue("orders").send(1)
    assert db.stat().st_mode & 0o777 == 0o660


def test_a_directory_is_refused(tmp_path: Path) -> None:
    assert f"{tmp_path} is a directory. Name a file" in refusal(tmp_path)
    assert beside(tmp_path / "any") == []


def test_a_missing_directory_is_refused(tmp_path: Path) -> None:
    says = refusal(tmp_path / "nowhere" / "queue.db")
    assert says == (
        f"{tmp_path}/nowhere is not a directory, so queue.db cannot be in it. Create it, or name "
        "another file."
    )


def test_an_unreachable_path_is_refused(tmp_path: Path) -> None:
    assert "cannot be reached: File name too long." in refusal(tmp_path / ("x" * 300))
    assert beside(tmp_path / "any") == []


def test_a_file_that_is_not_regular_is_refused(db: Path) -> None:
    os.mkfifo(db)
    assert refusal(db) == f"{db} is not a regular file. Name a database file."


def test_a_hard_link_is_refused(dq: DurableQ, db: Path) -> None:
    dq.close()
    db.with_name("other.db").hardlink_to(db)
    for name in ("queue.db", "other.db"):
        assert "has 2 hard links" in refusal(db.with_name(name))


def test_a_symbolic_link_is_the_same_database(dq: DurableQ, db: Path) -> None:
    dq.queue("orders").send("through the file")
    link = db.with_name("link.db")
    link.symlink_to(db)
    with DurableQ(link) as other:
        assert [m.body for m in other.queue("orders").receive(2)] == ["through the file"]
    assert not db.with_name("link.db-wal").exists()


def test_a_read_only_file_is_refused(dq: DurableQ, db: Path) -> None:
    dq.close()
    db.chmod(0o444)
    assert "is read-only. A queue's readers write too" in refusal(db)


def test_a_read_only_directory_is_refused(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != db.parent)  # root may all
    assert f"The directory {db.parent} is read-only." in refusal(db)
    assert not db.exists()


@pytest.mark.parametrize("junk", [b"no", b"junk, and more of it " * 500], ids=["short", "long"])
def test_a_file_that_is_not_a_database_is_refused(db: Path, junk: bytes) -> None:
    db.write_bytes(junk)
    assert "is not a SQLite database. It was left untouched." in refusal(db, ForeignDatabase)
    assert db.read_bytes() == junk
    assert beside(db) == ["queue.db"]


def test_another_applications_database_is_refused(db: Path) -> None:
    plain.create(db, FOREIGN)
    content = db.read_bytes()
    assert "--beside-other-tables" in refusal(db, ForeignDatabase)
    with pytest.raises(ForeignDatabase):
        DurableQ(db).init()
    assert db.read_bytes() == content
    assert beside(db) == ["queue.db"]


def test_an_empty_database_of_another_application_is_refused(db: Path) -> None:
    plain.create(db, "PRAGMA application_id = 7")
    content = db.read_bytes()
    assert len(content) > 0
    refusal(db, ForeignDatabase)
    assert db.read_bytes() == content


def test_tables_are_made_beside_another_applications_on_request(db: Path) -> None:
    plain.create(db, FOREIGN + "PRAGMA application_id = 7")
    with DurableQ(db) as dq:
        dq.queue("orders")
        assert dq.init(beside_other_tables=True) == "foreign"
        assert dq.init(beside_other_tables=True) == "current"
    with DurableQ(db) as again:
        again.queue("orders").send("works")
        assert again.queue("orders").receive()[0].body == "works"
    assert plain.rows(db, "SELECT * FROM album") == [(1, "Kind of Blue")]
    assert plain.one(db, "PRAGMA application_id") == 7
    names = plain.column(db, "SELECT name FROM sqlite_schema WHERE type = 'table'")
    assert [n for n in names if not n.startswith(("durableq_", "sqlite_"))] == ["album"]


def test_an_empty_file_becomes_a_database(db: Path) -> None:
    db.touch()
    with DurableQ(db) as dq:
        assert dq.init() == "empty"
        assert dq.init() == "current"
    assert plain.one(db, "PRAGMA application_id") == schema.APPLICATION_ID


def test_a_file_of_a_newer_durableq_is_refused(dq: DurableQ, db: Path) -> None:
    dq.close()
    plain.script(db, "UPDATE durableq_version SET version_num = '9999'")
    content = db.read_bytes()
    for use in (lambda: DurableQ(db).store, DurableQ(db).init, DurableQ(db).migrate):
        with pytest.raises(NewerDatabase, match="Upgrade: pip install -U durableq"):
            use()
    assert db.read_bytes() == content
    assert "9999" not in schema.REVISIONS


def test_a_file_of_an_older_durableq_is_refused_unless_migrated(
    dq: DurableQ, db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dq.queue("orders").send("kept")
    dq.close()
    content = db.read_bytes()
    monkeypatch.setattr(schema, "REVISIONS", (*schema.REVISIONS, "9999"))
    assert f"`durableq migrate --db {db}`" in refusal(db, OlderDatabase)
    assert db.read_bytes() == content


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "9p", "virtiofs", "fuse.sshfs"])
def test_a_network_file_system_is_found(
    db: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(location, "_mounts", lambda: {"/": "ext4", str(db.parent): kind})
    assert f"is on {kind}, where locks between processes cannot be trusted" in refusal(db)
    assert not db.exists()
    with DurableQ(f"sqlite:///{db}?allow_network_filesystem=true") as dq:
        assert dq.queue("orders").send("at my own risk") == "1"


def test_a_local_file_system_on_a_network_one_is_accepted(
    db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(location, "_mounts", lambda: {"/": "nfs", str(db.parent): "ext4"})
    with DurableQ(db) as dq:
        assert dq.queue("orders").send("here") == "1"


def test_a_file_mounted_by_itself_is_refused(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(location, "_mounts", lambda: {"/": "ext4", str(db): "ext4"})
    assert "is mounted as a single file" in refusal(db)


def test_the_mounts_of_this_machine_are_read() -> None:
    assert "/" in location._mounts()
    assert "proc" in location._mounts().values()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("a\0b", "control character"),
        ("sqlite://", "names no file"),
        ("sqlite:///", "names no file"),
        ("sqlite://host/q.db", "names no file"),
        ("sqlite:///a%00b", "control character"),
        ("sqlite:///q.db?synchronous=off", "synchronous=off"),
        ("sqlite:///q.db?busy_timeout=soon", "busy_timeout is in seconds"),
        ("sqlite:///q.db?busy_timeout=-1", "busy_timeout is a number of seconds"),
        ("sqlite:///q.db?mode=ro", "Unknown database option 'mode'"),
        ("redis://q", "No engine serves redis"),
    ],
)
def test_a_url_without_a_usable_path_is_refused(url: str, says: str) -> None:
    assert says in refusal(url, InvalidInput)
