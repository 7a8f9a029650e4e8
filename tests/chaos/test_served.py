"""An SQS endpoint that is killed under load keeps its messages."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.chaos.served_client import Endpoint
from tests.chaos.served_run import run

KILLS = 5


def test_kills_of_the_server_and_of_workers_lose_and_double_nothing(tmp_path: Path) -> None:
    result = run(KILLS, tmp_path, seed=1)
    assert result.problems == []
    assert result.counts["kills"] == KILLS
    assert result.counts["parcels deleted"] > 0
    assert result.counts["move tasks"] > 0


def test_the_port_of_an_endpoint_that_is_down_is_kept_from_others(tmp_path: Path) -> None:
    endpoint = Endpoint(str(tmp_path / "queue.db"), tmp_path / "server.log")
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", endpoint.port))
    endpoint.start()
    endpoint.stop()
