"""One call of `once`: asking for the value, computing it under a lease, waiting for another."""

from __future__ import annotations

import functools
import json
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Final

from durableq.model import codec
from durableq.model.errors import (
    PASSING,
    Busy,
    Conflict,
    DurableQError,
    InvalidInput,
)
from durableq.model.info import WorkerInfo
from durableq.model.limits import MAX_ONCE_LEASE_MS, MAX_ONCE_TTL_MS, MIN_ONCE_LEASE_MS
from durableq.model.once import (
    TOKEN_BYTES,
    OnceAnswer,
    OnceEntry,
    OnceRequest,
    OnceStep,
    check_beta,
)
from durableq.model.text import shown
from durableq.model.units import Seconds, to_ms
from durableq.runtime.logs import facts
from durableq.runtime.outage import describe
from durableq.runtime.wakeup import wait_readable
from durableq.store.core import Capability, HasFileno, Store
from durableq.store.once import Once
from durableq.supervisor.liveness import Liveness, end_of, liveness, this_process

log = logging.getLogger("durableq.once")

#: Pauses after a write that did not end the lease: the first, and the longest of a busy file.
PAUSES_SECONDS: Final = (0.001, 0.05)
#: Interval of looks at a process whose end cannot be waited for.
LOOK_SECONDS: Final = 0.25
#: The fields of a WorkerInfo that tell its process.
OWNER: Final = ("pid", "created_ms", "boot_id", "pid_namespace", "host_id")


@dataclass(frozen=True, slots=True)
class Terms:
    """The arguments of `once`, checked."""

    ttl_ms: int
    stale_ms: int
    lease_ms: int
    #: None: without an end.
    wait_seconds: float | None
    beta: float

    @classmethod
    def of(
        cls, ttl: Seconds, stale: Seconds | None, lease: Seconds, wait: Seconds | None, beta: float
    ) -> Terms:
        """Check arguments in seconds; see `once`.

        Raises:
            InvalidInput: one is out of bounds.
        """
        ttl_ms = to_ms(ttl, "ttl", MAX_ONCE_TTL_MS)
        if not ttl_ms:
            raise InvalidInput(f"ttl is at least 0.001 seconds, got {shown(ttl)}.")
        stale_ms = ttl_ms if stale is None else to_ms(stale, "stale", MAX_ONCE_TTL_MS)
        lease_ms = to_ms(lease, "lease", MAX_ONCE_LEASE_MS)
        if lease_ms < MIN_ONCE_LEASE_MS:
            raise InvalidInput(
                f"lease is at least {MIN_ONCE_LEASE_MS // 1000} second, got {shown(lease)}."
            )
        wait_seconds = None if wait is None else to_ms(wait, "wait") / 1000
        check_beta(beta)
        return cls(ttl_ms, stale_ms, lease_ms, wait_seconds, beta)


class Running:
    """A computation that runs now, as the code inside it sees it."""

    def __init__(self, store: Store, key: str) -> None:
        self.of = store, key
        self.is_over = False


#: The computations that this code is part of.
_RUNNING: ContextVar[tuple[Running, ...]] = ContextVar("durableq_once_running", default=())


