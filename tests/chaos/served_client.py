"""A client of an SQS endpoint that repeats no request by itself, and the endpoint's process."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

from tests.support import wait_for

ANSWER_SECONDS: Final = 60
_AUTHORIZATION: Final = (
    "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/sqs/aws4_request, "
    "SignedHeaders=host, Signature=0"
)


class Unanswered(Exception):
    """The connection ended before the answer: the request may have been carried out."""


class Refused(Exception):
    """The answer is an error.

    Args:
        status: of HTTP.
        text: the body of the answer.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text}")
        self.status = status


class Client:
    """One connection at a time, which a thread has for itself. It waits until a server listens.

    Args:
        port: of the endpoint on this machine.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection: http.client.HTTPConnection | None = None
        #: Requests whose answer was lost.
        self.unanswered = 0

    def url(self, queue: str) -> str:
        """Return the URL of a queue."""
        return f"http://127.0.0.1:{self._port}/000000000000/{queue}"

    def __call__(self, action: str, **parameters: Any) -> dict[str, Any]:
        """Call an action and return its answer.

        Raises:
            Unanswered: the server ended before its answer.
            Refused: the answer is an error.
        """
        headers = {
            "X-Amz-Target": f"AmazonSQS.{action}",
            "Content-Type": "application/x-amz-json-1.0",
            "Authorization": _AUTHORIZATION,
        }
        try:
            connection = self._connected()
            connection.request("POST", "/", json.dumps(parameters).encode(), headers)
            answer = connection.getresponse()
            body = answer.read().decode()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            self.unanswered += 1
            raise Unanswered(str(error)) from error
        if answer.status != 200:
            raise Refused(answer.status, body)
        found: dict[str, Any] = json.loads(body)
        return found

    def again(self, action: str, **parameters: Any) -> dict[str, Any]:
        """Call an action that may be repeated until it is answered, by whichever server."""
        while True:
            with suppress(Unanswered):
                return self(action, **parameters)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self) -> http.client.HTTPConnection:
        if self._connection is None:
            self._connection = wait_for(self._connect, seconds=60, what="a server that listens")
        return self._connection

    def _connect(self) -> http.client.HTTPConnection | None:
        """Return a new connection; None: no server listens, so no request was sent."""
        made = http.client.HTTPConnection("127.0.0.1", self._port, timeout=ANSWER_SECONDS)
        try:
            made.connect()
        except ConnectionRefusedError:
            return None
        made.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made


class Endpoint:
    """`durableq serve` in a process of its own, on one port all the time.

    Args:
        database: a path or a URL.
        log: the file of its output.
    """

    def __init__(self, database: str, log: Path) -> None:
        # It keeps the port from others while no server listens.
        self._kept = socket.socket()
        self._kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._kept.bind(("127.0.0.1", 0))
        self.port: int = self._kept.getsockname()[1]
        self._database, self._log = database, log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and return when it answers."""
        command = [sys.executable, "-m", "durableq", "serve", "--db", self._database]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--port", str(self.port)], stdout=log, stderr=log
            )
        wait_for(self._is_healthy, seconds=60, what="an answer of the server")

    def kill(self) -> None:
        """End it by SIGKILL."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it by SIGTERM, and give up its port."""
        self._end(signal.SIGTERM)
        self._kept.close()

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(ANSWER_SECONDS)
            self._process = None

    def _is_healthy(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()
        return is_healthy(self.port)


def is_healthy(port: int) -> bool:
    """Return whether a server at this port can read its database."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_SECONDS)
    with closing(connection), suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/health")
        answer = connection.getresponse()
        answer.read()
        return answer.status == 200
    return False
