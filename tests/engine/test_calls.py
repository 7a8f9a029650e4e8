"""The number of Python calls that an operation takes, and of files that they are in.

The bounds hold the way of a message as short as it is. A change that lengthens it says why here.
Newer versions of Python make fewer calls: they inline comprehensions.
"""

from __future__ import annotations

import pytest

from scripts.count_calls import Calls, count_all

#: Calls and files to the first statement, to the one that changes the message, and in all.
BOUNDS: dict[str, tuple[tuple[int, int], tuple[int, int] | None, tuple[int, int]]] = {
    "send": ((13, 5), (14, 5), (17, 6)),
    "receive": ((11, 5), (19, 6), (32, 8)),
    "complete": ((15, 5), (16, 5), (29, 7)),
    "fail (buries)": ((17, 8), (24, 10), (39, 11)),
    "receive (empty)": ((11, 5), None, (22, 8)),
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Calls]:
    return count_all(tmp_path_factory.mktemp("calls") / "queue.db")


@pytest.mark.parametrize("operation", BOUNDS)
def test_the_way_of_an_operation_does_not_grow(found: dict[str, Calls], operation: str) -> None:
    calls, bounds = found[operation], BOUNDS[operation]
    assert calls.to_first is not None, "it has reached the database"
    assert (calls.to_change is None) == (bounds[1] is None)
    for end, most in zip((calls.to_first, calls.to_change, None), bounds, strict=True):
        if most is not None:
            number, files = calls.counts(end)
            assert number <= most[0], calls.calls[:end]
            assert files <= most[1], calls.calls[:end]
