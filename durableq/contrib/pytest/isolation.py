"""Fresh stores for applications under test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final, cast

from durableq.client.app import DurableQ
from durableq.contrib.pytest.clock import Clock
from durableq.contrib.pytest.recording import RecordingStore, SendLog
from durableq.engines import open_store
from durableq.model.errors import InvalidInput
from durableq.model.text import shown
from durableq.store.core import Store

if TYPE_CHECKING:
    import pytest

_KINDS: Final = ("memory", "file")
#: Each retry waits as long as its backoff may be: `advance` by that much, and it is due.
_LONGEST_BACKOFF: Final = 1 - 2**-53


@contextmanager
def fresh(dq: DurableQ, *, store: str = "memory", clock: Clock | None = None) -> Iterator[Clock]:
    """Give an application a fresh store for the block, and return the clock of that.

    At the end the application is as before: its URL, settings, handlers and policies. If it closes
    its store in the block, the next use finds the same messages.

    Args:
        dq: the application.
        store: "memory", or "file" for a new SQLite file in a temporary folder.
        clock: of another application's store; None makes one.

    Raises:
        InvalidInput: it is no application, or no such kind of store.
        Conflict: it has opened its own store already.
    """
    if not isinstance(dq, DurableQ):
        raise InvalidInput(f"Give the application, a DurableQ; got {shown(dq)}.")
    _check_kind(store)
    clock, log = Clock() if clock is None else clock, SendLog()
    with ExitStack() as stack:
        url = "memory://"
        if store == "file":
            folder = stack.enter_context(TemporaryDirectory(prefix="durableq-"))
            url = f"sqlite:///{Path(folder, 'test.db')}?synchronous=normal"

        def opened() -> Store:
            return open_store(url, clock=clock, rng=lambda: _LONGEST_BACKOFF)

        opener = cache(opened) if store == "memory" else opened

        def recorded() -> Store:
            return cast(Store, RecordingStore(opener(), log))

        stack.enter_context(dq.override(url, recorded, clock=clock))
        yield clock


def store_of_marker(marker: pytest.Mark | None) -> str:
    """Return the kind of store that `@pytest.mark.durableq(store=…)` asks for.

    Raises:
        InvalidInput: it asks for something else.
    """
    if marker is None:
        return _KINDS[0]
    if marker.args or marker.kwargs.keys() != {"store"}:
        raise InvalidInput('Write the marker as @pytest.mark.durableq(store="file").')
    kind: str = marker.kwargs["store"]
    _check_kind(kind)
    return kind


def _check_kind(store: object) -> None:
    if store not in _KINDS:
        raise InvalidInput(f'A fresh store is "memory" or "file", got {shown(store)}.')
