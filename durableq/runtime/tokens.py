"""Tokens that let programs and persons in, and the header in which a proxy names a person."""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from durableq.model.errors import InvalidInput
from durableq.model.text import visible

MIN_TOKEN_CHARS: Final = 16
_HEADER: Final = re.compile(r"[A-Za-z0-9-]+")


def lines_of(path: Path, kind: str) -> list[str]:
    """Return the lines of a file that are neither empty nor a comment.

    Args:
        path: the file.
        kind: of file, for the sentence.

    Raises:
        InvalidInput: it cannot be read.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8"
        raise InvalidInput(f"The {kind} file {path} cannot be read: {why}.") from None
    return [line for line in map(str.strip, lines) if line and not line.startswith("#")]


def read_tokens(path: Path, unnamed: str) -> dict[str, str]:
    """Read a file of tokens: in each line a token, or the name of a person and a token.

    Args:
        path: the file.
        unnamed: the name of who has a token without a name.

    Returns:
        Names by tokens.

    Raises:
        InvalidInput: it cannot be read, or has no token.
    """
    found = {}
    for line in lines_of(path, "token"):
        name, _, token = line.rpartition(" ")
        found[token] = name.strip() or unnamed
    if not found:
        raise InvalidInput(f"The token file {path} has no token: write one in a line.")
    return found


def check_tokens(tokens: Iterable[str]) -> None:
    """Refuse a token that could be guessed.

    Raises:
        InvalidInput: it is too short.
    """
    if any(len(token) < MIN_TOKEN_CHARS for token in tokens):
        raise InvalidInput(
            f"A token has at least {MIN_TOKEN_CHARS} characters. Make one: "
            "python -c 'import secrets; print(secrets.token_urlsafe())'."
        )


def check_header(name: str) -> None:
    """Refuse a name that no HTTP header can have.

    Raises:
        InvalidInput: it is such a name.
    """
    if not _HEADER.fullmatch(name):
        raise InvalidInput(
            f"{visible(name, 60)!r} is no name of an HTTP header: use A-Z a-z 0-9 -."
        )


def name_of(tokens: Mapping[str, str], token: str) -> str | None:
    """Return the name of who has a token; None if there is no such token."""
    found = None
    for known, name in tokens.items():  # all of them, in the same time
        if hmac.compare_digest(known.encode(), token.encode("utf-8", "replace")):
            found = name
    return found


def is_loopback(host: str) -> bool:
    """Return whether only programs of this machine reach a server at this address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