class Call:
    """One call of `once`.

    Args:
        store: the engine.
        key: the value's.
        terms: the arguments.
        draw: a random number in (0, 1].

    Raises:
        Conflict: the code is part of the computation of this key.
    """

    def __init__(self, store: Store, key: str, terms: Terms, draw: float) -> None:
        self.store = store
        self.key = key
        self.terms = terms
        self._once: Once = store.require(Capability.ONCE)
        self._request = OnceRequest(
            os.urandom(TOKEN_BYTES), terms.lease_ms, _this_owner(os.getpid()), terms.beta, draw
        )
        self._deadline = (
            math.inf if terms.wait_seconds is None else time.monotonic() + terms.wait_seconds
        )
        if any(not one.is_over and one.of == (store, key) for one in _RUNNING.get()):
            raise Conflict(
                f"The computation of {shown(key)} asks for {shown(key)} itself, and would wait "
                "for its own end. Compute the value there without `once`."
            )

    def run(self, compute: Callable[[], Any]) -> Any:
        """Return the value: served, computed here, or computed by another process."""
        while True:
            answer = self.ask()
            if answer.step is OnceStep.SERVE:
                return decoded(answer)
            if answer.step is OnceStep.COMPUTE:
                return self._compute(compute, answer)
            entry = lease_of(answer)
            wait_for_end(self.store, entry, self.seconds_left(entry))

    def ask(self) -> OnceAnswer:
        """Ask for the value or a lease; take over the lease of a process that has ended."""
        try:
            answer = self._once.once_get_or_lease(self.key, self._request)
        except PASSING:
            # A fresh value is served without a write. After a COMMIT that raised, the token names
            # the lease if this caller has it.
            self._request = replace(self._request, beta=0)
            answer = self._once.once_get_or_lease(self.key, self._request)
        entry = answer.entry
        if answer.step is OnceStep.COMPUTE or answer.is_fresh or entry is None:
            return answer
        owner = owner_of(entry)
        if owner is None or liveness(owner) is not Liveness.DEAD:
            return answer
        self._request = replace(self._request, dead=entry.token)
        return self._once.once_get_or_lease(self.key, self._request)

    def seconds_left(self, entry: OnceEntry) -> float:
        """Return for how long the call may wait for another process.

        Raises:
            Busy: no longer.
        """
        left = self._deadline - time.monotonic()
        if left <= 0:
            owner = owner_of(entry)
            who = "Another process" if owner is None else f"Process {owner.pid}"
            raise Busy(
                f"{who} still computes {shown(self.key)} after {self.terms.wait_seconds} seconds. "
                "Try again, or give a longer wait."
            )
        return left

    def _compute(self, compute: Callable[[], Any], answer: OnceAnswer) -> Any:
        with self.computing() as computing:
            try:
                value = compute()
            except Exception as error:
                if not answer.is_fresh:
                    raise
                self.log_failed_refresh(error)
                return decoded(answer)
            if hasattr(value, "__await__"):
                with suppress(AttributeError):
                    value.close()  # else Python warns that the coroutine was never awaited
                raise InvalidInput(
                    f"The computation of {shown(self.key)} is a coroutine: use `await "
                    "dq.once_async(…)`."
                )
            return computing.finish(value)

    def computing(self) -> Computing:
        """Begin the computation, after an answer that gave the lease."""
        return Computing(self._once, self.store, self.key, self._request.token, self.terms)

    def log_failed_refresh(self, error: Exception) -> None:
        """Log the failure of an early refresh: its caller has a fresh value."""
        log.warning(
            "the early refresh of %s failed: %s",
            shown(self.key),
            f"{type(error).__name__}: {error}",
            exc_info=error,
            extra=facts("refresh_failed", key=self.key),
        )


class Computing:
    """A computation under a lease, which a thread extends to its end.

    Used with `with`: the lease is given back at the end unless `finish` has stored the value.
    """

    def __init__(self, once: Once, store: Store, key: str, token: bytes, terms: Terms) -> None:
        self._once = once
        self._key = key
        self._token = token
        self._terms = terms
        self._running = Running(store, key)
        self._is_stored = False
        self._ended = threading.Event()
        self._keeper = threading.Thread(target=self._keep_lease, name="durableq-once", daemon=True)

    def __enter__(self) -> Computing:
        try:
            self.begin()
        except BaseException:  # as where no thread can be started
            self.end()
            raise
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self.end()

    def begin(self) -> None:
        """Begin; the code that follows in this context is part of the computation."""
        self._began_at = time.monotonic()
        around = (one for one in _RUNNING.get() if not one.is_over)
        _RUNNING.set((*around, self._running))
        self._keeper.start()

    def finish(self, value: Any) -> Any:
        """Store the value, and return it as all callers get it.

        Raises:
            InvalidResult: it is not JSON, or too large.
        """
        took_ms = math.ceil((time.monotonic() - self._began_at) * 1000)
        text = codec.encode_value(value)
        lifetime = {"ttl_ms": self._terms.ttl_ms, "stale_ms": self._terms.stale_ms}
        try:
            is_mine = self._once.once_store(
                self._key, self._token, text, compute_ms=took_ms, **lifetime
            )
        except PASSING as error:
            log.warning(
                "the value of %s was computed and could not be stored: %s",
                shown(self._key),
                describe(error),
                extra=facts("value_not_stored", key=self._key),
            )
        else:
            self._is_stored = True
            if not is_mine:
                log.info(
                    "the value of %s was not stored: its lease was lost, or the key forgotten",
                    shown(self._key),
                    extra=facts("value_refused", key=self._key),
                )
        return codec.decode(text)

    def end(self) -> None:
        """End the computation; give the lease back unless the value is stored."""
        self._running.is_over = True
        self._ended.set()
        if not self._is_stored:
            with suppress(DurableQError):  # it ends by itself
                self._once.once_fail(self._key, self._token)

    def _keep_lease(self) -> None:
        while not self._ended.wait(self._terms.lease_ms / 3000):
            try:
                if not self._once.once_extend(self._key, self._token, self._terms.lease_ms):
                    return
            except DurableQError as error:
                log.warning(
                    "the lease of %s could not be extended: %s",
                    shown(self._key),
                    describe(error),
                    extra=facts("unextended", key=self._key),
                )


