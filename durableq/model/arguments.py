"""Checks of arguments that several public functions share."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable
from typing import Final

from durableq.model.errors import InvalidInput
from durableq.model.text import shown, visible

#: The length of an unknown name in an error message: longer than any known one.
_NAME_CHARS: Final = 40
#: More names than these take half a screen, and hide the one that is probably meant.
_MANY: Final = 20


def check_known(given: Iterable[str], known: Collection[str], what: str) -> None:
    """Check that all names are known; the error suggests the probable name.

    Args:
        given: the names that were passed.
        known: the known names, in the order of the error message.
        what: the kind of name, as in "message option".

    Raises:
        InvalidInput: a name is unknown.
    """
    for name in given:
        if name not in known:
            meant = near_miss(name, known)
            question = f" Did you mean {meant!r}?" if meant else ""
            choice = "" if meant and len(known) > _MANY else f" There are {listed(known)}."
            unknown = visible(repr(name), _NAME_CHARS)
            raise InvalidInput(f"Unknown {what} {unknown}.{question}{choice}")


def near_miss(name: object, known: Iterable[str]) -> str | None:
    """Return the known name that `name` probably stands for.

    A name matches if its words contain the other's (`delay_seconds`, `DelaySeconds` and `Delay`
    mean `delay`; `ttl` means `idempotency_ttl`), or if its spelling is close.
    """
    if not isinstance(name, str) or len(name) > 100:
        return None
    known, mine = list(known), _words(name)
    for other in known:
        theirs = _words(other)
        if mine and (mine <= theirs or theirs <= mine):
            return other
    close = difflib.get_close_matches(name.lower(), known, n=1)
    return close[0] if close else None


def listed(names: Iterable[str]) -> str:
    """Return names joined for a sentence: "a, b and c"."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def check_text(value: object, what: str) -> None:
    """Check that a value is a string.

    Raises:
        InvalidInput: the value is of another type.
    """
    if not isinstance(value, str):
        raise InvalidInput(f"{what} is a string, got {shown(value)}.")


def check_page_start(after_id: str | None) -> int:
    """Return the row number after which a page of messages begins; 0 for the first page.

    Raises:
        InvalidInput: `after_id` is not a message id.
    """
    if after_id is None:
        return 0
    if not (re.fullmatch("[0-9]{1,19}", after_id) and int(after_id) < 1 << 63):
        raise InvalidInput(
            f"{shown(after_id)} is not a message id. A page continues after the last id of the "
            "page before it."
        )
    return int(after_id)


def _words(name: str) -> set[str]:
    """Return the words of a name in snake_case or CamelCase, in lower case."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)}
