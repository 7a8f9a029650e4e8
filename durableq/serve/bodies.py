"""The bodies of requests, within bounds: also those of unknown length, and of slow clients."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from durableq.serve.errors import REQUEST_TOO_LARGE, SERVICE_UNAVAILABLE, ServiceError
from durableq.serve.limits import Limits

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

DISCONNECT: Final = "http.disconnect"


class Gone(Exception):
    """The client has hung up."""


class Bodies:
    """The bodies of the open requests.

    Args:
        limits: the bounds.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        #: Bytes of all open requests.
        self.held_bytes = 0


class Body:
    """The body of one request; `release` it when it is answered.

    Args:
        of: all of them.
    """

    def __init__(self, of: Bodies) -> None:
        self._of = of
        self._parts: list[bytes] = []
        self._size = 0

    def release(self) -> None:
        """Let others have the memory."""
        self._of.held_bytes -= self._size
        self._size = 0
        self._parts.clear()

    async def read(self, receive: Receive) -> bytes:
        """Return the body.

        Raises:
            ServiceError: it is too large, or there is no room for it.
            Gone: the client has hung up.
        """
        while True:
            message = await receive()
            if message["type"] == DISCONNECT:
                raise Gone
            part = message.get("body", b"")
            if self._size + len(part) > self._of.limits.body_bytes:
                await self._drop(receive, self._size + len(part), message)
            self._size += len(part)
            self._of.held_bytes += len(part)
            if self._of.held_bytes > self._of.limits.all_bodies_bytes:
                raise ServiceError(SERVICE_UNAVAILABLE, "The open requests are too large together.")
            self._parts.append(part)
            if not message.get("more_body", False):
                return b"".join(self._parts)

    async def _drop(self, receive: Receive, size: int, message: Message) -> None:
        """Read the rest of a body that is too large: a client that still sends reads no answer.

        Raises:
            ServiceError: always.
            Gone: the client has hung up.
        """
        self.release()
        limits = self._of.limits
        while message.get("more_body", False) and size < limits.dropped_bytes:
            message = await receive()
            if message["type"] == DISCONNECT:
                raise Gone
            size += len(message.get("body", b""))
        raise ServiceError(
            REQUEST_TOO_LARGE, f"The body of a request has at most {limits.body_bytes} bytes."
        )
