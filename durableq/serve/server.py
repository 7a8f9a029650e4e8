"""The server of `durableq serve`."""

from __future__ import annotations

import gc
import resource
import socket
from dataclasses import replace
from functools import partial
from typing import Final

from durableq.client.app import DurableQ
from durableq.model.errors import Unsupported
from durableq.runtime.systemd import Systemd
from durableq.serve import dynamodb, sqs
from durableq.serve.access import Access
from durableq.serve.http import Application
from durableq.serve.limits import Limits
from durableq.serve.wire.requests import Service

try:
    from durableq.runtime.http_server import Server, configuration
    from durableq.serve.connections import Connection
except ImportError as error:
    raise Unsupported(
        f"The server needs libraries that cannot be imported ({error}). "
        "Install them: pip install 'durableq[serve]'."
    ) from error

#: The variables in which SDKs and the AWS CLI read the address of this server.
VARIABLES: Final = ("AWS_ENDPOINT_URL_SQS", "AWS_ENDPOINT_URL_DYNAMODB")
#: Connections that wait to be accepted.
BACKLOG: Final = 1024
#: Open files of this process that are no connections of clients.
_OTHER_FILES: Final = 64


def serve(
    app: DurableQ,
    listening: socket.socket,
    *,
    access: Access | None = None,
    limits: Limits | None = None,
    is_strict: bool = False,
    names_regions: bool = False,
    systemd: Systemd | None = None,
) -> None:
    """Answer requests until SIGTERM or Ctrl-C.

    At the end no new requests are taken, receives that wait are answered, and open requests are
    committed and answered.

    Args:
        app: the application whose store is served; open.
        listening: the socket to accept connections at.
        access: the rules of access.
        limits: the bounds; by default as many connections as this process may have open files.
        is_strict: whether the rules of 60 seconds hold.
        names_regions: whether queue URLs name regions that are not the default one.
        systemd: is told the state of this process; None without it.
    """
    operations = {Service.SQS: sqs.OPERATIONS, Service.DYNAMODB: dynamodb.OPERATIONS}
    bounds = limits or _possible(Limits())
    application = Application(
        app,
        operations,
        access=access,
        limits=bounds,
        is_strict=is_strict,
        names_regions=names_regions,
    )
    server = server_of(application, systemd)
    gc.freeze()  # what is loaded by now stays: collections, a twentieth of the time, pass over it
    server.run(sockets=[listening])


def server_of(application: Application, systemd: Systemd | None = None) -> Server:
    """Return the server of an application, within its limits."""
    limits = application.limits
    config = configuration(
        application,
        limits.end_seconds,
        backlog=BACKLOG,
        http=type("BoundConnection", (Connection,), {"limits": limits}),
        timeout_keep_alive=limits.idle_seconds,
    )
    return Server(
        config,
        on_stopping=application.stopping.set,
        beside=partial(sqs.attend, application.app),
        systemd=systemd,
    )


def _possible(limits: Limits) -> Limits:
    """Return limits with no more connections than this process may have open files."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files == resource.RLIM_INFINITY:
        return limits
    return replace(limits, connections=max(1, min(limits.connections, files - _OTHER_FILES)))
