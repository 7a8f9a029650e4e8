"""Processes of the benchmark of `durableq serve`: servers, and the floor beside them.

The floor answers each action with the bytes of a real answer, and does nothing else. Run as a
script, this module is the floor: it reads one line of JSON (action to answer, in hexadecimal) and
writes its port.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import sys
from contextlib import suppress
from typing import Any, Final

from durableq.bench.piped import PipedProcess
from durableq.model.errors import DurableQError

HOST: Final = "127.0.0.1"
SECONDS: Final = 60.0
_END: Final = b"\r\n\r\n"
_SIGNED: Final = (
    "AWS4-HMAC-SHA256 Credential=bench/20260101/us-east-1/sqs/aws4_request, "
    "SignedHeaders=host, Signature=0"
)


class Served(PipedProcess):
    """A running `durableq serve` on a file.

    Args:
        database: URL of the file.
        most: operations of a commit; 0: as many as by itself.
        commit_ms: the time that each commit takes longer, as on a slow disk.
    """

    def __init__(self, database: str, *, most: int = 0, commit_ms: int = 0) -> None:
        variant = ("durableq.bench.serve_variant", str(most), str(commit_ms))
        module = variant if most or commit_ms else ("durableq",)
        super().__init__("durableq serve", "-m", *module, "serve", "--db", database, "--port", "0")
        self.url = self.answer().strip()


class Floor(PipedProcess):
    """A running server that answers with given bytes.

    Args:
        answers: the whole HTTP answer of each action.
    """

    def __init__(self, answers: dict[str, bytes]) -> None:
        super().__init__("the floor", "-P", __file__)
        self.tell(json.dumps({action: found.hex() for action, found in answers.items()}))
        self.url = f"http://{HOST}:{int(self.answer())}"


def request(action: str, parameters: dict[str, Any]) -> bytes:
    """Return the bytes of a request."""
    body = json.dumps(parameters).encode()
    head = (
        "POST / HTTP/1.1",
        f"Host: {HOST}",
        f"X-Amz-Target: AmazonSQS.{action}",
        "Content-Type: application/x-amz-json-1.0",
        f"Authorization: {_SIGNED}",
        f"Content-Length: {len(body)}",
    )
    return "\r\n".join(head).encode() + _END + body


def call(url: str, action: str, parameters: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Call an action once; return its answer, and the bytes of HTTP that carried it.

    Raises:
        DurableQError: the answer is an error.
    """
    port = int(url.rpartition(":")[2])
    connection = http.client.HTTPConnection(HOST, port, timeout=SECONDS)
    try:
        headers = {
            "X-Amz-Target": f"AmazonSQS.{action}",
            "Content-Type": "application/x-amz-json-1.0",
            "Authorization": _SIGNED,
        }
        connection.request("POST", "/", json.dumps(parameters).encode(), headers)
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    if answer.status != 200:
        raise DurableQError(f"{action} is answered with {answer.status}: {body.decode()}")
    lines = [b"HTTP/1.1 200 OK"]
    lines += [f"{name}: {value}".encode() for name, value in answer.getheaders()]
    return json.loads(body), b"\r\n".join(lines) + _END + body


class _Answering(asyncio.Protocol):
    def __init__(self, answers: dict[bytes, bytes]) -> None:
        self._answers = answers
        self._read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._read += data
        while (end := self._read.find(_END)) >= 0:
            head = self._read[:end].lower()
            length = int(head.partition(b"content-length:")[2].split(b"\r", 1)[0])
            if len(self._read) < end + len(_END) + length:
                return
            self._read = self._read[end + len(_END) + length :]
            action = head.partition(b"x-amz-target: amazonsqs.")[2].split(b"\r", 1)[0]
            if isinstance(self._transport, asyncio.WriteTransport):
                self._transport.write(self._answers[action])


async def _serve(answers: dict[bytes, bytes]) -> None:
    server = await asyncio.get_running_loop().create_server(
        lambda: _Answering(answers), HOST, 0, backlog=256
    )
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201 - the answer to its starter
    await server.serve_forever()


if __name__ == "__main__":
    given: dict[str, str] = json.loads(sys.stdin.readline())
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve({k.lower().encode(): bytes.fromhex(v) for k, v in given.items()}))
