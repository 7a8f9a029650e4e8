"""An SQS endpoint that is killed under load keeps its messages."""

from __future__ import annotations

from pathlib import Path

from tests.chaos.served_run import run

KILLS = 5


def test_kills_of_the_server_and_of_workers_lose_and_double_nothing(tmp_path: Path) -> None:
    result = run(KILLS, tmp_path, seed=1)
    assert result.problems == []
    assert result.counts["kills"] == KILLS
    assert result.counts["parcels deleted"] > 0
    assert result.counts["move tasks"] > 0
