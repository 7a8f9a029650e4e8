"""Transfers that are refused, with a sentence, before anything is changed."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import pytest

from durableq import DurableQ
from durableq.admin import operations
from durableq.admin.transfer import abort, transfer
from durableq.admin.transfer_plan import plan
from durableq.engines import open_store
from durableq.engines.sql.schema import REVISIONS
from durableq.model.errors import (
    Conflict,
    DatabaseMoved,
    DatabaseUnusable,
    NewerDatabase,
    NotFound,
    OlderDatabase,
    Unsupported,
)
from durableq.model.health import Level
from durableq.store.core import Capability, WorkerInfo
from durableq.supervisor.liveness import this_process
from durableq.testing.contract.case import ORDERS, look, send
from tests.transfer.places import Places, fill, opened, revision, rows, sql


def refused(places: Places, error: type[Exception], sentence: str) -> None:
    """Check that a transfer is refused, that its plan says so, and that the source works."""
    number = rows(places.source)
    with pytest.raises(error, match=sentence):
        transfer(*places)
    assert revision(places.source) == REVISIONS[-1]
    assert rows(places.source) == number
    with opened(places.source) as store:
        send(store, "it works")


def test_a_target_with_rows_of_its_own(places: Places) -> None:
    with opened(places.source) as store:
        fill(store)
    with opened(places.target) as store:
        store.declare_queue(ORDERS, {})
        send(store, "mine")
    sentence = r"is not empty \(.*1 in durableq_message\): a transfer would mix two stores"
    refused(places, Conflict, sentence)
    assert any("is not empty" in each for each in plan(*places).refusals)
    with opened(places.target) as store:
        assert [m.body for m in store.peek(ORDERS, 10)] == ['"mine"']


def test_a_store_and_itself(places: Places) -> None:
    with opened(places.source) as store:
        fill(store)
    refused(Places(places.source, places.source), Conflict, "are the same store")


def test_a_file_and_a_link_to_it(db: Path) -> None:
    with opened(str(db)) as store:
        fill(store)
    link = db.with_name("link.db")
    link.symlink_to(db)
    refused(Places(str(db), f"sqlite:///{link}?synchronous=normal"), Conflict, "the same store")


def test_a_source_with_a_living_worker(places: Places) -> None:
    with opened(places.source) as store:
        fill(store)
        owner_id = store.register(this_process("host:7")).owner_id
    sentence = rf"Worker host:7 \(pid {os.getpid()}\) works on .*Stop its fleet first"
    refused(places, Conflict, sentence)
    assert any("Worker host:7" in each for each in plan(*places).refusals)
    with opened(places.source) as store:
        assert [worker.owner_id for worker in store.workers()] == [owner_id]


def test_a_worker_that_registers_at_the_last_moment(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look at the workers is made again in the transaction that marks the source."""
    from durableq.engines.sql.moving import SQLEnd

    with opened(places.source) as store:
        fill(store)
        begin = SQLEnd.begin_filling

        def register(end: SQLEnd, *arguments: object) -> None:
            begin(end, *arguments)  # type: ignore[arg-type]
            store.register(this_process("late"))

        monkeypatch.setattr(SQLEnd, "begin_filling", register)
        refused(places, Conflict, "Worker late")
    assert revision(places.target) == REVISIONS[-1]


@pytest.mark.parametrize(
    ("found", "error", "sentence"),
    [
        ("9999", NewerDatabase, "made by a newer durableq"),
        ("0001", OlderDatabase, "made by an older durableq"),
    ],
)
@pytest.mark.parametrize("which", ["source", "target"])
def test_another_revision(
    places: Places, which: str, found: str, error: type[Exception], sentence: str
) -> None:
    for place in places:
        open_store(place).close()
    place = getattr(places, which)
    sql(place, f"UPDATE durableq_version SET version_num = '{found}'")
    with pytest.raises(error, match=sentence):
        transfer(*places)
    assert revision(place) == found
    other = next(each for each in places if each != place)
    assert revision(other) == REVISIONS[-1]


def test_no_source(places: Places, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="There is no durableq database at"):
        transfer(*places)
    (tmp_path / "empty.db").touch()
    with pytest.raises(NotFound, match="There is no durableq database at"):
        transfer(str(tmp_path / "empty.db"), places.target)
    assert not (tmp_path / "shop.db").exists()


@pytest.mark.parametrize("which", [0, 1])
def test_a_store_in_memory(db: Path, which: int) -> None:
    urls = ["memory://", str(db)] if which else [str(db), "memory://"]
    with pytest.raises(Unsupported, match="cannot be moved"):
        transfer(urls[0], urls[1])


def test_a_store_that_belongs_to_another_transfer(db: Path, tmp_path: Path) -> None:
    first, second = str(tmp_path / "first.db"), str(tmp_path / "second.db")
    with opened(str(db)) as store:
        fill(store)
    transfer(str(db), first)
    with pytest.raises(DatabaseMoved, match=f"was moved to {first}"):
        transfer(str(db), second)
    assert not Path(second).exists()
    with pytest.raises(DatabaseMoved, match=f"was moved to {first}"):
        transfer(first, str(db))
    with pytest.raises(Conflict, match="has ended, so it cannot be undone"):
        abort(str(db), first)
    transfer(first, second)
    with opened(second) as store:
        assert rows(second) == rows(str(db))
        assert is_sound(store)


