"""The server of `durableq dashboard`."""

from __future__ import annotations

import os
import socket
from types import FrameType

import uvicorn
from starlette.applications import Starlette

from durableq.dashboard.live import Live
from durableq.model.errors import Conflict, InvalidInput
from durableq.runtime.systemd import Systemd

#: A page that is still being read when the server ends is cut off after this time.
_END_SECONDS = 2


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens at an address.

    Raises:
        InvalidInput: there is no such host here.
        Conflict: the port is in use, or not for this user.
    """
    try:
        return socket.create_server((host, port), family=_family(host), backlog=128)
    except socket.gaierror as error:
        raise InvalidInput(f"--host {host} is no address of this machine: {error.strerror}.") from (
            error
        )
    except OSError as error:
        raise Conflict(
            f"The dashboard cannot listen at {host} port {port}: {_reason(error)}. "
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


def serve(app: Starlette, listening: socket.socket, systemd: Systemd | None = None) -> None:
    """Serve a dashboard until SIGTERM or Ctrl-C.

    Args:
        app: the dashboard.
        listening: the socket to accept connections at.
        systemd: is told what this process does; None without it.
    """
    config = uvicorn.Config(
        app,
        access_log=False,
        date_header=True,
        lifespan="off",
        log_config=None,
        log_level="warning",
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=_END_SECONDS,
        ws="none",
    )
    _Server(config, app.state.live, systemd or Systemd({})).run(sockets=[listening])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, live: Live, systemd: Systemd) -> None:
        super().__init__(config)
        self._live = live
        self._systemd = systemd

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer."""
        await super().startup(sockets)
        self._systemd.ready()

    async def on_tick(self, counter: int) -> bool:
        """Look whether to end, ten times a second; a loop that hangs sends no beat."""
        self._systemd.beat("serving")
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the connections."""
        self._systemd.stopping()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End at a signal; the process ends as one that has done its work."""
        self.force_exit = self.should_exit
        self.should_exit = True
        self._live.end()  # they would hold the end up
