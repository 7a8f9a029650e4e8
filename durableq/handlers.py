"""Who handles what: registering handlers and recovery policies, and finding an application."""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from durableq.errors import AppError, InvalidInput
from durableq.limits import MAX_RECEIVE_BATCH
from durableq.message import DeadLetter
from durableq.units import check_whole
from durableq.verdict import Verdict

Policy = Callable[[DeadLetter], Verdict]
_Function = TypeVar("_Function", bound=Callable[..., Any])
_App = TypeVar("_App")


@dataclass(frozen=True, slots=True)
class Handler:
    """A function that handles a queue's messages."""

    queue: str
    function: Callable[..., Any]
    batch: int | None
    """How many messages a batch handler is given at most; None: one Delivery at a time."""
    prefetch: int | None = None
    """How many messages a worker leases at a time; None: it finds out."""

    @property
    def is_async(self) -> bool:
        """Whether it is a coroutine, to be run on an event loop."""
        return is_async(self.function)


class Handlers:
    """The handlers and policies of one application, by queue."""

    def __init__(self) -> None:
        self.handlers: dict[str, Handler] = {}
        self.policies: dict[str, Policy] = {}

    def handler(
        self, queue: str, *, batch: int | None = None, prefetch: int | None = None
    ) -> Callable[[_Function], _Function]:
        """Register the decorated function for a queue's messages.

        It is called with one Delivery, or with `batch` given with a Batch of at most so many.
        What it returns completes the message and is kept under its key; what it raises fails it.
        It may be `async def`: a worker runs many of these together on one event loop. Do not
        await inside `message.transaction()`, which holds the file's write lock.

        Args:
            queue: the queue's name; it is made if it does not exist.
            batch: 1 to MAX_RECEIVE_BATCH.
            prefetch: messages leased at a time; None means a few milliseconds' worth, one at least,
                and for coroutines as many as there is room for.

        Raises:
            InvalidInput: the queue has a handler, or a number is out of bounds.
        """
        if queue in self.handlers:
            raise InvalidInput(f"Queue {queue!r} has a handler already: one queue, one handler.")
        for number, what in ((batch, "batch"), (prefetch, "prefetch")):
            if number is not None:
                check_whole(number, what, 1, MAX_RECEIVE_BATCH)

        def register(function: _Function) -> _Function:
            self.handlers[queue] = Handler(queue, function, batch, batch or prefetch)
            return function

        return register

    def recovery(self, queue: str) -> Callable[[_Function], _Function]:
        """Register the decorated function as the recovery policy for a queue's dead letters.

        It is given a DeadLetter and returns Discard, Retry, Requeue or Hold. It should be pure:
        `durableq recover --dry-run` calls it too.

        Raises:
            InvalidInput: the queue has a policy already.
        """
        if queue in self.policies:
            raise InvalidInput(f"Queue {queue!r} has a recovery policy already.")

        def register(function: _Function) -> _Function:
            self.policies[queue] = function
            return function

        return register


def is_async(function: Callable[..., Any]) -> bool:
    """Return whether calling this gives something to await."""
    call = getattr(function, "__call__", None)  # noqa: B004 - its kind is asked for
    return any(map(inspect.iscoroutinefunction, (function, call)))


def load(spec: str, kind: type[_App]) -> _App:
    """Import an application named as `module:attribute` (`module` alone: the only one in it).

    The current directory is importable, as with `python -m`.

    Raises:
        AppError: it does not import, or holds nothing of this kind.
    """
    module_name, _, attribute = spec.partition(":")
    if "/" in module_name or "" in module_name.split("."):
        raise AppError(f"{spec!r} names no application. Write module:attribute, as in shop:dq.")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise AppError(_import_failure(module_name, error)) from error
    if not attribute:
        return _only(module, module_name, kind)
    found = module
    for name in attribute.split("."):
        found = getattr(found, name, None)  # type: ignore[assignment]
    if not isinstance(found, kind):
        has = "nothing" if found is None else f"a {type(found).__name__}"
        raise AppError(f"{spec!r} is {has}, not a {kind.__name__}. Check what follows the colon.")
    return found


def _only(module: Any, module_name: str, kind: type[_App]) -> _App:
    names = [name for name, value in vars(module).items() if isinstance(value, kind)]
    if len(names) != 1:
        found = " and ".join(names) or "none"
        raise AppError(
            f"Module {module_name!r} should hold one {kind.__name__}; it holds {found}. "
            f"Name it: {module_name}:NAME."
        )
    only: _App = getattr(module, names[0])
    return only


def _import_failure(module_name: str, error: BaseException) -> str:
    missing = (
        isinstance(error, ModuleNotFoundError)
        and error.name == module_name.split(".", maxsplit=1)[0]
    )
    if missing:
        return f"There is no module {module_name!r} in {Path.cwd()} or among installed packages."
    if module_name.endswith(".py") and getattr(error, "name", None) == module_name:
        return f"{module_name!r} is a file. Name its module: {module_name.removesuffix('.py')}."
    stack = traceback.extract_tb(error.__traceback__)
    frames = [frame for frame in stack if "importlib" not in frame.filename]
    where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if len(frames) > 1 else ""
    return f"Importing {module_name!r} failed{where}: {type(error).__name__}: {error}"
