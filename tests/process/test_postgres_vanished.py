"""A host that vanishes: its network is cut off, and nobody is told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest

from durableq import DurableQ
from durableq.engines.postgres.connecting import connect
from durableq.engines.postgres.location import Location
from durableq.store.core import Capability
from tests.engine import plain
from tests.networks import Cable, inside
from tests.postgres import USER, Server, running
from tests.process.app import Ledger
from tests.process.child import Nursery
from tests.process.conftest import new_place
from tests.process.facts import REASONS, receives, send
from tests.process.fleet_app import APP

pytestmark = pytest.mark.xdist_group("postgres vanished")
#: Probes of an idle connection after a second, and each second: it is given up after two seconds.
SOON = "keepalives_idle=1&keepalives_interval=1&keepalives_count=2&tcp_user_timeout=2000"


@pytest.fixture(scope="module")
def cable() -> Iterator[Cable]:
    cable = Cable()
    yield cable
    cable.close()


@pytest.fixture(scope="module")
def server(cable: Cable) -> Iterator[Server]:
    """A server that others reach through the cable, and this machine by its socket."""
    with inside(cable.server), running(f"listen_addresses={cable.server_address}") as server:
        with (server.data / "pg_hba.conf").open("a") as rules:
            rules.write(f"host all all {cable.host_address}/32 trust\n")
        with psycopg.connect(server.url) as raw:
            raw.execute("SELECT pg_reload_conf()")
        yield server


@pytest.fixture
def db(server: Server) -> Iterator[str]:
    with new_place(server.url) as url:
        yield url


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("", ("10", "5", "3", "20000")),
        (f"?{SOON}", ("1", "1", "2", "2000")),
    ],
)
def test_the_server_gives_up_a_vanished_client_as_soon_as_the_client_would(
    server: Server, cable: Cable, more: str, expected: tuple[str, ...]
) -> None:
    assert server.answers()
    names = ("keepalives_idle", "keepalives_interval", "keepalives_count", "user_timeout")
    url = f"postgresql://{USER}@{cable.server_address}/postgres{more}"
    with inside(cable.host), closing(connect(Location.parse(url))) as raw:
        asked = ", ".join(f"current_setting('tcp_{name}')" for name in names)
        assert raw.execute(f"SELECT {asked}".encode()).fetchone() == expected


def test_messages_of_a_vanished_host_come_back_when_the_server_gives_it_up(
    dq: DurableQ, db: str, cable: Cable, ledger: Ledger, nursery: Nursery
) -> None:
    dq.queue("orders", visibility_timeout=3_600)
    send(dq, "orders", {"k": "wait once"})
    schema = db.rpartition("schema=")[2]
    there = f"postgresql://{USER}@{cable.server_address}/postgres?{SOON}&schema={schema}"
    first = nursery.fleet(there, app=APP, host="first", network=cable.host)
    first.wait_until(lambda: ledger.lines("invoke"), "the message in hand")
    second = nursery.fleet(db, app=APP, host="second")
    second.wait_event("ready")
    cable.pull()
    second.wait_until(lambda: ledger.lines("done"), "it to be done on the other host")
    assert receives(ledger) == ["k#1", "k#2"]
    assert plain.column(db, REASONS) == ["worker_lost"]
    (left,) = dq.store.require(Capability.FLEET).workers()
    assert left.host_id == "second"
