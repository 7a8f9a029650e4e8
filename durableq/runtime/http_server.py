"""A server of HTTP until SIGTERM or Ctrl-C: `durableq dashboard` and `durableq serve` run on it."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any

import uvicorn

from durableq.model.errors import Conflict, InvalidInput
from durableq.runtime.systemd import Systemd


def listen(host: str, port: int, name: str, backlog: int = 128) -> socket.socket:
    """Return a socket that listens at an address.

    Args:
        host: name or address.
        port: 0 for any free port.
        name: of the server, for the sentence.
        backlog: connections that wait to be accepted.

    Raises:
        InvalidInput: there is no such host here.
        Conflict: the port is in use, or not for this user.
    """
    try:
        return socket.create_server((host, port), family=_family(host), backlog=backlog)
    except (socket.gaierror, UnicodeError) as error:
        why = getattr(error, "strerror", None) or "it is no host name"
        raise InvalidInput(f"--host {host} is no address of this machine: {why}.") from error
    except OSError as error:
        raise Conflict(
            f"{name} cannot listen at {host} port {port}: {_reason(error)}. "
            "Choose another --port, or 0 for any free one."
        ) from error


def _reason(error: OSError) -> str:
    """Return the system's words: create_server adds the address, which the sentence has."""
    return os.strerror(error.errno) if error.errno else str(error.strerror or error)


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def url_of(listening: socket.socket) -> str:
    """Return the URL of a listening socket."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def configuration(app: Any, end_seconds: int, **more: Any) -> uvicorn.Config:
    """Return the settings that our servers share.

    Args:
        app: an ASGI application.
        end_seconds: an answer that takes longer when the server ends is cut off.
        more: further settings.
    """
    return uvicorn.Config(
        app,
        access_log=False,
        date_header=True,
        lifespan="off",
        log_config=None,
        log_level="warning",
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=end_seconds,
        ws="none",
        **more,
    )


class Server(uvicorn.Server):
    """A server that tells systemd about itself, and ends as a process that has done its work.

    Args:
        config: as `configuration` makes it.
        on_signal: called in the handler of a signal that ends the server.
        on_stopping: called in the event loop when the end begins, before open requests are awaited.
        beside: a coroutine that runs beside the requests, and is cancelled after the last.
        systemd: is told the state of this process; None without it.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        on_signal: Callable[[], None] = lambda: None,
        on_stopping: Callable[[], None] = lambda: None,
        beside: Callable[[], Coroutine[Any, Any, None]] | None = None,
        systemd: Systemd | None = None,
    ) -> None:
        super().__init__(config)
        self._on_signal = on_signal
        self._on_stopping = on_stopping
        self._beside = beside
        self._running: asyncio.Task[None] | None = None
        self._systemd = systemd or Systemd({})

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer."""
        await super().startup(sockets)
        if self._beside is not None:
            self._running = asyncio.create_task(self._beside())
        self._systemd.ready()

    async def on_tick(self, counter: int) -> bool:
        """Look whether to end, ten times a second; a loop that hangs sends no beat."""
        self._systemd.beat("serving")
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the connections."""
        self._systemd.stopping()
        self._on_stopping()
        await super().shutdown(sockets)
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait({self._running})

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End at a signal; at a second one without waiting for open requests."""
        self.force_exit = self.should_exit
        self.should_exit = True
        self._on_signal()
