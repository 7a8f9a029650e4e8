"""A database of each released revision: it is upgraded, and everything in it is there and works."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from durableq import DurableQ, UnsupportedSQLite
from durableq.admin import operations
from durableq.engines.sqlite import schema
from durableq.model.dead_letters import DeadLetterFilter
from durableq.model.decisions import Requeue
from durableq.model.health import Level
from durableq.model.message import Completion, Failure, Outcome, Reason, Receipt, State
from durableq.store.core import Capability, WorkerInfo
from durableq.testing import FakeClock
from tests.engine import plain
from tests.migrations.test_migrations import schema_of

RELEASED = Path(__file__).parent / "released"
FILES = sorted(RELEASED.glob("*.db"))

# Messages of scripts/keep_revision.py: (queue, body, key, state, receives, recoveries).
MESSAGES = {
    ("mail-dlq", '{"letter":0}', "letter-0", "delayed", 1, 0),
    ("mail", '{"letter":2}', "letter-2", "delayed", 0, 1),
    ("mail-dlq", '{"letter":3}', "letter-3", "ready", 0, 0),
    ("orders", '{"in":"flight"}', "held", "in_flight", 1, 0),
    ("orders", '{"in":"flight"}', "held", "delayed", 0, 0),
    ("orders", '{"failed":"once"}', None, "delayed", 1, 0),
    ("orders", '{"later":true}', None, "delayed", 0, 0),
    ("orders", '"ready, of high priority ✓"', None, "ready", 0, 0),
    ("orders", bytes(range(256)), None, "ready", 0, 0),
}
STORY = ["failed", "failed", "buried"]
HISTORY = {"1": [*STORY, "held"], "2": [*STORY, "discarded"], "3": [*STORY, "requeued"]}


def test_every_revision_has_a_file() -> None:
    assert [path.stem for path in FILES] == list(schema.REVISIONS)


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def db(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    kept: Path = request.param
    db = Path(shutil.copy(kept, tmp_path / "queue.db"))
    if needs_newer_sqlite(db):
        pytest.skip("this SQLite library refuses a file of release 0.1")
    return db


def revision_of(db: Path) -> str:
    """Return the revision of a file."""
    found: str = plain.one(db, "SELECT version_num FROM durableq_version")
    return found


def needs_newer_sqlite(db: Path) -> bool:
    """Return whether a file of release 0.1 needs a function that this SQLite library lacks."""
    if not schema.LACKS_OCTET_LENGTH:
        return False
    (made,) = plain.column(db, "SELECT sql FROM sqlite_schema WHERE name = 'durableq_message'")
    return "octet_length" in made


def test_an_older_sqlite_refuses_a_file_of_release_01_and_leaves_it_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "LACKS_OCTET_LENGTH", True)
    db = Path(shutil.copy(RELEASED / "0003.db", tmp_path / "queue.db"))
    before = db.read_bytes()
    for verb in (DurableQ.init, DurableQ.migrate, lambda dq: dq.store):
        with pytest.raises(
            UnsupportedSQLite, match=r"durableq 0\.1.*3\.43\.0 or newer.*not touched"
        ):
            verb(DurableQ(db))
    with pytest.raises(UnsupportedSQLite, match="not touched"):
        operations.back_up(str(db), tmp_path / "copy.db")
    with pytest.raises(UnsupportedSQLite, match="not touched"):
        operations.restore(RELEASED / "0003.db", str(tmp_path / "restored.db"))
    found = {finding.name: finding for finding in operations.examine(str(db))}
    assert "3.43.0 or newer" in found["file"].what
    assert found["file"].level is Level.BAD
    assert "integrity" not in found
    assert db.read_bytes() == before
    assert not (tmp_path / "copy.db").exists()
    assert not (tmp_path / "restored.db").exists()


@pytest.fixture
def dq(db: Path) -> Iterator[DurableQ]:
    """The application, a second after the file was kept."""
    clock = FakeClock()
    clock.advance(1)
    with DurableQ(db, clock=clock) as dq:
        dq.migrate()
        yield dq


def test_each_file_has_the_tables_of_its_migrations(db: Path, tmp_path: Path) -> None:
    """While a revision is not released: if this fails, run scripts/keep_revision.py."""
    if revision_of(db) == schema.REVISIONS[-1]:
        with DurableQ(tmp_path / "new.db") as dq:
            dq.init()
        assert with_todays_check(db) == with_todays_check(tmp_path / "new.db")


def with_todays_check(path: Path) -> dict[str, str]:
    """The schema; files of release 0.1 measure a body in another way, and keep it."""
    old, new = "octet_length(body)", "length(CAST(body AS BLOB))"
    return {name: sql.replace(old, new) for name, sql in schema_of(path).items()}


def test_every_message_and_record_survives_the_upgrade(dq: DurableQ, db: Path) -> None:
    store = dq.store
    found = {
        (m.queue, m.body, m.key, m.state.label, m.receive_count, m.recovery_count)
        for info in store.require(Capability.INSPECT).queues()
        for m in store.require(Capability.INSPECT).peek(info.name, 100)
    }
    assert found == MESSAGES
    for message_id, events in HISTORY.items():
        assert [
            event.event.value
            for event in store.require(Capability.DEAD_LETTERS).history(message_id)
        ] == events
    dead_letter = store.require(Capability.DEAD_LETTERS).dead_letter("4")
    assert dead_letter is not None
    assert dead_letter.last_failure is not None
    assert (dead_letter.source_queue, dead_letter.last_failure.error_message) == (
        "mail",
        "no such card",
    )
    assert store.require(Capability.INSPECT).queue("mail").settings.max_receives == 2
    assert store.require(Capability.INSPECT).queue("mail").settings.visibility_timeout_ms == 5000
    paid = store.require(Capability.IDEMPOTENCY).record("orders", "paid")
    assert paid is not None
    assert paid.result == '{"paid":120}'
    assert [worker.name for worker in store.require(Capability.FLEET).workers()] == [
        "worker-1:4711"
    ]
    view = "SELECT id, queue, reason, error_type FROM durableq_dead_letter ORDER BY id"
    assert plain.rows(db, view) == [
        (1, "mail", "handler_error", "ValueError"),
        (4, "mail", "handler_error", "ValueError"),
    ]
    plain.check_sound(db)
    dq.close()


def test_an_upgraded_file_can_be_worked(dq: DurableQ, db: Path) -> None:
    orders, mail = dq.queue("orders"), dq.queue("mail")
    (first,) = orders.receive()
    assert (first.body, first.attributes) == (
        "ready, of high priority ✓",
        {"source": "shop", "n": 1},
    )
    (second,) = orders.receive()
    assert second.body == bytes(range(256))
    first.complete()
    second.complete()
    assert mail.receive() == []
    orders.send({"amount": 120}, key="paid")
    assert orders.receive() == [], "its key was forgotten"
    (worker,) = dq.store.require(Capability.FLEET).workers()
    dq.store.require(Capability.FLEET).unregister(
        worker.owner_id
    )  # the worker is dead, so its messages come back
    (held,) = orders.receive()
    assert (held.key, held.receive_count) == ("held", 2)
    held.complete()
    (dead_letter,) = dq.store.require(Capability.DEAD_LETTERS).lease_dead_letters("mail-dlq", ["1"])
    assert dead_letter.state is State.IN_FLIGHT
    assert orders.send("new") == "15", "an id was given twice, or skipped"
    plain.check_sound(db)
    dq.close()


def test_a_key_hashed_by_release_0_1_is_recognised(dq: DurableQ, db: Path) -> None:
    as_0_1_wrote_it = '{"amount":120.0,"lines":{"9":1,"10":2}}'
    orders = dq.queue("orders")
    plain.rows(
        db,
        "UPDATE durableq_idempotency SET payload_hash = ? WHERE key = 'paid'",
        hashlib.sha256(as_0_1_wrote_it.encode()).digest(),
    )
    received = dq.store.receive("orders", 2).messages
    assert [message.key for message in received] == [None, None]
    orders.send({"lines": {10: 2, 9: 1}, "amount": 120.0}, key="paid")
    [duplicate] = dq.store.receive("orders", 1).duplicates
    assert (duplicate.key, duplicate.result) == ("paid", '{"paid":120}')
    dq.close()


def test_dead_letters_from_before_and_after_the_upgrade_share_groups(
    dq: DurableQ, db: Path
) -> None:
    mail, why = dq.queue("mail"), Failure(Reason.HANDLER_ERROR, "ValueError", "no such card")
    [group] = dq.store.require(Capability.DEAD_LETTERS).dead_letter_groups()
    assert (group.queue, group.fingerprint, group.count) == ("mail", why.fingerprint, 2)
    assert (group.error_type, group.error_message) == ("ValueError", "no such card")
    mail.send("another")
    for _ in range(2):
        (delivery,) = dq.store.receive("mail", 1).messages
        assert delivery.receipt is not None
        dq.store.fail([(delivery.receipt, replace(why, retry_in_ms=0))])
    [group] = dq.store.require(Capability.DEAD_LETTERS).dead_letter_groups()
    assert (group.count, group.example_id) == (3, mail_dead_letters(dq)[-1])
    view = "SELECT DISTINCT fingerprint FROM durableq_dead_letter"
    assert plain.column(db, view) == [why.fingerprint]
    dq.close()


def mail_dead_letters(dq: DurableQ) -> list[str]:
    return [
        dead_letter.id for dead_letter in dq.store.require(Capability.INSPECT).peek("mail-dlq", 100)
    ]


def test_dead_letters_of_every_revision_can_be_moved(dq: DurableQ, db: Path) -> None:
    move = dq.store.require(Capability.REDRIVE).start_redrive(
        DeadLetterFilter(error_type="ValueError"), Requeue()
    )
    assert dq.store.require(Capability.REDRIVE).continue_redrive(move.id, 10).moved == 2
    assert mail_dead_letters(dq) == []
    plain.check_sound(db)
    dq.close()


def test_redrive_tasks_and_metadata_survive_the_upgrade(dq: DurableQ, db: Path) -> None:
    if not dq.store.require(Capability.REDRIVE).redrive_tasks():  # an older file has none
        assert dq.store.require(Capability.METADATA).get_metadata("breaker") is None
        assert [worker.handled for worker in dq.store.require(Capability.FLEET).workers()] == [0]
        return
    [move] = dq.store.require(Capability.REDRIVE).redrive_tasks()
    assert (move.total, move.wanted) == (2, DeadLetterFilter("mail"))
    assert move.actor == "person (ann)"
    assert dq.store.require(Capability.REDRIVE).continue_redrive(move.id, 10).moved == 2
    assert dq.store.require(Capability.METADATA).get_metadata("breaker") == "closed"
    assert [worker.handled for worker in dq.store.require(Capability.FLEET).workers()] == [12]
    plain.check_sound(db)
    dq.close()


def test_progress_survives_the_upgrade_as_long_as_its_lease(db: Path) -> None:
    reported = [] if revision_of(db) < "0011" else [(0.4, "page 4 of 10")]
    with DurableQ(db, clock=FakeClock()) as dq:
        dq.migrate()
        progress = dq.store.require(Capability.PROGRESS)
        assert [(one.fraction, one.text) for one in progress.progress_in("orders", 10)] == reported
        fleet = dq.store.require(Capability.FLEET)
        (worker,) = fleet.workers()
        (lease,) = fleet.leases_of(worker.owner_id)
        assert lease.receipt is not None
        dq.store.release([lease.receipt])
        assert progress.progress_in(None, 10) == []


def test_a_worker_of_an_older_revision_has_no_registered_queues(db: Path) -> None:
    revision = revision_of(db)
    with DurableQ(db, clock=FakeClock()) as dq:
        dq.migrate()
        (worker,) = dq.store.require(Capability.FLEET).workers()
        assert worker.queues == (None if revision < "0004" else ("orders",))


def test_no_worker_gets_the_owner_id_of_an_earlier_one(dq: DurableQ) -> None:
    (before,) = dq.store.require(Capability.FLEET).workers()
    dq.store.require(Capability.FLEET).unregister(before.owner_id)
    again = dq.store.require(Capability.FLEET).register(
        WorkerInfo("worker-1:4711", 4711, 1_000, "boot-1", "pid:[1]")
    )
    assert again.owner_id > before.owner_id
    assert dq.store.require(Capability.FLEET).workers() == [again]
    dq.close()


def test_a_lease_of_before_the_upgrade_is_settled_with_its_receipt(db: Path) -> None:
    found = "SELECT id, hex(receipt) FROM durableq_message WHERE state = 1"
    [(message_id, token)] = plain.rows(db, found)
    with DurableQ(db, clock=FakeClock()) as dq:
        dq.migrate()
        fleet = dq.store.require(Capability.FLEET)
        (worker,) = fleet.workers()
        receipt = Receipt("orders", str(message_id), token.lower())
        assert [lease.receipt for lease in fleet.leases_of(worker.owner_id)] == [receipt]
        assert dq.store.complete([Completion(receipt, None, "held")]) == [Outcome.DONE]
    plain.check_sound(db)


def test_after_a_restart_of_the_machine_no_lease_is_left(db: Path) -> None:
    clock = FakeClock()
    clock.reboot()
    with DurableQ(db, clock=clock) as dq:
        dq.migrate()
        assert dq.queue("orders").info().counts.in_flight == 0
        assert dq.store.require(Capability.FLEET).workers() == []


def test_an_upgrade_is_estimated_beforehand(db: Path) -> None:
    found, revision = operations.upgrade_estimate(str(db)), revision_of(db)
    if revision == schema.REVISIONS[-1]:
        assert found is None
        return
    assert found is not None
    if revision >= "0007":
        assert found.sentence().startswith("This upgrade rebuilds no table")
        return
    assert found.rows == len(MESSAGES)
    assert 0 < found.disk_bytes <= 3 * db.stat().st_size
    work = f"rebuilds durableq_message ({len(MESSAGES)} rows)"
    if revision >= "0005":
        work = f"reads {len(MESSAGES)} messages"
        if revision < "0006":
            work += " and writes 2 dead letters"
    assert f"This upgrade {work}: it takes about 0 s" in found.sentence()
    with plain.connection(db) as raw:
        in_place = schema.estimate_upgrade(raw, dict.fromkeys(schema.REVISIONS, ()), ())
    assert in_place.sentence().startswith("This upgrade rebuilds no table")
