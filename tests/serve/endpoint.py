"""An endpoint in a thread of this process, whose actions a test gives; and as a process."""

import http.client
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import uvloop

from durableq import DurableQ
from durableq.runtime.http_server import Server, listen
from durableq.serve.access import Access
from durableq.serve.context import Action
from durableq.serve.http import Application
from durableq.serve.limits import Limits
from durableq.serve.server import server_of
from durableq.serve.wire.requests import Service
from tests.cli.console import COMMAND, environment
from tests.support import scaled, wait_for

# The first loop of a process opens a pipe for signals, which stays open.
uvloop.new_event_loop().close()


class Answered(NamedTuple):
    """An HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


class Endpoint:
    """A running endpoint."""

    def __init__(self, application: Application, server: Server, port: int) -> None:
        self.application = application
        self.server = server
        self.port = port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(
        self,
        path: str = "/",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        method: str | None = None,
    ) -> Answered:
        return ask(self.port, path, body, headers, method)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=scaled(30))


def ask(
    port: int,
    path: str = "/",
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    method: str | None = None,
) -> Answered:
    """Send one request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=scaled(30))
    try:
        verb = method or ("GET" if body is None else "POST")
        connection.request(verb, path, body, dict(headers or {}))
        found = connection.getresponse()
        named = {name.lower(): value for name, value in found.getheaders()}
        return Answered(found.status, named, found.read())
    finally:
        connection.close()


@contextmanager
def endpoint(
    dq: DurableQ,
    operations: Mapping[str, Action] | None = None,
    *,
    access: Access | None = None,
    limits: Limits | None = None,
    dynamodb: Mapping[str, Action] | None = None,
) -> Iterator[Endpoint]:
    """Serve these actions in a thread."""
    _ = dq.store
    given = {Service.SQS: operations or {}, Service.DYNAMODB: dynamodb or {}}
    made: list[Endpoint] = []
    with listen("127.0.0.1", 0, "The endpoint") as listening:

        def run() -> None:
            application = Application(dq, given, access=access, limits=limits)
            server = server_of(application)
            made.append(Endpoint(application, server, listening.getsockname()[1]))
            server.run(sockets=[listening])

        thread = threading.Thread(target=run)
        thread.start()
        try:
            running = wait_for(lambda: made and made[0].server.started and made[0])
            assert isinstance(running, Endpoint)
            yield running
        finally:
            made[0].server.should_exit = True
            thread.join(scaled(60))
            assert not thread.is_alive()


@contextmanager
def serving(url: str | Path, *arguments: Any) -> Iterator[tuple[int, "subprocess.Popen[str]"]]:
    """Run the command at a free port, and yield the port and the process."""
    command = [*COMMAND, "serve", "--db", str(url), "--port", "0", *map(str, arguments)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment()) as run:
        assert run.stdout is not None
        try:
            said = run.stdout.readline().strip()
            assert said.startswith("http://127.0.0.1:"), said or run.communicate()
            yield int(said.rpartition(":")[2]), run
        finally:
            run.kill()
