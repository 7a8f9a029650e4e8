"""Lines that handlers and the programs they start print, made safe for a terminal and a log."""

from __future__ import annotations

import io
from contextlib import suppress
from typing import Final, TextIO

from durableq.model import codec
from durableq.model.errors import InvalidBody
from durableq.model.text import visible
from durableq.runtime import logs
from durableq.runtime.logs import LogFormat

#: Output without an end of line is shown in pieces of this size.
MAX_LINE_BYTES: Final = 64 << 10
MAX_RECORD_BYTES: Final = 1 << 20
#: First byte of a line that a worker wrote in its final form (as in RFC 7464).
RECORD: Final = b"\x1e"


class VisibleStream(io.TextIOBase):
    """Writes text to another stream with control characters made visible; its errors are dropped.

    Args:
        stream: usually stderr; None where there is none.
    """

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__()
        self._stream = stream

    def write(self, text: str) -> int:
        """Write text; return its length."""
        if self._stream is not None:
            with suppress(OSError):  # a missing reader is no error of the writer
                self._stream.write("\n".join(map(visible, text.split("\n"))))
        return len(text)

    def writable(self) -> bool:
        """Return True."""
        return True


class LineFilter:
    """Makes the output of one process printable, a line at a time.

    Args:
        name: of the process.
        form: text; or JSON, where each line becomes an event of the process.
        encoding: of the result; other characters are escaped.
    """

    def __init__(self, name: str, form: LogFormat, encoding: str = "utf-8") -> None:
        self._name = name
        self._form = form
        self._encoding = encoding
        self._unfinished = b""

    def feed(self, data: bytes) -> bytes:
        """Return the lines that are complete now, in printable form."""
        *whole, unfinished = (self._unfinished + data).split(b"\n")
        lines = [part for line in whole for part in _parts(line)]
        *more, unfinished = _parts(unfinished)
        most = MAX_RECORD_BYTES if unfinished.startswith(RECORD) else MAX_LINE_BYTES
        while len(unfinished) > most:
            more.append(unfinished[:most])
            unfinished = unfinished[most:]
        self._unfinished = unfinished
        return b"".join(map(self._line, (*lines, *more)))

    def rest(self) -> bytes:
        """Return the output that has no end of line."""
        unfinished, self._unfinished = self._unfinished, b""
        return self._line(unfinished) if unfinished else b""

    def _line(self, line: bytes) -> bytes:
        text = line.removeprefix(RECORD).decode("utf-8", "backslashreplace")
        if self._form is LogFormat.TEXT:
            text = visible(text)
        elif not (line.startswith(RECORD) and _is_event(text)):
            text = logs.json_line("printed", text, process=self._name)
        return f"{text}\n".encode(self._encoding, "backslashreplace")


def _is_event(text: str) -> bool:
    """Return whether a record is a whole JSON object in printable ASCII.

    A program that a handler started may write any bytes after the mark, and a record may be cut by
    its limit of length or by the end of its process.
    """
    if not (text.isascii() and text.isprintable()):
        return False
    try:
        return isinstance(codec.read_json(text.encode()), dict)
    except InvalidBody:
        return False


def _parts(line: bytes) -> list[bytes]:
    """Split a line before each record in it: a program had printed no end of line."""
    first, *records = line.split(RECORD)
    return [*([first] if first or not records else []), *(RECORD + each for each in records)]
