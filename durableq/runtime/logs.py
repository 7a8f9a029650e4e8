"""Log events: one line each, as text or as JSON.

Payloads are not logged. A message is named by its id, its queue and, where it matters, its key.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, Protocol

_FACTS: Final = "facts"


class Stream(Protocol):
    """An output of log lines."""

    def write(self, text: str, /) -> object:
        """Write a text."""
        ...

    def flush(self) -> None:
        """Bring it to the reader."""
        ...


class LogFormat(StrEnum):
    """Format of log events."""

    TEXT = "text"
    JSON = "json"


class LogLevel(StrEnum):
    """The least severe events that are logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def facts(event: str, **known: Any) -> dict[str, Any]:
    """Return a log call's `extra`: the kind of the event and its fields.

    Args:
        event: one word, unique for each kind of event.
        known: fields such as message_id and queue, of JSON types.
    """
    return {_FACTS: {"event": event, **known}}


def configure(form: LogFormat, name: str, stream: Stream, level: LogLevel = LogLevel.INFO) -> None:
    """Write durableq's events of this process to a stream.

    Only the logger `durableq` is configured: the application's own stay as it has set them up.

    Args:
        form: text begins with time, level and the name; JSON carries the name as `process`.
        name: of the process, as an operator knows it.
        stream: the output.
        level: events below it are left out.
    """
    handler = logging.StreamHandler(stream)
    if form is LogFormat.JSON:
        handler.setFormatter(_JsonLines(name))
    else:
        handler.setFormatter(_TextLines(name))
    ours = logging.getLogger("durableq")
    ours.handlers[:] = [handler]
    ours.setLevel(level.upper())
    ours.propagate = False


def json_line(event: str, text: str, *, process: str, level: str = "info", **known: Any) -> str:
    """Return an event as one line of JSON in printable ASCII."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    document = {"at": at, "level": level, "process": process, "event": event, "text": text}
    return json.dumps(document | known, default=str).replace("\x7f", "\\u007f")


def text_line(text: str, *, process: str, level: str) -> str:
    """Return an event as a line of text: its time in UTC, its level, the process, the sentence."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    return f"{at} {level.upper()} {process}: {text}"


class _TextLines(logging.Formatter):
    """A record as a line of text; a traceback follows."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - of the library
        return text_line(record.message, process=self._name, level=record.levelname)


class _JsonLines(logging.Formatter):
    """A record as one line of JSON."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def format(self, record: logging.LogRecord) -> str:
        known = dict(getattr(record, _FACTS, {}))
        event = known.pop("event", "log")
        if record.exc_info:
            known["traceback"] = self.formatException(record.exc_info)
        level = record.levelname.lower()
        text = record.getMessage()
        return json_line(event, text, process=self._name, level=level, **known)
