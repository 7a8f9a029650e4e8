"""SIGKILL of PostgreSQL itself: what was acknowledged is there when it has recovered."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from durableq import DurableQ
from durableq.engines.postgres import connecting
from tests.postgres import Server, running


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that by itself acknowledges commits ten seconds before they are on the disk."""
    with running("fsync=on", "synchronous_commit=off", "wal_writer_delay=10s") as server:
        yield server


def acknowledged_and_there(server: Server) -> tuple[int, int]:
    """Send, complete one, kill the server, and return the messages before and afterwards."""
    with DurableQ(server.url) as dq:
        orders = dq.queue("orders")
        for number in range(20):
            orders.send({"order": number}, key=f"order-{number}")
        (first,) = orders.receive(1)
        first.complete()
        acknowledged = orders.info().counts.present
        server.kill()
        server.start()
        return acknowledged, orders.info().counts.present


def test_acknowledged_messages_survive_the_kill_of_the_server(server: Server) -> None:
    assert acknowledged_and_there(server) == (19, 19)


def test_without_our_setting_messages_are_lost(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with DurableQ(server.url) as dq:
        dq.queue("orders").send("on the disk")
    monkeypatch.setattr(connecting, "_DURABLE", "SELECT 1")
    acknowledged, there = acknowledged_and_there(server)
    assert acknowledged == 20
    assert there < acknowledged