def decoded(answer: OnceAnswer) -> Any:
    """Return the value of an answer."""
    value = None if answer.entry is None else answer.entry.value
    return None if value is None else codec.decode(value)


def lease_of(answer: OnceAnswer) -> OnceEntry:
    """Return the entry with the lease that an answer says to wait for."""
    if answer.entry is None:
        raise AssertionError("A wait is for a lease.")
    return answer.entry


def wait_for_end(store: Store, of: OnceEntry, seconds: float, *others: HasFileno) -> None:
    """Wait until a lease ends: with a value or without, forgotten, or its process has ended.

    Args:
        store: the engine.
        of: the entry with the lease.
        seconds: the longest wait.
        others: end the wait when one is readable.
    """
    deadline, pause = time.monotonic() + seconds, 0.0
    once = store.require(Capability.ONCE)
    owner = owner_of(of)
    with closing(store.watch()) as watch, _ends_of(owner) as ends:
        others = (*others, *ends)
        while True:
            entry, seen = once.once_entry(of.key), Liveness.UNKNOWN
            if owner is not None and not ends:
                seen = liveness(owner)
            left = deadline - time.monotonic()
            is_over = entry is None or entry.token != of.token or not entry.is_leased
            if entry is None or is_over or seen is Liveness.DEAD or left <= 0:
                return
            look = LOOK_SECONDS if seen is Liveness.ALIVE else math.inf
            left = min(left, entry.lease_left_ms / 1000, look)
            began_at = time.monotonic()
            if pause and wait_readable(min(pause, left), *others):
                return
            is_written = watch.wait(max(0.0, left - pause), *others)
            if wait_readable(0, *others):
                return
            # Other writes to a busy file are looked at together.
            is_busy = is_written and time.monotonic() - began_at < PAUSES_SECONDS[1]
            pause = min(max(2 * pause, PAUSES_SECONDS[0]), PAUSES_SECONDS[1]) if is_busy else 0.0


@contextmanager
def _ends_of(owner: WorkerInfo | None) -> Iterator[tuple[HasFileno, ...]]:
    """Watch for the end of a process, if there is one and that is possible."""
    if owner is None:
        yield ()
        return
    with end_of(owner) as end:
        yield () if end is None else (end,)


def owner_of(entry: OnceEntry) -> WorkerInfo | None:
    """Return the process that computes; None if there is none, or its text is damaged."""
    try:
        told = json.loads(entry.owner or "null")
        known = {name: told[name] for name in OWNER}
        return WorkerInfo("", int(known.pop("pid")), int(known.pop("created_ms")), **known)
    except (KeyError, TypeError, ValueError):
        return None


@functools.lru_cache(maxsize=1)
def _this_owner(pid: int) -> str:
    """Return this process as JSON; once for each process, forked ones too."""
    here = this_process("")
    return json.dumps({name: getattr(here, name) for name in OWNER} | {"pid": pid})
