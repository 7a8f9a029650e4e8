"""Ctrl-C in a thread that waits for the turn of its process to write, or writes for others."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from durableq import DurableQ, OutcomeUnknown, Queue
from durableq.engines.sql import sending
from durableq.engines.sqlite.group_commit import Turn
from scripts.count_calls import ROOT
from tests.engine import plain
from tests.engine.crowd import Crowd, bodies
from tests.support import observing_calls, scaled, wait_for


def test_ctrl_c_ends_the_wait_of_a_thread_and_no_other(
    crowd: Crowd, orders: Queue, db: Path
) -> None:
    with crowd.writing():
        crowd.start(lambda: orders.send("first"))

        def interrupt() -> None:
            wait_for(lambda: len(crowd.turn._waiting) == 2, what="this thread to wait")
            os.kill(os.getpid(), signal.SIGINT)

        interrupter = threading.Thread(target=interrupt)
        interrupter.start()
        with pytest.raises(KeyboardInterrupt):
            orders.send("interrupted")
        interrupter.join()
        crowd.start(lambda: orders.send("last"))
    first, last = crowd.join()
    assert bodies(db) == {first: '"first"', last: '"last"'}


class Interruption:
    """A KeyboardInterrupt at a step of this thread's writing, where a signal could be handled."""

    def __init__(self, step: int) -> None:
        self.left = step
        self.is_writing = False
        self.came = False

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        """Count a step; for sys.setprofile."""
        self.is_writing = self.is_writing or frame.f_code is Turn._write.__code__
        is_ours = frame.f_code.co_filename.startswith(ROOT)  # not a callback of the collector
        if self.is_writing and is_ours and event in {"call", "c_return"}:
            self.left -= 1
            if self.left < 0:
                sys.setprofile(None)
                self.came = True
                raise KeyboardInterrupt


def write_a_group_with(interruption: Interruption, crowd: Crowd, orders: Queue) -> object:
    """Let this thread write a group with two others, interrupted; return its outcome."""

    def follow() -> None:
        with crowd.writing():
            ready.set()
            wait_for(lambda: crowd.turn._waiting, what="the first thread to wait")
            for number in range(2):
                crowd.start(partial(orders.send, f"follower {number}"))

    ready = threading.Event()
    others = threading.Thread(target=follow, daemon=True)
    others.start()
    assert ready.wait(scaled(10))
    with observing_calls():
        try:
            sys.setprofile(interruption)
            return orders.send("leader")
        except KeyboardInterrupt as error:
            return error
        finally:
            sys.setprofile(None)
            others.join()


def test_ctrl_c_at_each_step_of_a_group_leaves_no_thread_waiting_and_tells_none_a_lie(
    dq: DurableQ, orders: Queue, db: Path
) -> None:
    answered, unknown = 0, 0
    for step in itertools.count():
        plain.script(db, "DELETE FROM durableq_message")
        crowd, interruption = Crowd(dq), Interruption(step)
        outcome = write_a_group_with(interruption, crowd, orders)
        outcomes = crowd.join()
        found = bodies(db)
        assert len(set(found.values())) == len(found), "a message was stored twice"
        if not isinstance(outcome, KeyboardInterrupt):
            assert found[str(outcome)] == '"leader"'
        for number, told in enumerate(outcomes):
            assert isinstance(told, str | OutcomeUnknown), step
            if isinstance(told, str):
                assert found[told] == f'"follower {number}"', step
                answered += 1
            else:
                unknown += 1
        assert crowd.turn.holder is None, step
        if not interruption.came:
            break
        orders.send("after")
    assert step > 30, "the group was not interrupted at each of its steps"
    assert answered > unknown, "only an interrupted COMMIT leaves an outcome unknown"


def test_an_interrupted_thread_leaves_its_group_to_the_next(
    crowd: Crowd, orders: Queue, db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send, this = sending.send, threading.get_ident()

    def interrupt(tx: Any, queue: str, drafts: Any) -> list[str]:
        if threading.get_ident() == this and [each.body for each in drafts] != ['"leader"']:
            raise KeyboardInterrupt
        return send(tx, queue, drafts)

    monkeypatch.setattr(sending, "send", interrupt)
    outcome = write_a_group_with(Interruption(1 << 30), crowd, orders)
    assert isinstance(outcome, KeyboardInterrupt)
    ids = crowd.join()
    assert bodies(db) == {ids[0]: '"follower 0"', ids[1]: '"follower 1"'}
