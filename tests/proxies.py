"""Between a client and the server of the tests: a network that can be cut, and a pooler.

Both listen on TCP; the server of the tests has a socket in a folder only.
"""

from __future__ import annotations

import os
import queue
import select
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import psycopg
from psycopg.conninfo import conninfo_to_dict

from tests.support import scaled

_TLS_REQUESTS = (80877103, 80877104)
_REPORTED = (
    *("server_version", "server_encoding", "client_encoding", "standard_conforming_strings"),
    *("DateStyle", "IntervalStyle", "TimeZone", "integer_datetimes"),
)


class _Listener:
    """A port at which a thread serves each client."""

    def __init__(self, server: str) -> None:
        self._server = server
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._clients: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    @property
    def url(self) -> str:
        """The URL of the server through this port."""
        options = conninfo_to_dict(self._server)
        user, database = (quote(str(options[name])) for name in ("user", "dbname"))
        port = self._listening.getsockname()[1]
        return f"postgresql://{user}@127.0.0.1:{port}/{database}?sslmode=disable"

    def close(self) -> None:
        """Accept nobody any more, cut all connections, and wait for the threads."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self.cut()
        for thread in self._threads:
            thread.join(scaled(10))
        self._listening.close()

    def cut(self) -> None:
        """Cut all connections."""
        for client in self._clients:
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
        self._clients.clear()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listening.accept()
                self._clients.append(client)
                self._start(self._serve_quietly, client)

    def _start(self, target: Callable[..., None], *arguments: Any) -> None:
        self._threads.append(threading.Thread(target=target, args=arguments, daemon=True))
        self._threads[-1].start()

    def _serve_quietly(self, client: socket.socket) -> None:
        with suppress(OSError), client:
            self.serve(client)

    def serve(self, client: socket.socket) -> None:
        """Serve a client until it has gone."""
        raise NotImplementedError


class Network(_Listener):
    """Forwards bytes, until it is cut, or silent as a host that has vanished."""

    def __init__(self, server: str) -> None:
        self._speaks = threading.Event()
        self._speaks.set()
        super().__init__(server)

    def fall_silent(self) -> None:
        """Forward nothing any more; nobody is told."""
        self._speaks.clear()

    def close(self) -> None:
        self._speaks.set()
        super().close()

    def serve(self, client: socket.socket) -> None:
        options = conninfo_to_dict(self._server)
        host, port = str(options.get("host", "127.0.0.1")), str(options.get("port", 5432))
        if host.startswith("/"):
            upstream = socket.socket(socket.AF_UNIX)
            upstream.connect(f"{host}/.s.PGSQL.{port}")
        else:
            upstream = socket.create_connection((host, int(port)))
        ways = {client: upstream, upstream: client}
        with upstream:
            while True:
                ready, _, _ = select.select(list(ways), [], [])
                self._speaks.wait()
                for one in ready:
                    data = one.recv(65536)
                    if not data:
                        return
                    ways[one].sendall(data)


class Pooler(_Listener):
    """A pooler in transaction mode: each transaction runs in the session that is free longest.

    Args:
        server: the URL of the server.
        sessions: number of its sessions.
        introduces_itself: greets with a process id of its own, as pgbouncer does; otherwise
            with that of a session.
    """

    def __init__(self, server: str, *, sessions: int = 3, introduces_itself: bool = True) -> None:
        self._introduces_itself = introduces_itself
        #: The names of the statements that clients prepared.
        self.prepared: list[bytes] = []
        self._connections = [psycopg.connect(server, autocommit=True) for _ in range(sessions)]
        self._free: queue.Queue[socket.socket] = queue.Queue()
        for connection in self._connections:
            session = socket.socket(fileno=os.dup(connection.pgconn.socket))
            session.setblocking(True)
            self._free.put(session)
        super().__init__(server)

    def close(self) -> None:
        super().close()
        for _ in self._connections:
            self._free.get(timeout=scaled(10)).close()
        for connection in self._connections:
            connection.close()

    @property
    def sessions(self) -> list[psycopg.Connection]:
        """The sessions, to be looked at while no client uses one."""
        return self._connections

    def serve(self, client: socket.socket) -> None:
        if not self._greet(client):
            return
        while (message := _message(client)) is not None and message[:1] != b"X":
            session = self._free.get()
            try:
                self._transaction(client, session, message)
            finally:
                self._free.put(session)

    def _greet(self, client: socket.socket) -> bool:
        """Answer the startup message; False for a request to cancel, which is ignored."""
        while True:
            (length,) = struct.unpack("!i", _exactly(client, 4))
            (code,) = struct.unpack("!i", _exactly(client, length - 4)[:4])
            if code not in _TLS_REQUESTS:
                break
            client.sendall(b"N")
        if code != 196608:
            return False
        of_session = self._connections[0].pgconn
        client.sendall(_packed(b"R", struct.pack("!i", 0)))
        for name in _REPORTED:
            value = of_session.parameter_status(name.encode()) or b""
            client.sendall(_packed(b"S", name.encode() + b"\0" + value + b"\0"))
        pid = 1_000_000 if self._introduces_itself else of_session.backend_pid
        client.sendall(_packed(b"K", struct.pack("!ii", pid, 1)) + _packed(b"Z", b"I"))
        return True

    def _transaction(self, client: socket.socket, session: socket.socket, first: bytes) -> None:
        """Forward messages until the session is idle, and has answered each."""
        unanswered = self._forward(first, session)
        while True:
            ready, _, _ = select.select([client, session], [], [])
            if session in ready:
                message = _message(session)
                assert message is not None, "the server has ended the session"
                client.sendall(message)
                if message[:1] == b"Z":
                    unanswered -= 1
                    if not unanswered and message[5:6] == b"I":
                        return
            elif (message := _message(client)) is None:
                self._roll_back(session, unanswered)
                return
            else:
                unanswered += self._forward(message, session)

    def _forward(self, message: bytes, session: socket.socket) -> int:
        """Forward a client's message; return 1 if the server answers it with its state."""
        if message[:1] == b"P":
            self.prepared += filter(None, [message[5:].partition(b"\0")[0]])
        session.sendall(message)
        return int(message[:1] in b"QS")

    def _roll_back(self, session: socket.socket, unanswered: int) -> None:
        session.sendall(_packed(b"Q", b"ROLLBACK\0"))
        left = unanswered + 1
        while left:
            message = _message(session)
            assert message is not None
            left -= message[:1] == b"Z"


def _message(sender: socket.socket) -> bytes | None:
    """Return the next message; None at the end."""
    head = sender.recv(5, socket.MSG_WAITALL)
    if len(head) < 5:
        return None
    (length,) = struct.unpack("!i", head[1:])
    return head + _exactly(sender, length - 4)


def _exactly(sender: socket.socket, number: int) -> bytes:
    data = b""
    while len(data) < number:
        more = sender.recv(number - len(data))
        if not more:
            raise ConnectionResetError
        data += more
    return data


def _packed(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack("!i", len(content) + 4) + content


def options_of(connection: psycopg.Connection) -> dict[str, int]:
    """Return the options of a connection's TCP socket."""
    with socket.socket(fileno=os.dup(connection.pgconn.socket)) as copy:
        tcp = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
        found = {name: copy.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in tcp}
        return found | {"SO_KEEPALIVE": copy.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)}
