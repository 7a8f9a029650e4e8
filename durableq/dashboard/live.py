"""Live pages: each write of any process is told to the pages that are open."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Final

from durableq.client.app import DurableQ
from durableq.dashboard.errors import log
from durableq.model.errors import DurableQError
from durableq.runtime.outage import describe
from durableq.runtime.wakeup import WakeupEvent

#: A page is renewed at most as often.
PAUSE_SECONDS: Final = 1.0
#: A page is renewed at least as often: the ages in it grow, and a lost connection is noticed.
RENEW_SECONDS: Final = 10.0
#: After an error of the store.
RETRY_SECONDS: Final = 5.0
#: An event of text/event-stream, without data.
CHANGE: Final = "event: change\ndata:\n\n"
#: The browser connects again after so many ms.
BEGIN: Final = "retry: 2000\n\n"


class Live:
    """Tells the open pages of this process about writes. One thread waits while a page is open.

    Args:
        dq: the application with the store.
    """

    def __init__(self, dq: DurableQ) -> None:
        self._dq = dq
        self._lock = threading.Lock()
        self._pages: set[_OpenPage] = set()
        self._stopping: WakeupEvent | None = None
        self._is_ended = False

    async def events(self) -> AsyncIterator[str]:
        """Yield the events for one page, until it is closed or the server ends."""
        with self._opened() as page:
            yield BEGIN
            while not self._is_ended:
                with suppress(TimeoutError):
                    await asyncio.wait_for(page.changed.wait(), RENEW_SECONDS)
                page.changed.clear()
                if not self._is_ended:
                    yield CHANGE

    def end(self) -> None:
        """End all streams. A signal handler may call it."""
        self._is_ended = True
        for page in tuple(self._pages):
            page.tell()

    @contextmanager
    def _opened(self) -> Iterator[_OpenPage]:
        page = _OpenPage(asyncio.get_running_loop())
        with self._lock:
            self._pages.add(page)
            if self._stopping is None:
                self._stopping = WakeupEvent()
                name, arguments = "durableq live", (self._stopping,)
                threading.Thread(target=self._watch, args=arguments, name=name, daemon=True).start()
        try:
            yield page
        finally:
            with self._lock:
                self._pages.discard(page)
                if not self._pages and self._stopping is not None:
                    self._stopping.set()
                    self._stopping = None

    def _watch(self, stopping: WakeupEvent) -> None:
        while not stopping.is_set:
            try:
                with closing(self._dq.store.watch()) as watch:
                    while not stopping.is_set:
                        if watch.wait(RENEW_SECONDS, stopping):
                            self._tell()
                        stopping.wait(PAUSE_SECONDS)
            except DurableQError as error:
                text = "Live pages do not see writes for now: %s"
                log.warning(text, describe(error))
                stopping.wait(RETRY_SECONDS)

    def _tell(self) -> None:
        with self._lock:
            pages = tuple(self._pages)
        for page in pages:
            page.tell()


class _OpenPage:
    """The stream of one page, in the event loop that serves it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.changed = asyncio.Event()
        self._loop = loop

    def tell(self) -> None:
        """Tell it, from any thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.changed.set)
