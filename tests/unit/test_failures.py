"""Failure records: any exception is read, within limits of size and time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durableq import InvalidInput, Reason, Reject, RetryLater, Unavailable
from durableq.client.failures import HandlerFailed, failure_of, message_of
from durableq.model.limits import MAX_ERROR_CHARS, MAX_ERROR_TYPE_CHARS, MAX_TRACEBACK_CHARS
from durableq.model.message import Failure


class Own(BaseException):
    """An exception that no `except Exception` catches."""


def refuse(*_: object) -> NoReturn:
    raise Own("asked")


def raised(error: BaseException) -> Any:
    try:
        raise error
    except BaseException as caught:  # noqa: BLE001 - any of them
        return caught


def new(kind: Any, *arguments: object) -> BaseException:
    """Make an exception without running its `__init__`."""
    error: BaseException = kind.__new__(kind, *arguments)
    return error


def read(error: BaseException) -> Failure:
    """Read a failure, and check the properties of every failure."""
    failure = failure_of(error)
    assert type(failure.error_message) is str
    assert len(failure.error_type) <= MAX_ERROR_TYPE_CHARS
    assert len(failure.error_message) <= MAX_ERROR_CHARS
    assert len(failure.traceback) <= MAX_TRACEBACK_CHARS
    for text in (failure.error_type, failure.error_message, failure.traceback, failure.place):
        text.encode()
    return failure


def test_an_exception_that_the_traceback_module_cannot_format_is_read() -> None:
    failure = read(raised(SyntaxError("bad", ("f", 1, 1, 42))))  # type: ignore[arg-type]
    assert (failure.error_type, failure.reason) == ("SyntaxError", Reason.HANDLER_ERROR)
    assert "in raised" in failure.traceback
    assert failure.place == "test_failures.py:raised"


ODD_ATTRIBUTES = (
    *("__str__", "__repr__", "__class__", "__traceback__", "__cause__", "__context__", "__notes__"),
    *(
        "__suppress_context__",
        "args",
        "seconds",
        "retry_after",
        "failure",
        "exceptions",
        "__dict__",
    ),
    *("__module__", "__getattribute__", "__eq__", "__hash__", "__bool__", "__len__"),
)


@pytest.mark.parametrize("base", [ValueError, Own, RetryLater, Unavailable, Reject, HandlerFailed])
def test_an_exception_is_read_although_each_attribute_raises(base: type[BaseException]) -> None:
    values: dict[str, Any] = {name: property(refuse) for name in ODD_ATTRIBUTES}
    values |= dict.fromkeys(("__str__", "__repr__", "__getattribute__", "__hash__"), refuse)
    odd = type("Odd", (base,), values)
    failure = read(raised(new(odd)))
    assert (failure.error_type, failure.retry_in_ms) == ("Odd", None)
    assert failure.error_message == "(its message could not be read: Own)"
    reasons = {Reject: Reason.REJECTED, Unavailable: Reason.UNAVAILABLE}
    assert failure.reason is reasons.get(base, Reason.HANDLER_ERROR)
    assert "in raised" in failure.traceback


class Odd(type):
    def __getattribute__(cls, _: str) -> NoReturn:
        raise Own

    def __instancecheck__(cls, _: object) -> bool:
        raise Own


def test_a_class_whose_metaclass_raises_has_its_name() -> None:
    class Strange(Exception, metaclass=Odd):
        pass

    failure = read(raised(Strange("x")))
    assert failure.error_type.endswith("Strange")


class Loud(str):
    """A text that runs code whenever it is used."""

    __slots__ = ()
    __getitem__ = __len__ = __str__ = encode = isascii = strip = refuse  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (lambda _: 42, "(its message could not be read: TypeError)"),
        (lambda _: None, "(its message could not be read: TypeError)"),
        (lambda _: "x" * (8 << 20), "x" * MAX_ERROR_CHARS),
        (lambda _: "\ud800", "\\ud800"),
        (lambda _: "\udfff" * 9_000, ("\\udfff" * 9_000)[:MAX_ERROR_CHARS]),
        (lambda _: Loud("loud"), "loud"),
        (refuse, "(its message could not be read: Own)"),
    ],
    ids=["number", "None", "megabytes", "surrogate", "surrogates", "loud", "raises"],
)
def test_the_text_of_an_exception_is_kept_as_far_as_possible(
    said: Callable[[object], object], message: str
) -> None:
    error = type("Odd", (Exception,), {"__str__": said})()
    assert message_of(error)[:9] == message[:9] or "ud" in message
    assert read(error).error_message == message


def test_a_text_that_runs_code_is_read() -> None:
    assert failure_of(Loud("loud")).error_message == "loud"
    assert len(failure_of("\ud800" * 9_000).error_message) == MAX_ERROR_CHARS
    with pytest.raises(InvalidInput, match="exception or a text, not int"):
        failure_of(42)  # type: ignore[arg-type]


def a_group_of_groups(depth: int) -> BaseException:
    error: BaseException = ValueError("leaf")
    for level in range(depth):
        error = BaseExceptionGroup(f"level {level}", [error, error])
    return error


def a_wide_group() -> BaseException:
    return ExceptionGroup("wide", [ValueError(n) for n in range(200_000)])


def a_chain(link: str, length: int = 50_000) -> BaseException:
    first = error = ValueError("newest")
    for number in range(length):
        before = ValueError(number)
        setattr(error, link, before)
        error = before
    return first


def a_circle() -> BaseException:
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    return one


def a_deep_stack() -> BaseException:
    def fall(left: int) -> None:
        if not left:
            raise ValueError("at the bottom")
        for _ in range(1):
            fall(left - 1)

    try:
        fall(400)
    except ValueError as error:
        return error
    raise AssertionError


def much_to_note() -> BaseException:
    error = ValueError("noted")
    error.__notes__ = ["n" * 100_000] * 10_000
    return error


def a_long_name() -> BaseException:
    error: BaseException = type("T" * 1_000_000, (Exception,), {})()
    return error


MUCH: dict[str, Callable[[], BaseException]] = {
    "groups that share members": partial(a_group_of_groups, 60),
    "a wide group": a_wide_group,
    "causes": partial(a_chain, "__cause__"),
    "contexts": partial(a_chain, "__context__"),
    "a circle": a_circle,
    "a deep stack": a_deep_stack,
    "notes": much_to_note,
    "a long message": partial(ValueError, ("'" + "a1" * 10) * 500_000),
    "a long type": a_long_name,
}


@pytest.mark.parametrize("name", MUCH)
def test_large_exceptions_are_read_in_little_time(name: str) -> None:
    error = MUCH[name]()
    began = time.process_time()
    failure = read(error)
    assert time.process_time() - began < 2
    assert failure.error_type[:20] in failure.traceback


def test_the_traceback_shows_causes_notes_and_groups() -> None:
    try:
        try:
            raise KeyError("first")
        except KeyError as first:
            second = ExceptionGroup("several", [ValueError("one"), raised(OSError("two"))])
            second.add_note("a note")
            raise second from first
    except ExceptionGroup as error:
        text = failure_of(error).traceback
    order = ["KeyError: 'first'", "direct cause", "ExceptionGroup: several", "a note", "| Value"]
    assert sorted(order, key=text.index) == order
    assert "| OSError: two" in text
    assert text.count("Traceback (most recent call last)") == 4  # the OSError has a context, too


def test_a_deep_stack_shows_where_it_began_and_where_it_raised() -> None:
    text = failure_of(a_deep_stack()).traceback
    assert "in a_deep_stack" in text
    assert "frames are left out" in text
    assert 'raise ValueError("at the bottom")' in text


NAMES = st.sampled_from(ODD_ATTRIBUTES)
VALUES = st.one_of(
    st.none(),
    st.integers(),
    st.floats(),
    st.text(st.characters(), max_size=20),
    st.binary(max_size=5),
    st.lists(st.text(max_size=3), max_size=3),
    st.just(refuse),
    st.just(property(refuse)),
    st.just(property(lambda _: "\ud800")),
    st.just(lambda *_: "x" * 100_000),
    st.just(lambda *_: 7),
    st.just(object),
)
BASES = st.sampled_from(
    [
        *(
            Exception,
            BaseException,
            SyntaxError,
            UnicodeDecodeError,
            KeyError,
            ImportError,
            OSError,
        ),
        *(SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration, asyncio.CancelledError),
        *(RetryLater, Unavailable, Reject, HandlerFailed, AttributeError, NameError, MemoryError),
    ]
)
ARGUMENTS = st.lists(st.one_of(st.none(), st.integers(), st.text(), st.binary()), max_size=6)


@given(
    base=BASES, odd=st.dictionaries(NAMES, VALUES, max_size=6), arguments=ARGUMENTS, data=st.data()
)
def test_no_exception_is_too_odd_to_be_read(
    base: type[BaseException], odd: dict[str, Any], arguments: list[Any], data: st.DataObject
) -> None:
    try:
        kind = type("Odd", (base,), odd)
        error = new(kind, *arguments)
    except BaseException:  # noqa: BLE001 - Python itself refuses this one
        return
    if data.draw(st.booleans()):
        BaseException.__dict__["__context__"].__set__(error, raised(ValueError("before")))
    failure = read(raised(error))
    assert failure.error_type == "Odd" or "__qualname__" in odd
