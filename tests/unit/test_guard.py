"""What a worker does when somebody closes descriptors that are not theirs: nothing any more."""

from __future__ import annotations

import os
from pathlib import Path

from durableq.runtime.wakeup import WakeupEvent
from durableq.worker.fd_check import CLOSED_DESCRIPTORS, check_descriptors


def ends(wakeup: WakeupEvent) -> list[int]:
    return [wakeup.fileno(), wakeup._write]


def test_a_latch_whose_descriptors_are_another_files_writes_nothing_there(tmp_path: Path) -> None:
    wakeup = WakeupEvent()
    assert wakeup.is_intact
    other = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)
    for end in ends(wakeup):
        os.dup2(other, end)
    wakeup.set()
    assert (wakeup.is_set, wakeup.is_intact) == (True, False)
    assert (tmp_path / "other").read_bytes() == b""
    for descriptor in (other, *ends(wakeup)):
        os.close(descriptor)


def test_a_process_whose_descriptors_were_closed_ends_before_it_writes() -> None:
    wakeup = WakeupEvent()
    child = os.fork()
    if child == 0:
        for end in ends(wakeup):
            os.close(end)
        check_descriptors(wakeup)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == CLOSED_DESCRIPTORS
    check_descriptors(wakeup)
    wakeup.close()
