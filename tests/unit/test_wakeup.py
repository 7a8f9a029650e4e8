"""WakeupEvent, and the check for closed descriptors."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from durableq.runtime import wakeup as module
from durableq.runtime.wakeup import (
    CLOSED_DESCRIPTORS,
    MessageWaiter,
    WakeupEvent,
    wait_readable,
)
from tests.descriptors import opened
from tests.support import scaled


@pytest.fixture
def wakeup() -> Iterator[WakeupEvent]:
    wakeup = WakeupEvent()
    yield wakeup
    wakeup.close()


def test_an_event_is_set_until_it_is_cleared(wakeup: WakeupEvent) -> None:
    assert (wakeup.is_set, wakeup.wait(0)) == (False, False)
    wakeup.set()
    assert (wakeup.is_set, wakeup.wait(0)) == (True, True)
    assert wakeup.wait(0), "a wait takes nothing away"
    assert wait_readable(0, wakeup)
    wakeup.clear()
    assert (wakeup.is_set, wakeup.wait(0)) == (False, False)
    assert not wait_readable(0, wakeup)


def test_setting_an_event_never_waits(wakeup: WakeupEvent) -> None:
    for _ in range(100_000):  # a pipe holds 65,536
        wakeup.set()
    assert wakeup.wait(0)
    wakeup.clear()
    assert not wait_readable(0, wakeup)


def test_a_wait_ends_when_another_thread_sets_it(wakeup: WakeupEvent) -> None:
    thread = threading.Thread(target=wakeup.set)
    thread.start()
    assert wakeup.wait(scaled(60))
    thread.join()


def test_a_wait_ends_when_a_signal_handler_sets_it(wakeup: WakeupEvent) -> None:
    before = signal.signal(signal.SIGALRM, lambda _number, _frame: wakeup.set())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        assert wakeup.wait(scaled(60))
    finally:
        signal.signal(signal.SIGALRM, before)


def test_setting_an_event_with_closed_descriptors_is_harmless() -> None:
    wakeup = WakeupEvent()
    wakeup.close()
    wakeup.set()
    assert wakeup.is_set


def test_an_event_closes_its_own_descriptors_and_no_others_once() -> None:
    wakeup = WakeupEvent()
    before = opened()
    read, write = ends(wakeup)
    os.close(write)
    other = os.open("/", os.O_RDONLY)
    assert other == write, "the number is used again"
    wakeup.close()
    assert before.keys() - opened().keys() == {read}
    wakeup.close()
    wakeup.exit_unless_intact()  # it was closed by its owner
    wakeup.exit_if_closed()
    os.close(other)


def test_an_event_is_closed_with_its_last_reference() -> None:
    before = opened()
    assert len([WakeupEvent() for _ in range(10)]) == 10
    assert opened() == before


def ends(wakeup: WakeupEvent) -> list[int]:
    return [wakeup.fileno(), wakeup._write]


def test_an_event_whose_descriptors_are_another_files_writes_nothing_there(tmp_path: Path) -> None:
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


@pytest.mark.parametrize("look", ["exit_unless_intact", "exit_if_closed"])
@pytest.mark.parametrize("closed", [0, 1])
@pytest.mark.parametrize("instead", [None, "/dev/null", "pipe"])
def test_a_process_whose_descriptors_were_closed_ends_before_it_writes(
    look: str, closed: int, instead: str | None
) -> None:
    wakeup = WakeupEvent()
    child = os.fork()
    if child == 0:
        other = os.pipe()[closed] if instead == "pipe" else os.open(instead or "/", os.O_RDONLY)
        os.close(ends(wakeup)[closed])
        if instead:
            os.dup2(other, ends(wakeup)[closed])
        getattr(wakeup, look)()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == CLOSED_DESCRIPTORS
    getattr(wakeup, look)()
    wakeup.close()


class Writes:
    """A store without messages, and a watch that is told of writes after some seconds each."""

    def __init__(self, *silences: float) -> None:
        self._silences = list(silences)
        self.now = 0.0
        self.looks = 0

    def watch(self) -> Writes:
        return self

    def ready_in_ms(self, queues: Sequence[str]) -> int | None:
        self.looks += 1
        return None

    def wait(self, seconds: float, *_: object) -> bool:
        silence = self._silences.pop(0)
        self.now += min(silence, seconds)
        return silence <= seconds


PAUSES_SECONDS = (0.001, 0.010)


def waits(
    monkeypatch: pytest.MonkeyPatch, wakeup: WakeupEvent, queues: Sequence[str], *silences: float
) -> list[tuple[bool, float]]:
    """Return the answer of a wait for each of the silences, and the pause after it."""
    store: Any = Writes(*silences)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: store.now))
    waiter = MessageWaiter(store, wakeup, PAUSES_SECONDS)
    return [(waiter.wait(queues, 1.0), waiter._pause) for _ in silences]


def test_a_write_after_a_silence_is_answered_by_a_receive(
    monkeypatch: pytest.MonkeyPatch, wakeup: WakeupEvent
) -> None:
    assert waits(monkeypatch, wakeup, ["orders"], 0.5, 0.02) == [(True, 0.001)] * 2
    assert waits(monkeypatch, wakeup, [], 0.5) == [(False, 0.001)], "no queue, nothing to receive"


def test_writes_in_succession_are_looked_at_with_growing_pauses(
    monkeypatch: pytest.MonkeyPatch, wakeup: WakeupEvent
) -> None:
    pauses = [0.001, 0.002, 0.004, 0.008, 0.010, 0.010]
    answers = waits(monkeypatch, wakeup, ["orders"], *[0.002] * 6, 5.0, 0.002)
    assert answers == [*((False, pause) for pause in pauses), (False, 0.0), (False, 0.001)]
