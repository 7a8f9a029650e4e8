"""What a worker looks at before it writes: that its file descriptors are still its own."""

from __future__ import annotations

import os
from typing import Final

from durableq.runtime.wakeup import WakeupEvent

#: Exit code of a worker whose descriptors a handler has closed: nothing can be written safely.
CLOSED_DESCRIPTORS: Final = 71


def check_descriptors(wakeup: WakeupEvent) -> None:
    """End this process at once if somebody has closed a latch, and so all that is open beside it.

    SQLite would go on writing to descriptors that may be another file's by now. Nor can anything
    be said: stderr may be somebody's file, too.
    """
    if not wakeup.is_intact:
        os._exit(CLOSED_DESCRIPTORS)
