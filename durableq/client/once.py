"""Values that one process computes for all: `dq.once`, and functions whose results are kept."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import random
from collections.abc import Awaitable, Callable
from typing import Any, Final, ParamSpec, Protocol, TypeVar, cast

from durableq.client.computing import Call, Terms
from durableq.client.handlers import is_async
from durableq.model.drafts import check_key
from durableq.model.errors import InvalidInput
from durableq.model.limits import MAX_KEY_CHARS
from durableq.model.text import shown, visible
from durableq.model.units import Seconds
from durableq.store.core import Capability, Store

P = ParamSpec("P")
T = TypeVar("T")
R_co = TypeVar("R_co", covariant=True)

#: The length of the lease of a computation, unless the caller gives another one.
LEASE_SECONDS: Final = 30.0


class Cached(Protocol[P, R_co]):
    """A function whose results are kept: `@dq.cached(ttl=60)`."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Return the result for these arguments, computed now or before."""
        ...

    def key(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """Return the key under which the result for these arguments is kept."""
        ...

    def forget(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Drop the result for these arguments; see `dq.forget_once`."""
        ...


class Decorator(Protocol):
    """A decorator of functions, coroutine functions too."""

    def __call__(self, function: Callable[P, T], /) -> Cached[P, T]:
        """Return the function whose results are kept."""
        ...


class Values:
    """The values that an application computes once for all its processes.

    Args:
        rng: numbers in [0, 1).
    """

    def __init__(self, rng: Callable[[], float] = random.random) -> None:
        self._rng = rng

    @property
    def store(self) -> Store:
        """The engine."""
        raise NotImplementedError

    def once(
        self,
        key: str,
        compute: Callable[[], T],
        *,
        ttl: Seconds,
        stale: Seconds | None = None,
        lease: Seconds = LEASE_SECONDS,
        wait: Seconds | None = None,
        beta: float = 1.0,
    ) -> T:
        """Return the value of a key; if there is none, one process computes it for all.

        The others wait for it, or use the stale one meanwhile. A process that is killed while it
        computes is replaced: on the same host at once, on another one when its lease ends. If
        `compute` raises, its caller gets the exception, and one of those that wait computes next.
        An early refresh that raises is logged instead, and the value, which is fresh, returned.

        All callers get the value as JSON gives it back: a tuple is a list. The lease is extended
        while `compute` runs. A result whose lease was lost all the same (its process was stopped
        for longer), or whose key was forgotten meanwhile, is returned to its caller alone.

        Args:
            key: the value's name, of 1 to MAX_KEY_CHARS characters, in the whole file.
            compute: a function without arguments that returns a JSON value, at most MAX_ONCE_BYTES.
            ttl: seconds until the value expires.
            stale: seconds after that for which the old value is served while one process computes
                the next; 0 lets the others wait. None: as long as `ttl`.
            lease: seconds after which another process computes if this one is stopped, or its host
                is gone. At least 1.
            wait: seconds to wait for another process; None: as long as it computes.
            beta: how early a value in use is refreshed (XFetch); 0: not before it expires.

        Raises:
            InvalidInput: an argument out of bounds, or `compute` is a coroutine function.
            InvalidResult: the value is not JSON, or too large.
            Busy: another process still computes after `wait` seconds.
            Conflict: `compute` asks for its own key.
        """
        terms = Terms.of(ttl, stale, lease, wait, beta)
        _check(key, compute)
        call = Call(self.store, key, terms, 1 - self._rng())
        value: T = call.run(compute)
        return value

    async def once_async(
        self,
        key: str,
        compute: Callable[[], Awaitable[T]],
        *,
        ttl: Seconds,
        stale: Seconds | None = None,
        lease: Seconds = LEASE_SECONDS,
        wait: Seconds | None = None,
        beta: float = 1.0,
    ) -> T:
        """Do as `once` does, in a coroutine; the event loop is not blocked.

        Args:
            key: as for `once`.
            compute: a function without arguments that returns an awaitable.
            ttl: as for `once`, like the other arguments.
            stale: see there.
            lease: see there.
            wait: see there.
            beta: see there.

        Raises:
            InvalidInput: an argument out of bounds, or `compute` returns no awaitable.
            InvalidResult, Busy, Conflict: as for `once`.
        """
        from durableq.client.computing_async import run  # it imports asyncio

        terms = Terms.of(ttl, stale, lease, wait, beta)
        _check(key, compute)
        draw = 1 - self._rng()
        value: T = await run(lambda: Call(self.store, key, terms, draw), compute)
        return value

    def cached(
        self,
        *,
        ttl: Seconds,
        key: Callable[..., str] | None = None,
        stale: Seconds | None = None,
        lease: Seconds = LEASE_SECONDS,
        wait: Seconds | None = None,
        beta: float = 1.0,
    ) -> Decorator:
        """Keep the results of the decorated function, which may be `async def`; see `once`.

        The function gets `key(…)` and `forget(…)`, which take its arguments.

        Args:
            ttl: as for `once`, like the other arguments.
            key: makes the key from the function's arguments. None: the module and the name of the
                function, and its arguments as JSON; if that is too long, their SHA-256.
            stale: see there.
            lease: see there.
            wait: see there.
            beta: see there.

        Raises:
            InvalidInput: an argument out of bounds, or the function yields. When it is called: the
                arguments are not JSON and there is no `key`.
        """
        Terms.of(ttl, stale, lease, wait, beta)
        if key is not None and not callable(key):
            raise InvalidInput(f"key is a function that makes the key, got {shown(key)}.")
        options = {"ttl": ttl, "stale": stale, "lease": lease, "wait": wait, "beta": beta}

        def decorate(function: Callable[P, T]) -> Cached[P, T]:
            _check_function(function)
            make_key = _key_maker(function) if key is None else key
            return self._cached(function, make_key, options)

        return decorate

    def _cached(
        self, function: Callable[P, T], key: Callable[P, str], options: dict[str, Any]
    ) -> Cached[P, T]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            compute = functools.partial(function, *args, **kwargs)
            return self.once(key(*args, **kwargs), compute, **options)

        @functools.wraps(function)
        async def call_async(*args: P.args, **kwargs: P.kwargs) -> Any:
            compute: Any = functools.partial(function, *args, **kwargs)
            return await self.once_async(key(*args, **kwargs), compute, **options)

        def forget(*args: P.args, **kwargs: P.kwargs) -> bool:
            return self.forget_once(key(*args, **kwargs))

        made: Any = call_async if is_async(function) else call
        made.key, made.forget = key, forget
        return cast(Cached[P, T], made)

    def forget_once(self, key: str) -> bool:
        """Drop the value of a key, so that the next caller computes it; False if there is none.

        A computation that runs meanwhile has perhaps read old data: its value is not stored.

        Raises:
            InvalidInput: no value can have such a key.
        """
        check_key(key)
        return self.store.require(Capability.ONCE).once_forget(key)


def _check(key: str, compute: object) -> None:
    """Check the key and the function of `once`."""
    check_key(key)
    if not callable(compute):
        raise InvalidInput(
            f"compute is a function that returns the value of {shown(key)}, got {shown(compute)}."
        )


def _check_function(function: object) -> None:
    """Check a function whose results are to be kept."""
    if not callable(function):
        raise InvalidInput(f"cached decorates a function, got {shown(function)}.")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise InvalidInput(
            f"{_name(function)} yields, and a generator cannot be kept. Return a list."
        )


def _key_maker(function: Callable[P, object]) -> Callable[P, str]:
    """Return a function that makes a key of the name of a function and its arguments.

    Defaults are filled in and names are bound, so `f(1)` and `f(n=1)` have one key.
    """
    name, signature = _name(function), inspect.signature(function)

    def key(*args: P.args, **kwargs: P.kwargs) -> str:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        try:
            text = json.dumps(bound.arguments, allow_nan=False, sort_keys=True)
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidInput(
                f"The arguments of {name} are not JSON, so they make no key: "
                f"{visible(str(error), 200)}. Give cached(key=…), a function that makes one."
            ) from None
        if len(name) + len(text) >= MAX_KEY_CHARS:
            text = hashlib.sha256(text.encode()).hexdigest()
        return f"{name}:{text}"

    return key


def _name(function: object) -> str:
    module = getattr(function, "__module__", "")
    return f"{module}.{getattr(function, '__qualname__', type(function).__qualname__)}"
