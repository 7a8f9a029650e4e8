"""Regular expressions in Python's syntax, matched under a time limit.

`re` cannot be interrupted, and some patterns backtrack exponentially. The `regex` package takes a
timeout, in any thread, and lets other threads run while it matches.
"""

from __future__ import annotations

import re
import time
import warnings
from dataclasses import dataclass, field
from typing import Final

import regex

from durableq.model.text import shown

#: Time limit for all patterns that are tried on one dead letter, and for each pattern on the
#: values of the rules file itself.
PATTERN_SECONDS: Final = 1.0

# The parts of a pattern whose braces or brackets `regex` may read differently from `re`.
_PARTS: Final = re.compile(
    r"\\N\{[^}]*\}"  # a character by its name
    r"|\\."
    r"|\[\^?\]?(?:\\.|[^\]\\])*\]"  # a set
    r"|\{(?:\d+(?:,\d*)?|,\d*)\}"  # a quantifier
    r"|\{",
    re.DOTALL,
)


class PatternTimeout(Exception):
    """The time limit for matching has passed."""


class TimeLimit:
    """A number of seconds that several searches share."""

    def __init__(self, seconds: float = PATTERN_SECONDS) -> None:
        self._seconds = self._left = seconds

    def search(self, pattern: Pattern, text: str) -> bool:
        """Return whether the pattern is found in the text.

        Raises:
            PatternTimeout: the searches took longer than the limit together.
        """
        began = time.monotonic()
        try:
            # Zero would mean no timeout.
            return pattern.compiled.search(text, timeout=max(self._left, 0.001)) is not None
        except TimeoutError:
            self._left = 0.0
            raise PatternTimeout(f"it took longer than {self._seconds:g} s") from None
        finally:
            self._left -= time.monotonic() - began


@dataclass(frozen=True, slots=True)
class Pattern:
    """A regular expression as the rules file has it. Equal if the text is."""

    text: str
    compiled: regex.Pattern[str] = field(compare=False, repr=False)
    _limit: TimeLimit = field(default_factory=TimeLimit, compare=False, repr=False)

    @classmethod
    def compile(cls, text: str) -> Pattern:
        """Compile a pattern that both `re` and `regex` accept.

        Raises:
            ValueError: one of them does not.
        """
        try:
            with warnings.catch_warnings(action="ignore", category=FutureWarning):
                re.compile(text)
            return cls(text, regex.compile(_as_re_reads(text), regex.V0))
        except (re.error, regex.error, RecursionError, OverflowError) as error:
            raise ValueError(f"{shown(text)} is not a regular expression: {error}") from None

    def found_in(self, text: str, *, default: bool) -> bool:
        """Return whether it is found in a value of the rules file; `default` if that is too slow.

        The limit is for all calls together, so that many values cost one wait.
        """
        try:
            return self._limit.search(self, text)
        except PatternTimeout:
            return default


def _as_re_reads(text: str) -> str:
    r"""Return a pattern that means to `regex` what `text` means to `re`.

    `a{e}` is fuzzy matching and `[[:alpha:]]` a POSIX class to `regex`; `re` reads both literally.
    """
    return _PARTS.sub(_literal, text)


def _literal(part: re.Match[str]) -> str:
    found = part[0]
    if found == "{":
        return r"\{"
    if found[0] == "[":
        return "[" + re.sub(r"(\\.)|\[", lambda inner: inner[1] or r"\[", found[1:], flags=re.S)
    return found
