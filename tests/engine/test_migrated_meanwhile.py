"""A file that is migrated while it is open, or while workers of an older durableq use it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from subprocess import PIPE

import pytest

from durableq import Conflict, Delivery, DurableQ, NewerDatabase, OlderDatabase, Queue
from durableq.engines.sqlite import schema
from durableq.store.core import Capability
from durableq.worker.options import WorkerOptions
from durableq.worker.worker import Worker
from tests.engine import plain
from tests.migrations.test_released import RELEASED
from tests.process.child import Nursery
from tests.process.fleet_app import APP


def migrate(db: Path, revision: str) -> None:
    """Migrate the file as another durableq would."""
    plain.script(db, f"UPDATE durableq_version SET version_num = '{revision}'")


@pytest.mark.parametrize(("revision", "error"), [("9999", NewerDatabase), ("0001", OlderDatabase)])
def test_nothing_is_written_to_tables_of_another_revision(
    dq: DurableQ, orders: Queue, db: Path, revision: str, error: type[Exception]
) -> None:
    orders.send("before")
    (message,) = orders.receive()
    content = plain.rows(db, "SELECT * FROM durableq_message")
    migrate(db, revision)
    for write in (lambda: orders.send("after"), message.complete, lambda: message.fail("no")):
        with pytest.raises(error, match=r"while this process had it open\. Nothing was written"):
            write()
    with pytest.raises(error), message.transaction():
        pass
    with dq.engine.connect() as connection, connection.begin(), pytest.raises(error):
        orders.send("joined", connection=connection)
    assert plain.rows(db, "SELECT * FROM durableq_message") == content


@pytest.mark.parametrize("call", [Queue.info, partial(Queue.send, body=2)], ids=["read", "write"])
def test_a_call_that_lacks_a_column_says_that_the_file_was_migrated(
    orders: Queue, db: Path, call: Callable[[Queue], object]
) -> None:
    orders.send(1)
    migrate(db, "9999")
    plain.script(db, "ALTER TABLE durableq_counters RENAME COLUMN sent TO accepted")
    with pytest.raises(NewerDatabase, match="while this process had it open"):
        call(orders)
    assert plain.one(db, "SELECT count(*) FROM durableq_message") == 1


def test_a_write_that_reads_no_queue_is_refused_in_migrated_tables(
    dq: DurableQ, orders: Queue, db: Path
) -> None:
    orders.send(1)
    metadata = dq.store.require(Capability.METADATA)
    migrate(db, "9999")
    with pytest.raises(NewerDatabase, match="while this process had it open"):
        metadata.compare_and_set("note", "new", expected=None)
    migrate(db, schema.REVISIONS[-1])
    assert metadata.get_metadata("note") is None


def test_no_code_of_users_runs_in_a_transaction_on_migrated_tables(orders: Queue, db: Path) -> None:
    orders.send(1)
    (message,) = orders.receive()
    migrate(db, "9999")
    ran = []
    with pytest.raises(NewerDatabase), message.transaction():
        ran.append(message.id)
    assert ran == []


def test_a_worker_stops_when_its_file_is_migrated(dq: DurableQ, orders: Queue, db: Path) -> None:
    @dq.handler("orders")
    def handle(_: Delivery) -> None:
        migrate(db, "9999")

    orders.send(1)
    with pytest.raises(NewerDatabase):
        Worker(dq, WorkerOptions("", dq.url, "worker", drain=True)).run()


def test_a_fleet_stops_with_a_sentence_when_its_file_is_migrated(
    dq: DurableQ, db: Path, nursery: Nursery
) -> None:
    fleet = nursery.fleet(db, app=APP, procs=2)
    fleet.wait_event("ready", times=2)
    dq.queue("orders").send(1, delay=1)  # a receive that writes, for each worker
    migrate(db, "9999")
    fleet.wait_event("migrated")
    assert fleet.end() == 1
    told = f"{db} was migrated to another revision while this process had it open."
    assert told in fleet.complaints
    assert "Traceback" not in fleet.complaints
    assert fleet.told("died", "crash_loop") == []
    assert len(fleet.told("ended")) == 2
    assert fleet.told("migrated")[0].text == (
        "the fleet stops; start it again with the durableq that migrated the database"
    )


def test_tables_of_an_application_are_ignored(dq: DurableQ, orders: Queue, db: Path) -> None:
    orders.send(1)
    plain.script(db, "CREATE TABLE mine (id); CREATE INDEX mine_by_id ON mine (id)")
    orders.send(2)
    plain.script(db, "DROP TABLE mine")
    orders.send(3)
    assert orders.info().counts.ready == 3


OLDER = """
import sys
from collections.abc import Callable
from functools import partial
from durableq.engines.sqlite.driver import driver
raw = driver.connect(sys.argv[1])
raw.execute("SELECT count(*) FROM durableq_worker").fetchone()
print("open", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(schema.LACKS_OCTET_LENGTH, reason="files of 0.1 need a newer SQLite")
@pytest.mark.parametrize("revision", ["0001", "0003", "0004"])
def test_a_file_is_not_migrated_under_a_worker_of_an_older_durableq(
    db: Path, revision: str
) -> None:
    shutil.copy(RELEASED / f"{revision}.db", db)
    command = [sys.executable, "-c", OLDER, str(db)]
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE) as older:
        assert older.stdout is not None
        assert older.stdin is not None
        assert older.stdout.readline() == b"open\n"
        plain.script(db, f"UPDATE durableq_worker SET pid = {older.pid}")
        with pytest.raises(Conflict, match=rf"used by process {older.pid} .* Nothing was changed"):
            DurableQ(db).migrate()
        assert plain.one(db, "SELECT version_num FROM durableq_version") == revision
        older.stdin.close()
    with DurableQ(db) as dq:
        assert dq.migrate() == "older"
