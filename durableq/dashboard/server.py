"""The server of `durableq dashboard`."""

from __future__ import annotations

import socket

from starlette.applications import Starlette

from durableq.runtime.http_server import Server, configuration
from durableq.runtime.systemd import Systemd

#: A page that is still being read when the server ends is cut off after this time.
_END_SECONDS = 2


def serve(app: Starlette, listening: socket.socket, systemd: Systemd | None = None) -> None:
    """Serve a dashboard until SIGTERM or Ctrl-C.

    Args:
        app: the dashboard.
        listening: the socket to accept connections at.
        systemd: is told what this process does; None without it.
    """
    live = app.state.live  # open live pages would hold the end up
    server = Server(configuration(app, _END_SECONDS), on_signal=live.end, systemd=systemd)
    server.run(sockets=[listening])
