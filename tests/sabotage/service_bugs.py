"""Bugs to plant in what systemd is told, and in a fleet that is PID 1."""

from __future__ import annotations

import os
import threading
from typing import Any

from durableq.runtime import systemd
from durableq.supervisor import service, supervisor

SYSTEMD = "tests/process/test_systemd.py::"


def beat_from_a_thread() -> None:
    """A thread sends the beats, whether the process does its work or hangs."""
    cls: Any = systemd.Systemd
    ready = cls.ready

    def beat(teller: Any) -> None:
        while not threading.Event().wait(0.1):
            teller.beat("at work")

    def start(teller: Any) -> None:
        ready(teller)
        threading.Thread(target=beat, args=[teller], daemon=True).start()

    cls.__init__ = _then(cls.__init__, start)


def _then(first: Any, second: Any) -> Any:
    def both(self: Any, *arguments: Any) -> None:
        first(self, *arguments)
        second(self)

    return both


def tell_a_start_before_it_is_one() -> None:
    """A fleet is ready before a worker receives."""
    module: Any = service
    module._have_started = lambda _workers: True


def let_handlers_speak_for_the_service() -> None:
    """The address of systemd's socket stays in the environment."""
    cls: Any = systemd.Systemd
    made = cls.__init__

    def careless(teller: Any, environment: Any = os.environ) -> None:
        made(teller, dict(environment))

    cls.__init__ = careless


def leave_the_orphans() -> None:
    """A supervisor that is PID 1 reaps its workers only."""
    module: Any = supervisor
    module.reap = lambda _is_worker: 0


BUGS = (
    beat_from_a_thread,
    tell_a_start_before_it_is_one,
    let_handlers_speak_for_the_service,
    leave_the_orphans,
)
SEEN_BY = (
    (
        "leave_the_orphans",
        "tests/process/test_container.py::"
        "test_orphans_of_handlers_are_reaped_and_workers_are_still_watched[subreaper]",
    ),
    ("beat_from_a_thread", SYSTEMD + "test_a_supervisor_that_hangs_sends_no_beat"),
    (
        "tell_a_start_before_it_is_one",
        SYSTEMD + "test_a_fleet_has_started_when_its_workers_receive",
    ),
    (
        "let_handlers_speak_for_the_service",
        SYSTEMD + "test_programs_that_handlers_start_do_not_speak_for_the_service",
    ),
)
