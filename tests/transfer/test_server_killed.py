"""SIGKILL of PostgreSQL in the middle of a transfer: each message is there once in the end."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from durableq import DurableQ
from durableq.admin import operations
from durableq.admin.transfer import transfer
from durableq.engines.sql.schema import REVISIONS
from durableq.model.health import is_healthy
from tests.postgres import Server, running
from tests.process.child import Nursery
from tests.transfer.places import Places, opened, revision, rows, settle_all

MESSAGES = 600
#: Runs a transfer in small batches, prints a line for each step and its error, and waits at one
#: of the steps for a line or the end of its stdin.
RUN = """
import sys
from durableq.admin import transfer as moving
from durableq.model.errors import DurableQError
moving.FIRST_ROWS = moving.MOST_ROWS = 10
steps = 0
def tell(*step):
    global steps
    steps += 1
    print(*step, flush=True)
    if steps == 20:
        sys.stdin.readline()
try:
    moving.transfer(sys.argv[1], sys.argv[2], tell)
except DurableQError as error:
    print(type(error).__name__, error, flush=True)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server that by itself acknowledges commits ten seconds before they are on the disk."""
    with running("synchronous_commit=off", "wal_writer_delay=10s") as server:
        yield server


@pytest.mark.parametrize("killed", ["target", "source"])
def test_a_transfer_goes_on_after_the_kill_of_its_server(
    server: Server, killed: str, nursery: Nursery, tmp_path: Path
) -> None:
    file, schema = str(tmp_path / "shop.db"), f"{server.url}&schema={killed}"
    places = Places(file, schema) if killed == "target" else Places(schema, file)
    with DurableQ(places.source) as dq:
        queue = dq.queue("orders")
        queue.send_many(range(MESSAGES))
        queue.receive(20)
    child = nursery.run(sys.executable, "-c", RUN, *places, stdin=subprocess.PIPE)
    child.wait_until(lambda: len(child.said) >= 20, "some of its batches")
    server.kill()
    assert child.process.stdin is not None
    child.process.stdin.close()
    assert child.end() == 0, child.complaints
    assert child.said[-1].startswith("DatabaseUnreachable "), child.said[-3:]
    server.start()
    assert (revision(places.target), revision(places.source)) == ("filling", "moving")
    assert 0 < rows(places.target) < MESSAGES
    done = transfer(*places)
    assert done.resumed
    assert (revision(places.target), revision(places.source)) == (REVISIONS[-1], "moved")
    with opened(places.target) as store:
        assert is_healthy(operations.audit(store))
        assert settle_all(store) == MESSAGES
        assert store.queue("orders").counters.completed == MESSAGES
