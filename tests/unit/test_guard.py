"""What a worker does when somebody closes descriptors that are not theirs: nothing any more."""

from __future__ import annotations

import os
from pathlib import Path

from durableq.latch import Latch
from durableq.worker.guard import CLOSED_DESCRIPTORS, check_descriptors


def ends(latch: Latch) -> list[int]:
    return [latch.fileno(), latch._write]


def test_a_latch_whose_descriptors_are_another_files_writes_nothing_there(tmp_path: Path) -> None:
    latch = Latch()
    assert latch.is_intact
    other = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)
    for end in ends(latch):
        os.dup2(other, end)
    latch.set()
    assert (latch.is_set, latch.is_intact) == (True, False)
    assert (tmp_path / "other").read_bytes() == b""
    for descriptor in (other, *ends(latch)):
        os.close(descriptor)


def test_a_process_whose_descriptors_were_closed_ends_before_it_writes() -> None:
    latch = Latch()
    child = os.fork()
    if child == 0:
        for end in ends(latch):
            os.close(end)
        check_descriptors(latch)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == CLOSED_DESCRIPTORS
    check_descriptors(latch)
    latch.close()
