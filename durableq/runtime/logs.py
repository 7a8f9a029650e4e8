"""Log events: one line each, as text or as JSON.

Payloads are not logged. A message is named by its id, its queue and, where it matters, its key.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, TextIO

_FACTS: Final = "facts"


class LogFormat(StrEnum):
    """Format of log events."""

    TEXT = "text"
    JSON = "json"


def facts(event: str, **known: Any) -> dict[str, Any]:
    """Return a log call's `extra`: the kind of the event and its fields.

    Args:
        event: one word, unique for each kind of event.
        known: fields such as message_id and queue, of JSON types.
    """
    return {_FACTS: {"event": event, **known}}


def configure(form: LogFormat, name: str, stream: TextIO) -> None:
    """Write this process's events of level WARNING and above to a stream.

    Args:
        form: text begins with the name; JSON carries it as `process`.
        name: of the process, as an operator knows it.
        stream: the output.
    """
    handler = logging.StreamHandler(stream)
    if form is LogFormat.JSON:
        handler.setFormatter(_JsonLines(name))
    else:
        handler.setFormatter(logging.Formatter(f"{name}: %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)


def json_line(event: str, text: str, *, process: str, level: str = "info", **known: Any) -> str:
    """Return an event as one line of JSON in printable ASCII."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    document = {"at": at, "level": level, "process": process, "event": event, "text": text}
    return json.dumps(document | known, default=str).replace("\x7f", "\\u007f")


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
