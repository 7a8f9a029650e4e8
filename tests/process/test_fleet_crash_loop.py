"""Workers that die before they can receive: the fleet reports it and ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from durableq import DurableQ
from durableq.store.core import Capability
from durableq.supervisor.starting import FALSE_STARTS
from tests.process.child import Nursery

CODE = """
import os, signal, sys
from durableq import DurableQ

dq = DurableQ()


@dq.handler("orders")
def act(message):
    return None


if sys.argv[0].endswith("worker/__main__.py"):
    {end}
"""


@pytest.mark.parametrize(
    ("end", "cause"),
    [
        ("raise RuntimeError('only here')", "exit code 1"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
    ],
    ids=["raises", "is killed"],
)
def test_an_application_that_dies_in_every_worker_ends_the_fleet_with_1(
    dq: DurableQ, db: Path, tmp_path: Path, nursery: Nursery, end: str, cause: str
) -> None:
    (tmp_path / "shop.py").write_text(CODE.format(end=end))
    fleet = nursery.fleet(db, app="shop:dq", cwd=tmp_path, procs=2)
    assert fleet.end() == 1
    said = fleet.told("crash_loop")[-1].text
    assert cause in said
    assert "the fleet ends" in said
    assert FALSE_STARTS <= len(fleet.told("started")) <= FALSE_STARTS + 1
    assert all(cause in died.text for died in fleet.told("died"))
    assert ("only here" in fleet.complaints) == ("raise" in end)
    assert dq.store.require(Capability.FLEET).workers() == []
