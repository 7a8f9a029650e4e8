"""Registration of handlers and recovery policies, and the import of applications."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from durableq.client.arguments import with_argument
from durableq.client.by_type import joined
from durableq.client.failures import failure_of, frames_of, type_name
from durableq.client.gathering import Gathering, gathering
from durableq.model.decisions import Decision
from durableq.model.errors import AppError, InvalidInput
from durableq.model.limits import MAX_RECEIVE
from durableq.model.message import DeadLetter
from durableq.model.queues import check_queue_name
from durableq.model.text import shown
from durableq.model.units import Seconds, check_whole

if TYPE_CHECKING:
    from durableq.client.delivery import Delivery

Policy = Callable[[DeadLetter], Decision]
_Function = TypeVar("_Function", bound=Callable[..., Any])
_App = TypeVar("_App")


@dataclass(frozen=True, slots=True)
class Handler:
    """A function that handles a queue's messages."""

    queue: str
    function: Callable[..., Any]
    #: Largest number of messages in a batch; None for one Delivery at a time.
    batch: int | None
    #: Number of messages that a worker leases at a time; None adapts it.
    prefetch: int | None = None
    #: Whether a batch has consecutive messages of one group.
    by_group: bool = False
    #: The window in which a batch is gathered; None for none.
    gathering: Gathering | None = None
    #: Returns the body as an object of its type; None: it is a JSON value.
    reader: Callable[[Delivery[Any]], Any] | None = None
    #: The functions as they were registered.
    functions: tuple[Callable[..., Any], ...] = ()
    #: Several handlers of the queue, by the type of their messages; None is any other.
    types: Mapping[str | None, Handler] | None = None

    @property
    def is_async(self) -> bool:
        """Whether it is a coroutine function, to be run on an event loop."""
        return is_async(self.function)


class Handlers:
    """The handlers and policies of one application, by queue."""

    def __init__(self) -> None:
        self.handlers: dict[str, Handler] = {}
        self.policies: dict[str, Policy] = {}

    def handler(
        self,
        queue: str,
        *,
        batch: int | None = None,
        prefetch: int | None = None,
        group_by: str | None = None,
        min: int | None = None,
        window: Seconds | None = None,
        type: str | None = None,
    ) -> Callable[[_Function], _Function]:
        """Register the decorated function for a queue's messages.

        It is called with one Delivery, or, if `batch` is given, with a Batch of at most that many.
        If its argument is annotated with the type of a body (a dataclass, a pydantic model, a
        TypedDict, a msgspec Struct), it is called with that instead, or with a list of them;
        `Delivery[Order]` has such a body. A body that does not fit is a permanent failure.
        Its return value completes the message and is kept under the key; an exception fails it.
        It may be `async def`: a worker runs many coroutines together on one event loop. Do not
        await inside `message.transaction()`, which holds the file's write lock.

        Args:
            queue: the queue's name; the queue is created if it does not exist.
            batch: 1 to MAX_RECEIVE. Of 10,000 messages, the receive and the commit each take about
                0.15 s on a file, in which nothing else is written.
            prefetch: messages leased at a time; None means a few milliseconds' worth, one at least,
                and for coroutines as many as there are free slots.
            group_by: "group": a batch has consecutive messages of one group. The first that fails,
                and those behind it, go back in order, the latter uncounted.
            min: with a window, the number of messages to wait for; None means the batch.
            window: seconds, at most a third of the visibility timeout: a worker leases a batch when
                `min` messages are ready, or the first of them has been ready for so long.
            type: only messages with this attribute `type`; a queue may have a handler for each, and
                one without `type` for all others. One that no handler takes is rejected.

        Raises:
            InvalidInput: no queue can have that name, the queue has such a handler, a number is out
                of bounds, batch and prefetch are both given, group_by is given without batch, or
                the function cannot be a handler: it yields, does not take one argument, or is
                annotated with what no body can be. Nothing is registered.
        """
        _check_decorated(queue, "handler")
        if type is None and queue in self.handlers and not self.handlers[queue].types:
            raise InvalidInput(
                f"Queue {queue!r} has a handler already. Handlers for different messages of a "
                'queue name their type: type="created".'
            )
        _check_numbers(batch, prefetch)
        if group_by is not None:
            _check_group_by(group_by, batch)
        wanted = gathering(batch, min, window, what="batch")
        if wanted is not None and group_by is not None:
            raise InvalidInput(
                "A window counts ready messages, and of a group only the first are ready: give "
                "window or group_by."
            )

        def register(function: _Function) -> _Function:
            check_callable(function, "handler", "the message" if batch is None else "the batch")
            by_group = group_by is not None
            made = Handler(queue, function, batch, batch or prefetch, by_group, wanted)
            self.handlers[queue] = joined(self.handlers.get(queue), with_argument(made), type)
            return function

        return register

    def recovery(self, queue: str) -> Callable[[_Function], _Function]:
        """Register the decorated function as the recovery policy for a queue's dead letters.

        It is given a DeadLetter and returns Discard, Retry, Requeue or Hold. It should be pure:
        `durableq recover --dry-run` calls it too.

        Raises:
            InvalidInput: no queue can have that name, the queue has a policy already, or the
                function cannot be one: it is `async def`, yields, or does not take one argument.
        """
        _check_decorated(queue, "recovery")
        if queue in self.policies:
            raise InvalidInput(f"Queue {queue!r} has a recovery policy already.")

        def register(function: _Function) -> _Function:
            check_callable(function, "recovery policy", "the dead letter")
            if is_async(function):
                raise InvalidInput(
                    f"{_name(function)} is `async def`; a recovery policy is a plain function."
                )
            self.policies[queue] = function
            return function

        return register


