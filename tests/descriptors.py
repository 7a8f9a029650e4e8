"""No test leaves a file descriptor open.

Each of a thousand tests may leave only a few: their process then has more than `select` can take,
or than its limit allows, and a test fails that has no part in it.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

import pytest

from tests.support import wait_for

#: On Linux, a link to /proc/self/fd.
FOLDER: Final = "/dev/fd"
#: Descriptors that stay open for later tests on purpose: their owners enter them here.
KEPT: Final[set[int]] = set()


def opened() -> dict[int, str]:
    """Return the open descriptors, each with its file where the system tells."""
    found = {}
    for name in os.listdir(FOLDER):
        try:
            found[int(name)] = os.readlink(f"{FOLDER}/{name}")
        except FileNotFoundError:  # that of the listing itself, closed by now
            continue
        except OSError:
            found[int(name)] = "a file"
    return found


@contextmanager
def none_left(whose: str, unless: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Fail if the block leaves a descriptor open that was not open before.

    Those of objects in a cycle may wait for a collection, those of a thread for its end.

    Args:
        whose: the block in words, for the failure.
        unless: whether to allow it.
    """
    before = opened()

    def left() -> dict[int, str]:
        return {n: file for n, file in opened().items() if n not in before and n not in KEPT}

    def are_gone() -> bool:
        gc.collect()
        return not left()

    yield
    if not left() or unless():
        return
    with suppress(pytest.fail.Exception):
        wait_for(are_gone, seconds=1)
    if found := left():
        KEPT.update(found)  # it is reported once
        pytest.fail(f"{whose} leaves descriptors open: {found}", pytrace=False)
