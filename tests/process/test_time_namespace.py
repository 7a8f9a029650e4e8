"""Processes of two time namespaces share one file: the boot clock of one is far ahead or behind."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from durableq.engines import open_store
from durableq.model.message import Outcome, draft
from durableq.store.core import Capability, Store
from durableq.supervisor.liveness import this_process
from tests.support import scaled

OTHER = """
import json, sys
from durableq.engines import open_store
from durableq.supervisor.liveness import liveness

store = open_store(sys.argv[1])
[worker] = store.workers()
taken = store.receive("orders", 10, visibility_ms=40_000).messages
told = {
    "liveness": liveness(worker).value,
    "taken": [message.body for message in taken],
    "reclaimed": store.reclaim(),
    "expired": store.prune().expired,
}
store.close()
print(json.dumps(told))
"""
UNSHARE = ["unshare", "--time", "--boottime"]


def in_namespace(offset_seconds: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*UNSHARE, str(offset_seconds), sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=scaled(60), check=False)


@pytest.fixture(scope="module", autouse=True)
def time_namespaces() -> None:
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not installed")
    tried = in_namespace(1_000, "-c", "")
    if tried.returncode:
        pytest.skip(f"no time namespace can be made here: {tried.stderr.strip()}")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "q.db"))


@pytest.mark.parametrize("offset_seconds", [100_000, 400 * 86_400, -100])
def test_living_leases_are_neither_taken_nor_granted_for_longer(
    store: Store, tmp_path: Path, offset_seconds: int
) -> None:
    store.declare_queue("orders", {"visibility_timeout_ms": 60_000})
    worker = store.require(Capability.FLEET).register(this_process("here"))
    store.send("orders", [draft("held here"), draft("waits")])
    [held] = store.receive("orders", 1, owner_id=worker.owner_id).messages
    assert held.receipt is not None
    other = in_namespace(offset_seconds, "-c", OTHER, str(tmp_path / "q.db"))
    assert other.returncode == 0, other.stderr
    told: dict[str, Any] = json.loads(other.stdout)
    assert told == {"liveness": "alive", "taken": ['"waits"'], "reclaimed": 0, "expired": 0}
    assert "jumped" not in other.stderr
    assert store.extend([held.receipt], 60_000) == [Outcome.DONE]
    [_, theirs] = store.require(Capability.INSPECT).peek("orders", 10)
    assert 0 < theirs.lease_left_ms <= 40_000
    store.close()
