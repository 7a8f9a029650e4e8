"""Failure records from exceptions: the only place that runs an exception's own code.

`__str__`, `__notes__` and the like belong to the user, so each is called once, any error from it is
caught, and everything that is read has a limit. The user's code itself has none: a worker reads a
failure while its handler still counts as running, so `--timeout` covers it.
"""

from __future__ import annotations

import os
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from types import CodeType, TracebackType
from typing import Any, Final

from durableq.model.errors import InvalidInput, Reject, RetryLater, Unavailable
from durableq.model.limits import MAX_DELAY_MS, MAX_ERROR_CHARS, MAX_ERROR_TYPE_CHARS
from durableq.model.message import Failure, Reason
from durableq.model.units import Seconds, to_ms

#: Exceptions of one failure that its traceback shows: causes, contexts, members of groups.
MAX_EXCEPTIONS: Final = 20
MAX_GROUP_DEPTH: Final = 5
MAX_NOTES: Final = 20
FIRST_FRAMES: Final = 5
LAST_FRAMES: Final = 50
#: Longest line of source, or of a note, that is kept.
MAX_LINE_CHARS: Final = 500

_PACKAGE: Final = os.path.dirname(os.path.dirname(__file__))
_OURS: Final = tuple(
    os.path.join(_PACKAGE, name)
    for name in (
        "worker",
        "engines",
        "recovery",
        os.path.join("client", "arguments.py"),
        os.path.join("client", "by_type.py"),
        os.path.join("client", "delivery.py"),
        os.path.join("client", "tracing.py"),
        os.path.join("contrib", "django"),
    )
)
#: Places of code that is not the user's: durableq's, Python's, installed packages.
_LIBRARIES: Final = ("<frozen", *map(sysconfig.get_path, ("stdlib", "purelib", "platlib")))

# The interpreter's own attributes, read past any property of a subclass or of its metaclass.
_traceback: Final[Any] = BaseException.__dict__["__traceback__"].__get__
_cause: Final[Any] = BaseException.__dict__["__cause__"].__get__
_context: Final[Any] = BaseException.__dict__["__context__"].__get__
_is_suppressed: Final[Any] = BaseException.__dict__["__suppress_context__"].__get__
_members: Final[Any] = BaseExceptionGroup.__dict__["exceptions"].__get__
_qualname: Final[Any] = type.__dict__["__qualname__"].__get__

_REASONS: Final = ((Reject, Reason.REJECTED), (Unavailable, Reason.UNAVAILABLE))
_CAUSED: Final = "The above exception was the direct cause of the following exception:"
_DURING: Final = "During handling of the above exception, another exception occurred:"


