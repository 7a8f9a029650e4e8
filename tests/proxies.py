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
from typing import Any, Final
from urllib.parse import quote

import psycopg
from psycopg.conninfo import conninfo_to_dict

from tests.support import scaled

_TLS_REQUESTS = (80877103, 80877104)
_REPORTED = (
    *("server_version", "server_encoding", "client_encoding", "standard_conforming_strings"),
    *("DateStyle", "IntervalStyle", "TimeZone", "integer_datetimes"),
)
#: Longest wait for the server, or for one of its sessions, on an idle machine.
ANSWER_SECONDS: Final = 30


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
        # Answers are several small writes: each would wait 40 ms for the client's word about the
        # one before.
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with client:
            try:
                self.serve(client)
            except TimeoutError:  # the test fails, and names it
                raise
            except OSError:  # one of both has gone
                pass

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
            session.settimeout(scaled(ANSWER_SECONDS))
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
            session = self._free.get(timeout=scaled(ANSWER_SECONDS))
            transaction = _Transaction(client, session, self.prepared)
            try:
                transaction.run(message)
                transaction.roll_back()
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
        client.sendall(packed(b"R", struct.pack("!i", 0)))
        for name in _REPORTED:
            value = of_session.parameter_status(name.encode()) or b""
            client.sendall(packed(b"S", name.encode() + b"\0" + value + b"\0"))
        pid = 1_000_000 if self._introduces_itself else of_session.backend_pid
        client.sendall(packed(b"K", struct.pack("!ii", pid, 1)) + packed(b"Z", b"I"))
        return True


class _Transaction:
    """A transaction of a client in a session.

    Args:
        client: the client.
        session: the connection to the server.
        prepared: takes the names of the statements that the client prepares.
    """

    def __init__(
        self, client: socket.socket, session: socket.socket, prepared: list[bytes]
    ) -> None:
        self._client = client
        self._session = session
        self._prepared = prepared
        #: Messages that the server answers with its state, and has not answered.
        self._unanswered = 0
        #: The beginning of a message whose rest has not come.
        self._received = b""
        #: Whether it has yet to be asked for its state, and what that was last.
        self._is_asked, self._state = True, b"I"

    @property
    def _has_ended(self) -> bool:
        waits = self._unanswered or self._received
        return self._state == b"I" and not waits and self._is_asked

    def run(self, first: bytes) -> None:
        """Forward messages until the session is idle, and has answered each, or the client left.

        Args:
            first: the client's first message.
        """
        self._forward(first)
        while not self._has_ended:
            limit = scaled(ANSWER_SECONDS) if self._unanswered else None
            ready, _, _ = select.select([self._client, self._session], [], [], limit)
            if not ready:
                raise TimeoutError("The server has not answered.")
            if self._session in ready:
                answers = self._answers()
                with suppress(ConnectionError):  # the next look at the client tells its end
                    self._client.sendall(answers)
            elif (message := _message(self._client)) is None or message[:1] == b"X":
                return
            else:
                self._forward(message)

    def roll_back(self) -> None:
        """End it where its client did not: the session is another's next."""
        if self._has_ended:
            return
        self._forward(packed(b"S", b""))  # an error is passed over up to it
        self._forward(packed(b"Q", b"ROLLBACK\0"))
        while not self._has_ended:
            self._answers()

    def _forward(self, message: bytes) -> None:
        if message[:1] == b"P":
            self._prepared += filter(None, [message[5:].partition(b"\0")[0]])
        self._session.sendall(message)
        self._is_asked = message[:1] in b"QS"
        self._unanswered += self._is_asked

    def _answers(self) -> bytes:
        """Return the messages that have come whole.

        The server sends its buffer when that is full, and the rest of a message perhaps only after
        the client's Sync, which this thread has to forward.
        """
        more = self._session.recv(1 << 16)
        assert more, "the server has ended the session"
        self._received += more
        answers = b""
        while message := _first(self._received):
            self._received = self._received[len(message) :]
            answers += message
            if message[:1] == b"Z":
                self._unanswered -= 1
                self._state = message[5:6]
        return answers


def _first(data: bytes) -> bytes:
    """Return the first message in data; empty if it is not whole."""
    length = 1 + int.from_bytes(data[1:5], "big")
    return data[:length] if len(data) >= max(length, 5) else b""


def _message(sender: socket.socket) -> bytes | None:
    """Return the next message; None at the end."""
    try:
        head = _exactly(sender, 5)
        (length,) = struct.unpack("!i", head[1:])
        return head + _exactly(sender, length - 4)
    except ConnectionError:
        return None


def _exactly(sender: socket.socket, number: int) -> bytes:
    data = b""
    while len(data) < number:
        more = sender.recv(number - len(data))
        if not more:
            raise ConnectionResetError
        data += more
    return data


def packed(kind: bytes, content: bytes) -> bytes:
    """Return a message of the protocol."""
    return kind + struct.pack("!i", len(content) + 4) + content


def options_of(connection: psycopg.Connection) -> dict[str, int]:
    """Return the options of a connection's TCP socket."""
    with socket.socket(fileno=os.dup(connection.pgconn.socket)) as copy:
        tcp = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
        found = {name: copy.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in tcp}
        return found | {"SO_KEEPALIVE": copy.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)}
