"""Waiting for facts, and new databases without migrations, for every test.

`wait_for` is the only place that sleeps. Processes that tests start import this module, too: what
they do not need, such as pytest, is imported late.
"""

import gc
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

if TYPE_CHECKING:
    import pytest

    from durableq.runtime.clock import Clock

T = TypeVar("T")

#: Pauses between two looks: short at first, then as long as a twentieth of the time waited.
POLL_SECONDS: Final = (0.01, 0.1)
#: Longest wait on a loaded machine; the fault handler ends a test after 300 seconds.
LONGEST_SECONDS: Final = 240.0


def scaled(seconds: float) -> float:
    """Return a deadline for a machine as loaded as this one, in seconds.

    A wait that is enough on an idle machine is multiplied by the number of processes that share
    each processor, as the load average of the last minute tells.
    """
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    crowd = max(1.0, os.getloadavg()[0] / processors)
    return max(seconds, min(LONGEST_SECONDS, seconds * crowd))


def wait_for(
    fact: Callable[[], T | Literal[False] | None], *, seconds: float = 10, what: str = "a fact"
) -> T:
    """Return what `fact()` returns as soon as that is true; fail the test when it takes too long.

    An empty answer (None, False, 0, []) means "not yet". What `fact` raises is raised at once.

    Args:
        fact: asked again and again.
        seconds: the deadline on an idle machine; see `scaled`.
        what: the fact in words, for the failure.
    """
    __tracebackhide__ = True
    started = time.monotonic()
    while not (seen := fact()):
        waited = time.monotonic() - started
        if waited >= seconds and waited >= scaled(seconds):
            import pytest

            pytest.fail(f"Waited {waited:.2f} seconds for {what}, in vain; last seen: {seen!r}.")
        time.sleep(min(max(POLL_SECONDS[0], waited / 20), POLL_SECONDS[1]))
    return seen


@contextmanager
def observing_calls() -> Iterator[None]:
    """A block that sets a profile or trace function of this thread, to count calls or to raise.

    No garbage is collected in it: a finalizer that a collection happens to run would be counted,
    or would swallow the exception. Afterwards the thread has the functions that it had before.
    """
    functions = sys.getprofile(), sys.gettrace()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        sys.setprofile(functions[0])
        sys.settrace(functions[1])
        if was_enabled:
            gc.enable()


def new_file(path: Path, clock: "type[Clock] | None" = None) -> Path:
    """Make a database as durableq makes it, by a copy; an existing file stays as it is.

    Running the migrations costs ten times as much. Tests of creation open a missing file.

    Args:
        path: the file.
        clock: the class of the clock that will open the file; None means the machine's.
    """
    if not path.exists():
        path.touch(0o600)
        path.write_bytes(content_of_new_file(clock))
    return path


@cache
def content_of_new_file(clock: "type[Clock] | None") -> bytes:
    """Return the bytes of a database that was made and closed."""
    from durableq.engines import open_store

    with TemporaryDirectory() as folder:
        path = Path(folder, "new.db")
        open_store(str(path), clock=None if clock is None else clock()).close()
        assert [file.name for file in path.parent.iterdir()] == [path.name]
        return path.read_bytes()


def sizes_of_steps(monkeypatch: "pytest.MonkeyPatch") -> list[int]:
    """Return a list that gets the number of messages of each step of a redrive task, from now."""
    from durableq.engines.sql import redrive

    module: Any = redrive
    take_step, sizes = module.take_step, []

    def noted(*arguments: Any) -> Any:
        step = take_step(*arguments)
        sizes.append(step.moved + step.skipped)
        return step

    monkeypatch.setattr(module, "take_step", noted)
    return sizes
