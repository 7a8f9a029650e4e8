"""The number of Python calls that an operation takes, and of files that they are in.

The bounds hold the way of a message as short as it is. A change that lengthens it says why here.
Newer versions of Python make fewer calls: they inline comprehensions.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import scaled

pytestmark = pytest.mark.xdist_group("calls")

ROOT = Path(__file__).resolve().parents[2]
ENDS = ("to the first statement", "to the change", "in all")
#: Calls and files to each of the ends.
BOUNDS: dict[str, tuple[tuple[int, int] | None, ...]] = {
    "send": ((13, 8), (14, 8), (18, 9)),
    "receive": ((9, 6), (17, 8), (29, 10)),
    "complete": ((13, 7), (14, 7), (24, 8)),
    "fail (buries)": ((19, 10), (26, 12), (41, 13)),
    "receive (empty)": ((9, 6), None, (23, 12)),
}


@pytest.fixture(scope="module")
def found() -> Any:
    """The counts of a new process: beside other open connections the way is longer."""
    command = [sys.executable, "-m", "scripts.count_calls", "--json"]
    counted = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=scaled(30))
    return json.loads(counted.stdout)


@pytest.mark.parametrize("operation", BOUNDS)
def test_the_way_of_an_operation_does_not_grow(found: Any, operation: str) -> None:
    """`python -m scripts.count_calls -v` lists the calls."""
    for end, bound in zip(ENDS, BOUNDS[operation], strict=True):
        counts = found[operation][end]
        assert (counts is None) == (bound is None), end
        if bound is not None:
            assert 0 < counts[0] <= bound[0], end
            assert 0 < counts[1] <= bound[1], end