def is_sound(store: object) -> bool:
    """Return whether the counters reconcile."""
    findings = operations.audit(store)  # type: ignore[arg-type]
    return all(finding.level is not Level.BAD for finding in findings)


# ---- content that the other engine cannot store


def test_texts_with_nul_do_not_go_to_postgresql(db: Path, postgres_url: str) -> None:
    places = Places(str(db), postgres_url)
    with opened(places.source) as store:
        store.declare_queue(ORDERS, {})
        send(store, {"body\0": "\0"}, attributes={"a": "\0"})
        send(store, "a", key="k\0")
        send(store, "b", key="j\0\0")
    sentence = r"U\+0000, which PostgreSQL cannot store \(2 in durableq_message.key\)"
    refused(places, Conflict, sentence)
    with opened(places.source) as store:
        store.purge(ORDERS)
        message_id = send(store, {"body\0": "\0"})
    transfer(*places)
    with opened(places.target) as store:
        assert look(store, message_id).body == r'{"body\u0000":"\u0000"}'


def test_texts_with_nul_go_to_another_file(db: Path, tmp_path: Path) -> None:
    target = str(tmp_path / "new.db")
    with opened(str(db)) as store:
        store.declare_queue(ORDERS, {})
        send(store, "a", key="k\0")
    transfer(str(db), target)
    with opened(target) as store:
        assert [message.key for message in store.peek(ORDERS, 1)] == ["k\0"]


@pytest.mark.parametrize("to_schema", [False, True])
def test_a_text_that_is_not_utf8_stops_the_transfer_which_is_undone(
    db: Path, tmp_path: Path, postgres_url: str, *, to_schema: bool
) -> None:
    places = Places(str(db), postgres_url if to_schema else str(tmp_path / "new.db"))
    with opened(places.source) as store:
        store.declare_queue(ORDERS, {})
        send(store, "a", key="k")
    sql(places.source, "UPDATE durableq_message SET key = CAST(x'6BFF' AS TEXT)")
    with pytest.raises(DatabaseUnusable, match="a text that is not UTF-8"):
        transfer(*places)
    abort(*places)
    with opened(places.source) as store:
        assert len(store.peek(ORDERS, 10)) == 1
    with opened(places.target) as store:
        assert store.queues() == []


def test_a_source_whose_counters_are_wrong_is_moved_as_it_is(places: Places) -> None:
    with opened(places.source) as store:
        fill(store)
    sql(places.source, "UPDATE durableq_counters SET discarded = discarded + 3")
    done = transfer(*places)
    assert {finding.name for finding in done.findings} == {"counters"}
    with opened(places.target) as store:
        assert not is_sound(store)


# ---- sentences


def test_no_password_is_stored_or_shown(db: Path, postgres_url: str) -> None:
    url = postgres_url.replace("durableq@", "durableq:secret@")
    with opened(str(db)) as store:
        fill(store)
    done = transfer(str(db), url)
    assert "secret" not in str(done)
    assert "durableq:***@" in done.target
    for place in (str(db), url):
        stored = sql(place, "SELECT value FROM durableq_meta")
        assert "secret" not in str(stored)
    with pytest.raises(DatabaseMoved) as told:
        open_store(str(db))
    assert "durableq:***@" in str(told.value)
    again = transfer(url, str(db.with_name("back.db")))
    assert "secret" not in str(again)


def test_doctor_names_the_new_address(places: Places) -> None:
    with opened(places.source) as store:
        fill(store)
    transfer(*places)
    findings = [f for f in operations.examine(places.source) if f.level is Level.BAD]
    [finding] = [f for f in findings if "was moved to" in f.what]
    assert places.target.rpartition("schema=")[2] in finding.what
    assert finding.advice.startswith("Give that address")


def test_migrate_and_backup_say_that_it_was_moved(db: Path, tmp_path: Path) -> None:
    open_store(str(db)).close()
    transfer(str(db), str(tmp_path / "new.db"))
    with DurableQ(db) as dq, pytest.raises(DatabaseMoved, match="Give that address"):
        dq.migrate()
    with pytest.raises(DatabaseMoved, match="was moved to another address"):
        operations.back_up(str(db), tmp_path / "copy.db")


def test_a_note_that_is_lost_still_gives_a_sentence(db: Path, tmp_path: Path) -> None:
    open_store(str(db)).close()
    transfer(str(db), str(tmp_path / "new.db"))
    sql(str(db), "DELETE FROM durableq_meta WHERE name = 'transfer'")
    with pytest.raises(DatabaseMoved, match="was moved to another store"):
        open_store(str(db))


def test_a_worker_of_the_target_is_told_to_wait(db: Path, tmp_path: Path) -> None:
    """It was started too early, on the address that is being filled."""
    target = str(tmp_path / "new.db")
    with opened(str(db)) as store:
        fill(store)
    with closing(open_store(target)) as early:
        owner_id = early.require(Capability.FLEET).register(WorkerInfo("early", 1, 2)).owner_id
        told = []

        def look_in(_done: int, _total: int, _step: str) -> None:
            with pytest.raises(DatabaseMoved, match="is being filled from") as error:
                early.require(Capability.FLEET).beat(owner_id)
            told.append(error)

        transfer(str(db), target, look_in)
        assert told
        assert early.require(Capability.FLEET).beat(owner_id)
