"""The application of the fleet's tests. A message's body names the act that handles it.

Its effects are lines of the ledger: each call, with its receive count, and each act that ended.
"""

from __future__ import annotations

import ctypes
import os
import resource
import select
import signal
import struct
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

from durableq import Delivery, DurableQ
from tests.process.app import RECORD_EFFECT, Ledger
from tests.support import wait_for

APP = "tests.process.fleet_app:dq"
GROWTH = 200 << 20
_grown: list[bytes] = []

dq = DurableQ()


@dq.handler("orders")
@dq.handler("bulk", prefetch=5)
def act(message: Delivery) -> Any:
    ledger = Ledger(dq.url)
    key = message.key or message.id
    ledger.note("invoke", key)
    ledger.note("receive", f"{key}#{message.receive_count}")
    name, _, once = message.body["do"].partition(" ")
    result = None
    if not once or ledger.first(key):
        result = ACTS[name](message, ledger)
    ledger.note("done", key)
    return result


def nothing(_message: Delivery, _ledger: Ledger) -> None:
    """Return at once."""


def pause(_message: Delivery, _ledger: Ledger) -> None:
    """Wait for a hundredth of a second, as for another machine."""
    threading.Event().wait(0.01)


def wait(_message: Delivery, ledger: Ledger) -> None:
    ledger.wait_at_gate()


def spin(_message: Delivery, ledger: Ledger) -> None:
    """Compute, in pure Python, until the gate is open."""
    while not ledger.breaker.exists():
        for _ in range(100_000):
            pass


def hold(_message: Delivery, ledger: Ledger) -> float:
    """Hold the interpreter, in C, until the gate is open; return for how long it was held.

    It is the longest silence of a thread that only looks at the clock.
    """
    done = threading.Event()
    silences = [0.0]

    def watch() -> None:
        last = time.monotonic()
        while not done.wait(0.01):
            silences.append(time.monotonic() - last)
            last = time.monotonic()

    watcher = threading.Thread(target=watch)
    watcher.start()
    pipe = os.open(ledger.pipe, os.O_RDWR | os.O_NONBLOCK)
    asked = struct.pack("ihh", pipe, select.POLLIN, 0)
    ctypes.PyDLL(None).poll(asked, ctypes.c_ulong(1), -1)  # a PyDLL does not let go of the GIL
    known = len(silences)
    wait_for(lambda: len(silences) > known, what="the watcher to speak")
    done.set()
    watcher.join()
    return max(silences)


def grow(_message: Delivery, ledger: Ledger) -> None:
    """Take a lot of memory, keep it, and wait at the gate."""
    _grown.append(b"x" * GROWTH)
    ledger.wait_at_gate()


def lose(message: Delivery, ledger: Ledger) -> None:
    """Wait until the lease is known to be lost, and write nevertheless."""
    ledger.wait_at_gate()
    wait_for(lambda: message.lost, seconds=30, what="the lease to be lost")
    ledger.note("lost", message.key or message.id)
    with message.transaction() as tx:
        tx.execute(RECORD_EFFECT, {"key": message.key, "pid": os.getpid()})


def kill(_message: Delivery, _ledger: Ledger) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("It lives.")


def abort(_message: Delivery, _ledger: Ledger) -> NoReturn:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.abort()


ACTS: dict[str, Callable[[Delivery, Ledger], Any]] = {
    found.__name__: found for found in (nothing, pause, wait, spin, hold, grow, lose, kill, abort)
}
