"""A connection of HTTP/1.1 with bounds: uvicorn's, which has none for headers and slow clients."""

from __future__ import annotations

import asyncio
import logging
import uuid
from typing import Any, ClassVar, Final

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from durableq.serve.errors import SERVICE_UNAVAILABLE, Kind, ServiceError
from durableq.serve.limits import Limits
from durableq.serve.wire.answers import Answer, error
from durableq.serve.wire.requests import Protocol, Service

log = logging.getLogger("durableq.serve.connections")
log.setLevel(logging.ERROR)  # uvicorn has a warning for each client that does not speak HTTP

HEADERS_TOO_LARGE: Final = Kind("RequestHeaderSectionTooLarge", "RequestHeaderSectionTooLarge", 431)
MALFORMED: Final = Kind("MalformedRequest", "MalformedRequest", 400)


class _TooLarge(Exception):
    """The first line and the headers of a request are over the limit."""


class Connection(HttpToolsProtocol):
    """A connection that refuses too many headers, and closes itself when its client is slow."""

    limits: ClassVar[Limits] = Limits()

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.logger = log
        #: Bytes that the parser has taken since it last made something of them.
        self._unparsed = 0
        self._header_bytes = 0
        self._is_too_large = False
        self._timer: asyncio.TimerHandle | None = None
        #: Ends a connection whose client does not read.
        self._unread_timer: asyncio.TimerHandle | None = None
        #: Bytes to come of the body of a request that offered another protocol; None: of none.
        self._declined_bytes: int | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or refuse it where there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            refusal = ServiceError(SERVICE_UNAVAILABLE, "There are too many connections.")
            self._refuse(refusal)
            return
        self._start_timer(self.limits.head_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the client is gone."""
        self._stop_timer()
        self._stop_unread_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse bytes of the client."""
        self._unset_keepalive_if_required()
        if self._declined_bytes is not None:
            self._take(data)
            return
        self._unparsed += len(data)
        if self._timer is None and self._is_between_requests:
            self._start_timer(self.limits.head_seconds)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self._refuse_parsed()
        except httptools.HttpParserUpgrade as offer:
            self._decline(data[offer.args[0] :])
        else:
            if self._unparsed > self.limits.header_bytes:
                self._is_too_large = True
                self._refuse_parsed()

    def _decline(self, rest: bytes) -> None:
        """Answer an offer of another protocol, such as h2c, in this one.

        The parser stops behind the headers of an offer. The body is taken without it, and the
        connection is closed behind the answer.
        """
        cycle, headers = self.cycle, dict(self.headers)
        length = headers.get(b"content-length", b"0")
        if cycle is None or b"transfer-encoding" in headers or not length.isdigit():
            self._refuse_parsed()
            return
        cycle.keep_alive = False
        self._declined_bytes = int(length)
        cycle.more_body = True
        self._take(rest)

    def _take(self, data: bytes) -> None:
        """Take bytes of the body of a request that was declined another protocol."""
        assert self._declined_bytes is not None  # noqa: S101 - of the caller
        part = data[: self._declined_bytes]
        self._declined_bytes -= len(part)
        if self.cycle.more_body and not self.cycle.response_complete:
            self.cycle.body += part
            self.cycle.more_body = self._declined_bytes > 0
            if len(self.cycle.body) > HIGH_WATER_LIMIT:
                self.flow.pause_reading()
            self.cycle.message_event.set()

    @property
    def _is_between_requests(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._header_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Take a part of the address."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, or a trailer after a body in chunks."""
        self._count(len(name) + len(value) + len(b": \r\n"))
        super().on_header(name, value)

    def _count(self, size: int) -> None:
        self._unparsed = 0
        self._header_bytes += size
        if self._header_bytes > self.limits.header_bytes:
            self._is_too_large = True
            raise _TooLarge

    def on_headers_complete(self) -> None:
        """Begin to answer."""
        self._unparsed = 0
        self._stop_timer()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a part of a body."""
        self._unparsed = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        self._unparsed = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request, or for the client to read the answer."""
        if self.transport.get_write_buffer_size():
            self._start_unread_timer()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Wait with further answers: the client reads too slowly, or not at all."""
        self._start_unread_timer()
        super().pause_writing()

    def resume_writing(self) -> None:
        """Go on with answers: the client has read."""
        self._stop_unread_timer()
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        """End a connection without a request."""
        self._end()

    def _refuse_parsed(self) -> None:
        """Refuse bytes that are no HTTP, or too many headers."""
        if self.transport.is_closing():
            return
        if self._is_too_large:
            most = self.limits.header_bytes
            self._refuse(ServiceError(HEADERS_TOO_LARGE, f"Headers have at most {most} bytes."))
        else:
            self._refuse(ServiceError(MALFORMED, "The request is no HTTP/1.1."))

    def _refuse(self, refusal: ServiceError) -> None:
        """Answer, and close the connection: the parser cannot go on."""
        cycle = self.cycle
        if cycle is not None and not (cycle.more_body or cycle.response_complete):
            cycle.keep_alive = False  # the request before is whole: it is answered
            self.flow.pause_reading()
            return
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True  # its own body is broken: no other answer follows
            cycle.message_event.set()
        if cycle is None or cycle.response_complete or not cycle.response_started:
            answer = error(Protocol.QUERY, Service.SQS, refusal, str(uuid.uuid4()))
            self.transport.write(_bytes(answer))
        self.transport.close()

    def _start_timer(self, seconds: float) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, self._end)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start_unread_timer(self) -> None:
        if self._unread_timer is None:
            seconds = self.limits.write_seconds
            self._unread_timer = self.loop.call_later(seconds, self._end_unread)

    def _stop_unread_timer(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    def _end_unread(self) -> None:
        """Close the connection, unless its client has read all meanwhile."""
        self._unread_timer = None
        if self.transport.get_write_buffer_size():
            self.transport.abort()

    def _end(self) -> None:
        """Close the connection, also one whose client does not read its answer."""
        self._timer = None
        self.transport.abort()


def _bytes(answer: Answer) -> bytes:
    lines = [STATUS_LINE[answer.status]]
    lines += [b"%b: %b\r\n" % header for header in answer.headers]
    return b"".join([*lines, b"connection: close\r\n\r\n", answer.body])