def _check_decorated(queue: object, decorator: str) -> None:
    """Check that a decorator's first argument is the name of a queue.

    Raises:
        InvalidInput: it is not.
    """
    if callable(queue):
        raise InvalidInput(f'Name the queue: @dq.{decorator}("orders"), not @dq.{decorator}.')
    check_queue_name(queue)


def is_async(function: Callable[..., Any]) -> bool:
    """Return whether calling a function returns an awaitable."""
    call = getattr(function, "__call__", None)  # noqa: B004 - its kind is asked for
    return any(map(inspect.iscoroutinefunction, (function, call)))


def check_callable(function: object, what: str, argument: str) -> None:
    """Check that a function can be called as a handler or policy.

    Args:
        function: the function to be registered.
        what: its noun in error sentences.
        argument: the noun of its only argument in error sentences.

    Raises:
        InvalidInput: it cannot be called, it yields, or it does not take one argument.
    """
    if not callable(function):
        raise InvalidInput(f"A {what} is a function, not {shown(function)}.")
    call = getattr(function, "__call__", None)  # noqa: B004 - its kind is asked for
    for kind in (inspect.isgeneratorfunction, inspect.isasyncgenfunction):
        if kind(function) or kind(call):
            raise InvalidInput(
                f"{_name(function)} yields, so calling it runs none of its code. A {what} returns."
            )
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # written in C, and says nothing of its arguments
        return
    try:
        signature.bind(None)
    except TypeError as error:
        raise InvalidInput(
            f"{_name(function)} cannot be called with one argument ({error}). A {what} is given "
            f"{argument}."
        ) from None


def _name(function: object) -> str:
    return str(getattr(function, "__qualname__", type(function).__qualname__))


def _check_numbers(batch: int | None, prefetch: int | None) -> None:
    for number, what in ((batch, "batch"), (prefetch, "prefetch")):
        if number is not None:
            check_whole(number, what, 1, MAX_RECEIVE)
    if batch is not None and prefetch is not None:
        raise InvalidInput(
            "A batch is all messages leased at a time: give batch or prefetch, not both."
        )


def _check_group_by(group_by: object, batch: int | None) -> None:
    """Check what the messages of a batch have in common.

    Raises:
        InvalidInput: it is not "group", or there are no batches.
    """
    if group_by != "group":
        raise InvalidInput(f'group_by is "group" or None, got {shown(group_by)}.')
    if batch is None:
        raise InvalidInput("group_by is for batches: give batch too, the most messages in one.")


def load(spec: str, kind: type[_App]) -> _App:
    """Import an application named as `module:attribute` (`module` alone: the only one in it).

    The current directory is importable, as with `python -m`. Output of the import goes to stderr,
    because stdout is a command's data. Only KeyboardInterrupt, which is Ctrl-C, is passed on.

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
        with redirect_stdout(sys.stderr):  # stdout is a command's data
            module = importlib.import_module(module_name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a module may raise anything
        raise AppError(_import_failure(module_name, error)) from error
    return _attribute(module, spec, kind) if attribute else _only(module, module_name, kind)


def _attribute(module: object, spec: str, kind: type[_App]) -> _App:
    found = module
    try:
        for name in spec.partition(":")[2].split("."):
            found = getattr(found, name, None)
        if isinstance(found, kind):
            return found
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # of a module's __getattr__, a property or a proxy
        raise AppError(f"Looking up {spec!r} failed: {_words(error)}") from error
    has = "nothing" if found is None else f"a {type_name(type(found))}"
    raise AppError(f"{spec!r} is {has}, not a {kind.__name__}. Check the name after the colon.")


def _only(module: object, module_name: str, kind: type[_App]) -> _App:
    # By the class itself: `isinstance` asks a proxy, which may raise outside of its context.
    there = getattr(module, "__dict__", {})
    apps = {name: value for name, value in there.items() if issubclass(type(value), kind)}
    if len(apps) != 1:
        found = " and ".join(apps) or "none"
        raise AppError(
            f"Module {module_name!r} should hold one {kind.__name__}; it holds {found}. "
            f"Name it: {module_name}:NAME."
        )
    only: _App
    (only,) = apps.values()
    return only


def _words(error: BaseException) -> str:
    failure = failure_of(error)
    return ": ".join(filter(None, (failure.error_type, failure.error_message)))


def _import_failure(module_name: str, error: BaseException) -> str:
    if type(error) is ModuleNotFoundError and error.name == module_name.split(".", maxsplit=1)[0]:
        return f"There is no module {module_name!r} in {Path.cwd()} or among installed packages."
    is_file = module_name.endswith(".py") and type(error) is ModuleNotFoundError
    if is_file and error.name == module_name:  # type: ignore[attr-defined]
        return f"{module_name!r} is a file. Name its module: {module_name.removesuffix('.py')}."
    frames = [frame for frame in frames_of(error) if "importlib" not in frame[0]]
    where = f" ({frames[-1][0]}, line {frames[-1][1]})" if len(frames) > 1 else ""
    return f"Importing {module_name!r} failed{where}: {_words(error)}"