class HandlerFailed(Exception):
    """Raised by a handler of ours that describes its failure better than a traceback would."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.error_message)
        self.failure = failure


def failure_of(error: BaseException | str, *, retry_in: Seconds | None = None) -> Failure:
    """Return the failure record of an exception, or of a text. No exception makes it raise.

    Args:
        error: raised by a handler or a policy, of any class; or a sentence.
        retry_in: seconds until the next receive; None leaves it to the exception or the queue.

    Raises:
        InvalidInput: `retry_in` is out of bounds, or given for a Reject, or `error` is neither
            exception nor text.
    """
    if retry_in is not None and isinstance(error, Reject):
        raise InvalidInput("A rejected message is not retried: leave out retry_in, or Reject.")
    wait_ms = None if retry_in is None else to_ms(retry_in, "retry_in", MAX_DELAY_MS)
    given: Any = error
    kind = type(given)  # `__class__` may name another class
    if kind is str:
        return Failure(Reason.HANDLER_ERROR, "", given[:MAX_ERROR_CHARS], retry_in_ms=wait_ms)
    if issubclass(kind, str):
        text = text_of(lambda: given, "(the text could not be read: {})")
        return Failure(Reason.HANDLER_ERROR, "", text, retry_in_ms=wait_ms)
    if not issubclass(kind, BaseException):
        raise InvalidInput(f"A failure is an exception or a text, not {type_name(kind)}.")
    try:
        return _read(given, wait_ms)
    except BaseException as another:  # noqa: BLE001 - no memory, no stack: the class is still known
        text = f"(the exception could not be read: {type_name(type(another))})"
        return Failure(Reason.HANDLER_ERROR, type_name(kind), text, retry_in_ms=wait_ms)


def message_of(error: BaseException) -> str:
    """Return the text of an exception, cut to MAX_ERROR_CHARS, even if its `__str__` raises."""
    return text_of(lambda: str(error), "(its message could not be read: {})")


def type_name(kind: type) -> str:
    """Return the qualified name of a class, read past its metaclass."""
    return text_of(lambda: _qualname(kind), "(a class without a name)", MAX_ERROR_TYPE_CHARS)


def frames_of(error: BaseException) -> list[tuple[str, int]]:
    """Return file and line of each frame that an exception went through, the raise last."""
    walked = traceback.walk_tb(_traceback(error))
    return [(frame.f_code.co_filename, line) for frame, line in walked]


def _read(error: Any, wait_ms: int | None) -> Failure:
    kind = type(error)
    if kind is HandlerFailed:
        failure: Failure = error.failure
        return failure
    if wait_ms is None and issubclass(kind, (RetryLater, Unavailable)):
        wait_ms = _chosen_wait_ms(error)
    message = message_of(error)
    return Failure(
        next((reason for base, reason in _REASONS if issubclass(kind, base)), Reason.HANDLER_ERROR),
        type_name(kind),
        message,
        _Tracebacks().text(error, message),
        wait_ms,
        place=_place_of(error),
    )


def text_of(ask: Callable[[], object], otherwise: str, most: int = MAX_ERROR_CHARS) -> str:
    """Return at most `most` characters of a user's text; `otherwise`, which may name the class of
    the error as `{}`, if asking for it fails.
    """
    try:
        text: Any = ask()
        return str.__getitem__(text, slice(most))  # of a subclass too, this is a plain str
    except BaseException as another:  # noqa: BLE001 - a user's code may raise anything
        return otherwise.format(_qualname(type(another)))


def _chosen_wait_ms(error: Any) -> int | None:
    """Return the wait that an exception asks for; None if it has none, or one out of bounds."""
    try:
        seconds = error.seconds if issubclass(type(error), RetryLater) else error.retry_after
        return to_ms(seconds, "The wait", MAX_DELAY_MS)
    except BaseException:  # noqa: BLE001 - it may be a property
        return None


def _place_of(error: BaseException) -> str:
    """Return the file and function of the innermost frame that is the user's, or a library's.

    As in `shop.py:charge`; without the line, which every edit moves.
    """
    innermost: CodeType | None = None
    own: CodeType | None = None
    for frame, _ in traceback.walk_tb(_traceback(error)):
        code = frame.f_code
        if not code.co_filename.startswith(_OURS):
            innermost = code
            own = own if code.co_filename.startswith(_LIBRARIES) else code
    place = own or innermost
    return "" if place is None else f"{os.path.basename(place.co_filename)}:{place.co_name}"


class _Tracebacks:
    """Formats one failure as Python does, reading at most MAX_EXCEPTIONS exceptions.

    The traceback module itself reads every member of a group, and a member that several groups
    share as often as there are paths to it.
    """

    def __init__(self) -> None:
        self._left = MAX_EXCEPTIONS

    def text(self, error: BaseException, message: str, depth: int = 0) -> str:
        """Return the exception with those that it followed, the newest last."""
        parts = [self._one(error, message, depth)]
        seen = {id(error)}
        while (earlier := _earlier(error)) is not None and id(earlier[0]) not in seen:
            error, sentence = earlier
            seen.add(id(error))
            if self._left <= 0:
                parts.append("(earlier exceptions are left out)\n\n")
                break
            parts.append(f"{self._one(error, message_of(error), depth)}\n{sentence}\n\n")
        return "".join(reversed(parts))

    def _one(self, error: BaseException, message: str, depth: int) -> str:
        self._left -= 1
        name = type_name(type(error))
        lines = [*_frames(_traceback(error)), f"{name}: {message}\n" if message else f"{name}\n"]
        lines += [f"{note}\n" for note in _notes(error)]
        if issubclass(type(error), BaseExceptionGroup):
            lines += self._group(_members(error), depth + 1)
        return "".join(lines)

    def _group(self, members: tuple[BaseException, ...], depth: int) -> Iterator[str]:
        for number, member in enumerate(members, 1):
            if self._left <= 0 or depth > MAX_GROUP_DEPTH:
                yield f"  | ({len(members) - number + 1} of {len(members)} are left out)\n"
                return
            yield f"  +---- {number} of {len(members)} ----\n"
            text = self.text(member, message_of(member), depth)
            yield "".join(f"  | {line}\n" for line in text.splitlines())


def _earlier(error: BaseException) -> tuple[BaseException, str] | None:
    """Return the exception that this one followed, and how; None for the first."""
    if (cause := _cause(error)) is not None:
        return cause, _CAUSED
    context = _context(error)
    return None if context is None or _is_suppressed(error) else (context, _DURING)


def _frames(newest: TracebackType | None) -> Iterator[str]:
    """Yield the lines of a traceback: its first frames and its last."""
    if newest is None:
        return
    yield "Traceback (most recent call last):\n"
    number = sum(1 for _ in traceback.walk_tb(newest))
    left_out = number - FIRST_FRAMES - LAST_FRAMES
    if left_out <= 0:
        yield from _formatted(newest, number)
        return
    yield from _formatted(newest, FIRST_FRAMES)
    yield f"  ({left_out} frames are left out)\n"
    yield from _formatted(newest, -LAST_FRAMES)


def _formatted(newest: TracebackType, limit: int) -> list[str]:
    try:  # the source may come from a module's own loader
        lines = "".join(traceback.extract_tb(newest, limit).format()).splitlines()
        return [f"{line[:MAX_LINE_CHARS]}\n" for line in lines]
    except BaseException as another:  # noqa: BLE001 - which may raise anything
        return [f"  (its frames could not be read: {type_name(type(another))})\n"]


def _notes(error: BaseException) -> list[str]:
    try:
        notes = list(islice(iter(getattr(error, "__notes__", ())), MAX_NOTES))
    except BaseException:  # noqa: BLE001 - it may be a property
        return ["(its notes could not be read)"]
    unreadable = "(a note could not be read: {})"
    return [text_of(partial(str, note), unreadable, MAX_LINE_CHARS) for note in notes]
