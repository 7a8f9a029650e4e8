"""Crashes at named points: the run ends there, as by SIGKILL."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Literal, get_args

from durableq.model.errors import Conflict, InvalidInput
from durableq.model.text import shown

Point = Literal[
    "before handler",
    "after handler",
    "before commit",
    "after commit",
    "before send",
    "after send",
]
#: What reaches each point, for the sentence about one that was not reached.
_REACHED_BY: Final[dict[str, str]] = {
    "before handler": "run_pending with a message that is ready",
    "after handler": "a handler that returns; one that raises does not reach it",
    "before commit": "a handler that ends its message.transaction()",
    "after commit": "a handler that ends its message.transaction()",
    "before send": "queue.send, send_many, asend or asend_many without connection=",
    "after send": "queue.send, send_many, asend or asend_many without connection=",
}


class Crashed(BaseException):
    """Ends the run of handlers at the point of `crash_at`, which catches it.

    Like KeyboardInterrupt it is no Exception, so that a handler's `except Exception` lets it pass.
    """


class SenderCrashed(Exception):
    """Ends the code that sends outside of a run, a web framework's for example.

    A BaseException would stop the event loop on which the test's own client runs.
    """


class Crash:
    """A crash that is to come, or has come: then the process counts as dead. Made by `crash_at`.

    Args:
        point: where.
        reclaim: whether messages of the killed worker are reclaimed at once.
    """

    def __init__(self, point: str, *, reclaim: bool) -> None:
        self.point = point
        self.is_dead = False
        self._reclaim = reclaim
        #: Called with `reclaim` at the end of the block: each ends a run that was cut short.
        self.left: list[Callable[[bool], None]] = []

    def __enter__(self) -> Crash:
        global _planned  # noqa: PLW0603 - a process crashes as a whole
        with _lock:
            if _planned is not None:
                raise Conflict(
                    f"A crash is planned already, at {_planned.point!r}. Plan one at a time."
                )
            _planned = self
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        global _planned  # noqa: PLW0603
        _planned = None
        for end in self.left:
            end(self._reclaim)
        if error is None and not self.is_dead:
            raise AssertionError(
                f"The block ended without reaching the crash point {self.point!r}. It is reached "
                f"by {_REACHED_BY[self.point]}, in an application with a fresh store."
            )
        return self.is_dead and isinstance(error, Crashed | SenderCrashed)

    def die(self) -> Crashed | SenderCrashed:
        """Let the process be dead from here on, and return the exception that says so."""
        self.is_dead = True
        kind = Crashed if getattr(_this_thread, "is_running", False) else SenderCrashed
        return kind(f"crashed at the point {self.point!r}")


_lock: Final = threading.Lock()
_planned: Crash | None = None
_this_thread: Final = threading.local()


@contextmanager
def running() -> Iterator[None]:
    """Mark the run of handlers in this thread."""
    _this_thread.is_running = True
    try:
        yield
    finally:
        _this_thread.is_running = False


def reach(point: Point) -> None:
    """Crash here if that is planned.

    Raises:
        Crashed, SenderCrashed: it is, or the process has crashed before.
    """
    planned = _planned
    if planned is not None and (planned.is_dead or planned.point == point):
        raise planned.die()


def check_alive() -> None:
    """Let no code of a crashed run go on.

    Raises:
        Crashed, SenderCrashed: the process has crashed.
    """
    planned = _planned
    if planned is not None and planned.is_dead:
        raise planned.die()


def leave(end: Callable[[bool], None]) -> None:
    """Keep the end of a run that has crashed for the end of the block, which says `reclaim`."""
    if _planned is not None:
        _planned.left.append(end)


def is_dead() -> bool:
    """Return whether the process has crashed."""
    return _planned is not None and _planned.is_dead


def crash_at(point: Point, *, reclaim: bool = False) -> Crash:
    """End the block of a `with` statement at a named point, as SIGKILL would.

    Nothing after the point happens: no statement is committed, no message settled or released.
    The block ends there; the test goes on behind it. Messages in flight stay leased until
    `clock.advance` has ended their leases.

    Args:
        point: "before handler"; "after handler" (it has returned, its message is not completed);
            "before commit" and "after commit" of `message.transaction()` or `batch.transaction()`;
            "before send" and "after send": the commit of a send of its own.
        reclaim: reclaim the messages of the killed worker at once, as its supervisor would.

    Raises:
        InvalidInput: there is no such point.
        Conflict: another crash is planned already; at the start of the block.
        AssertionError: the block ended without reaching the point.
    """
    if point not in get_args(Point):
        names = ", ".join(f'"{name}"' for name in get_args(Point))
        raise InvalidInput(f"There is no crash point {shown(point)}. There are: {names}.")
    return Crash(point, reclaim=reclaim)
