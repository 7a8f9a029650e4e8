"""The last line of a list: the number of its rows, of how many there are, and how to see more."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from durableq.cli import output
from durableq.cli.options import Session

#: Rows that are counted where no counter has their number.
MOST_COUNTED: Final = 10_000
#: A longer key is not repeated in a hint.
_KEY_CHARS: Final = 60


class Total(NamedTuple):
    """The number of rows that there are."""

    number: int
    #: `more than` or `at most`, if it is not exact.
    how: str = ""


def counted(number: int) -> Total:
    """Return the total of rows that were counted up to one more than MOST_COUNTED."""
    return Total(number) if number <= MOST_COUNTED else Total(MOST_COUNTED, "more than ")


def say_total(
    session: Session,
    shown: Sequence[Any],
    noun: str,
    limit: int | None = None,
    total: Total | None = None,
) -> None:
    """Say how many rows there are besides the shown ones; with --json nothing.

    Args:
        session: of the command.
        shown: the first cells of the rows: their ids, keys or names.
        noun: for one row, such as message.
        limit: of the shown rows; None if all are shown.
        total: the number of rows; None if it is that of the shown ones.
    """
    if session.as_json:
        return
    there = Total(len(shown)) if total is None else total
    if there.number <= len(shown) and not there.how:
        output.say(f"{number_of(len(shown), noun)}.")
        return
    text = f"{len(shown):,} of {there.how}{number_of(there.number, noun)}"
    if len(shown) == limit:
        text += f"; --limit N shows more, --after {_argument(str(shown[-1]))} the next"
    output.say(f"{text}.")


def number_of(number: int, noun: str) -> str:
    """Return a number of things in words."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _argument(key: str) -> str:
    """Return an id or a key as an argument for a shell; KEY if it is too long to be repeated."""
    return shlex.quote(key) if len(key) <= _KEY_CHARS and key.isprintable() else "KEY"
