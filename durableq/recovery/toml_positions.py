"""The lines of keys and tables in a TOML file, which `tomllib` and tomlkit do not report."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

#: Keys, and the indices of array elements: ("rule", 0, "when", "queue").
Path = tuple[str | int, ...]

_TOKEN: Final = re.compile(
    r'"""(?:\\.|[^\\])*?"""{1,3}'
    r"|'''.*?'''{1,3}"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'"
    r"|\#[^\n]*"
    r"|[\[\]{},=\n]"
    r"|[^\S\n]+"
    r"""|[^\s\[\]{},="'\#]+""",
    re.DOTALL,
)
_ENDS: Final = frozenset({",", "]", "}", "\n", ""})


class _Token(NamedTuple):
    text: str
    line: int


def lines_of(text: str) -> dict[Path, int]:
    """Return the line of each table, key and array element of a valid text."""
    return _Reader(text).read()


def keys_of(dotted: str) -> tuple[str, ...]:
    """Parse a dotted key: `customer.email`, or `"with.dot".email`.

    Raises:
        ValueError: it is not a key.
    """
    tokens = [token.text for token in _tokens(dotted)]
    if {"=", "[", "{", "\n"} & set(tokens) or dotted.lstrip().startswith("#"):
        raise ValueError(f"{dotted!r} is not a key")
    try:
        found: object = tomllib.loads(f"{dotted} = 0")
    except tomllib.TOMLDecodeError:
        raise ValueError(f"{dotted!r} is not a key") from None
    keys = []
    while isinstance(found, dict):
        ((key, found),) = found.items()
        keys.append(key)
    return tuple(keys)


class _Reader:
    """Reads the tokens of a valid text once."""

    def __init__(self, text: str) -> None:
        self._tokens = [*_tokens(text.replace("\r\n", "\n")), _Token("", 0)]
        self._at = 0
        self._lines: dict[Path, int] = {}
        # The number of elements of each array of tables so far.
        self._elements: Counter[Path] = Counter()

    def read(self) -> dict[Path, int]:
        table: Path = ()
        while self._peek().text:
            if self._peek().text == "\n":
                self._take()
            elif self._peek().text == "[":
                table = self._header()
            else:
                self._pair(table)
        return self._lines

    def _header(self) -> Path:
        line = self._take().line
        if self._peek().text != "[":
            path = self._resolve(self._keys("]"))
        else:
            self._take()
            *outer, last = self._keys("]")
            self._take()
            array = (*self._resolve(outer), last)
            self._lines.setdefault(array, line)
            path = (*array, self._elements[array])
            self._elements[array] += 1
        self._lines.setdefault(path, line)
        return path

    def _resolve(self, keys: Sequence[str]) -> Path:
        """Return the path of a header, with the newest element of each array of tables."""
        path: Path = ()
        for key in keys:
            path = (*path, key)
            if path in self._elements:
                path = (*path, self._elements[path] - 1)
        return path

    def _pair(self, table: Path) -> None:
        line = self._peek().line
        path = table
        for key in self._keys("="):
            path = (*path, key)
            self._lines.setdefault(path, line)
        self._value(path)

    def _value(self, path: Path) -> None:
        self._skip_newlines()
        if self._peek().text == "[":
            self._elements_of(path)
        elif self._peek().text == "{":
            self._take()
            while self._skip_newlines() != "}":
                self._take() if self._peek().text == "," else self._pair(path)
            self._take()
        else:
            while self._peek().text not in _ENDS:
                self._take()

    def _elements_of(self, path: Path) -> None:
        self._take()
        number = 0
        while self._skip_newlines() != "]":
            if self._peek().text == ",":
                self._take()
                continue
            self._lines.setdefault((*path, number), self._peek().line)
            self._value((*path, number))
            number += 1
        self._take()

    def _keys(self, end: str) -> tuple[str, ...]:
        """Take a dotted key and the token behind it."""
        text = ""
        while self._peek().text not in {end, ""}:
            text += self._take().text
        self._take()
        return keys_of(text)

    def _skip_newlines(self) -> str:
        while self._peek().text == "\n":
            self._take()
        return self._peek().text

    def _peek(self) -> _Token:
        return self._tokens[self._at]

    def _take(self) -> _Token:
        token = self._tokens[self._at]
        self._at = min(self._at + 1, len(self._tokens) - 1)
        return token


def _tokens(text: str) -> Iterator[_Token]:
    """Yield the tokens that are neither space nor comment, with their lines."""
    line = 1
    for found in _TOKEN.finditer(text):
        word = found[0]
        if word == "\n" or not (word.isspace() or word.startswith("#")):
            yield _Token(word, line)
        line += word.count("\n")
