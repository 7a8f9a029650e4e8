"""Receives of coroutines: leased messages are delivered, or released."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from durableq.client.coroutines import commit, read, running_loop
from durableq.client.gathering import Gathering
from durableq.client.watching import watching
from durableq.model.limits import MAX_STORE_RECEIVES
from durableq.model.message import Received
from durableq.runtime.wakeup import WRITES_SECONDS
from durableq.store.core import Receive, Store

#: The time until a receive should lease messages (0 is now, None not known), and whether messages
#: are there.
_Look = Callable[[], tuple[int | None, bool]]


async def receive(
    store: Store, call: Receive, gathering: Gathering | None, seconds: float
) -> Received:
    """Lease messages as Queue.receive does; with a window, or a time to wait, wait for them.

    Args:
        store: the engine.
        call: the receive, with the terms of the window.
        gathering: the window.
        seconds: without a window, the longest wait for a message.
    """
    if gathering is not None:
        gathering.check(call.queue, await read(store, store.settings, call.queue))
        look = partial(_look_for_batch, store, call.queue, gathering)
        return await _receive_when_due(store, call, look, gathering.window_ms / 1000)
    received = await _receive(store, call)
    if received.messages or not seconds:
        return received
    look = partial(_look_for_message, store, call.queue)
    return await _receive_when_due(store, call, look, seconds)


async def _receive(store: Store, call: Receive) -> Received:
    """Receive; go on behind duplicates and other messages that are not delivered."""
    received: Received = await commit(store, call)
    receives = 1
    while received.more and not received.messages and receives < MAX_STORE_RECEIVES:
        received = await commit(store, call)
        receives += 1
    return received


async def _receive_when_due(store: Store, call: Receive, look: _Look, seconds: float) -> Received:
    """Look after each write, and receive when it is time; without any message, up to the end."""
    loop = running_loop()
    ends_at = loop.time() + seconds
    async with watching(store) as writes:
        while True:
            due_ms, is_there = await read(store, look)
            if due_ms == 0:
                received = await _receive(store, call)
                if received.messages:
                    return received
                pause = WRITES_SECONDS  # another receiver was faster
            else:
                pause = seconds if due_ms is None else due_ms / 1000
            left = ends_at - loop.time()
            if left <= 0 and not (is_there and due_ms):
                return Received([], [], 0)
            await writes.wait(pause if is_there and due_ms else min(pause, left))


def _look_for_message(store: Store, queue: str) -> tuple[int | None, bool]:
    due_ms = store.ready_in_ms([queue])
    return due_ms, due_ms == 0


def _look_for_batch(store: Store, queue: str, gathering: Gathering) -> tuple[int | None, bool]:
    return gathering.left_ms(store, queue), store.ready_in_ms([queue]) == 0
