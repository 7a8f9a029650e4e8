"""Parsing of a database's URL into a path and options; an ambiguous URL is refused."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote_to_bytes

from durableq.model.arguments import check_known
from durableq.model.errors import InvalidInput
from durableq.model.text import shown, visible
from durableq.model.units import to_ms

SCHEME: Final = "sqlite://"
OPTIONS: Final = ("synchronous", "busy_timeout", "allow_network_filesystem")
SYNCHRONOUS: Final = ("full", "normal")

_OTHER_SCHEME: Final = re.compile(r"(sqlite|memory|file|postgres|mysql)[\w+.]*:", re.IGNORECASE)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")


def parse_url(url: str) -> tuple[Path, dict[str, Any]]:
    """Return the path that a path or a `sqlite:///` URL names, and the options.

    Raises:
        InvalidInput: it names no file, or not clearly; the message has the right spelling.
    """
    if "://" not in url:
        return _path(url, url), {}
    rest, has_options, query = url[len(SCHEME) :].partition("?")
    if "#" in url:
        raise InvalidInput(f"{shown(url)} has a #, which ends a URL's path. Write %23 instead.")
    if not rest.startswith("/"):
        name = rest.lstrip("/") or "name.db"
        raise InvalidInput(
            f"{shown(url)} names no file, but a host. Write three slashes: "
            f"sqlite:///{visible(name, 60)}, or four before a full path: sqlite:////full/name.db."
        )
    if _ESCAPE.search(rest):
        raise InvalidInput(f"{shown(url)} has a % that begins no escape. Write %25 instead.")
    path = _path(os.fsdecode(unquote_to_bytes(rest[1:])), url)
    return path, _options(query, url) if has_options else {}


def _path(name: str, url: str) -> Path:
    """Return the path of a file's name; `~/` and `~user/` at its start are a home directory.

    Raises:
        InvalidInput: the name is empty, a directory's, or a URL or SQLite name in disguise.
    """
    if not name:
        raise InvalidInput(
            f"{shown(url)} names no file. Write name.db, sqlite:///name.db or "
            "sqlite:////full/name.db."
        )
    if _CONTROL.search(name) or name != name.strip():
        raise InvalidInput(
            f"{shown(url)} has a line break, another control character, or white space at an end. "
            "Remove it."
        )
    if name.startswith(":memory:"):
        raise InvalidInput(
            f"{shown(url)} is SQLite's name for a database in memory, which no other process could "
            "see. Write memory:// for a store in this process's memory, or name a file."
        )
    if _OTHER_SCHEME.match(name):
        raise InvalidInput(
            f"{shown(url)} is neither a path nor a URL. Write sqlite:///name.db (three slashes) or "
            "memory://; for a file of that name, ./ before it."
        )
    if "?" in name and "://" not in url:
        path, _, query = name.partition("?")
        raise InvalidInput(
            f"{shown(url)} is a path with options. Write sqlite:///{visible(path, 60)}?"
            f"{visible(query, 60)}; for a file of that name, sqlite:///{visible(quote(name), 60)}."
        )
    if name.endswith(("/", "/.", "/..")) or name in {".", ".."}:
        raise InvalidInput(
            f"{shown(url)} is a directory. Name a file in it, for example durableq.db."
        )
    try:
        os.fsencode(name)
        return Path(name).expanduser() if name.startswith("~") and "/" in name else Path(name)
    except (ValueError, RuntimeError) as error:
        raise InvalidInput(f"{shown(url)} cannot be a path: {error}.") from None


def _options(query: str, url: str) -> dict[str, Any]:
    """Return the options after the `?` as Location's fields.

    Raises:
        InvalidInput: an option is unknown, has no value or a wrong one, or is given twice.
    """
    given: dict[str, str] = {}
    for option in query.split("&"):
        name, equals, value = option.partition("=")
        if option:
            check_known([name], OPTIONS, "database option")
        if not equals or not value:
            raise InvalidInput(
                f"An option in {shown(url)} has no value. Write {name or OPTIONS[0]}=VALUE, or "
                "leave it out."
            )
        if name in given:
            raise InvalidInput(f"{name} is given twice in {shown(url)}. Leave one out.")
        given[name] = os.fsdecode(unquote_to_bytes(value))
    return _fields(given, url)


def _fields(given: Mapping[str, str], url: str) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in given.items():
        if name == "synchronous" and value.lower() in SYNCHRONOUS:
            fields[name] = value.lower()
        elif name == "busy_timeout":
            fields["busy_timeout_ms"] = _timeout_ms(value)
        elif name == "allow_network_filesystem" and value.lower() in {"true", "false"}:
            fields[name] = value.lower() == "true"
        else:
            raise InvalidInput(
                f"{name}={visible(value, 60)} in {shown(url)} is not understood. There are "
                "synchronous=full|normal, busy_timeout=SECONDS and "
                "allow_network_filesystem=true|false."
            )
    return fields


def _timeout_ms(value: str) -> int:
    try:
        seconds = float(value)
    except ValueError:
        raise InvalidInput(f"busy_timeout is in seconds, got {shown(value)}.") from None
    return to_ms(seconds, "busy_timeout")
