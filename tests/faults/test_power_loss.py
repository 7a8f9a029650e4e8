"""Power cuts, image by image: the old database or the new one, and every answer stays true.

The suite replays every cut with one variant, and those after an answer, or where names change, with
all. With DURABLEQ_POWER_SEEDS=N every cut is replayed with every variant, N times.
"""

from __future__ import annotations

import os

import pytest

from tests.faults.conftest import Sweep
from tests.faults.judging import AFTER, BEFORE, survives

SEEDS = os.environ.get("DURABLEQ_POWER_SEEDS")
WIDE = ("--wide", "--seeds", SEEDS) if SEEDS else ()


@pytest.mark.parametrize("call", BEFORE)
def test_a_power_cut_leaves_the_old_database_or_the_new_one_and_the_next_command_says_which(
    call: str, replay: Sweep
) -> None:
    seen = replay(call, *WIDE)
    assert len(seen) > 40
    assert {image["plain"] for image in seen} == {BEFORE[call], AFTER[call]}
    assert [image for image in seen if not survives(image)] == []


@pytest.mark.parametrize("call", ["begin", "work"])
def test_a_power_cut_takes_back_no_answer(call: str, replay: Sweep) -> None:
    seen = replay(call, *WIDE)
    assert len(seen) > 40
    assert [image for image in seen if not survives(image)] == []


@pytest.mark.parametrize(
    ("call", "lies"),
    [("back_up", "directory"), ("back_up", "files"), ("work", "files")],
)
def test_the_replay_finds_an_fsync_that_does_nothing(call: str, lies: str, replay: Sweep) -> None:
    """It stops at the first bad image."""
    seen = replay(call, "--lies", lies)
    assert [survives(image) for image in seen[-2:]] == [True, False]
