"""A fleet of processes that only sleep."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.supervisor import Supervisor


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Supervisor]:
    fleet = Supervisor(tmp_path)
    yield fleet
    fleet.close()
