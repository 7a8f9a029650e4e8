"""The metrics over HTTP, for a Prometheus that scrapes them."""

from __future__ import annotations

import logging
import re
import socket
import socketserver
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from durableq.model.errors import DurableQError, InvalidInput
from durableq.model.text import shown
from durableq.runtime.outage import describe

log = logging.getLogger("durableq.metrics")

#: Time for a client to send its request, and to take the answer.
CLIENT_SECONDS: Final = 10
_ADDRESS: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9.-]+)):([0-9]{1,5})")

_Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def parse_address(text: str, option: str) -> tuple[str, int]:
    """Return the host and the port of HOST:PORT or [IPv6]:PORT.

    Raises:
        InvalidInput: the text is neither; the sentence names `option`.
    """
    found = _ADDRESS.fullmatch(text)
    if found is None or int(found[3]) > 65_535:
        raise InvalidInput(
            f"{option} is HOST:PORT, as in 127.0.0.1:9464 or [::1]:9464, got {shown(text)}."
        )
    return found[1] or found[2], int(found[3])


class MetricsServer:
    """Answers GET / and GET /metrics, a thread for each request.

    Args:
        collector: asked at each request. While it raises a DurableQError the answer is 503, and the
            sentence is logged once.
        host: name or address to listen at.
        port: 0 for any free port.

    Raises:
        DurableQError: the address cannot be listened at.
    """

    def __init__(self, collector: Collector, host: str, port: int) -> None:
        try:
            family, _, _, _, address = socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            kind = type("_Server", (_Server,), {"address_family": family})
            self._server = kind(address[:2], _Handler)
        except OSError as error:
            text = f"{host}:{port} cannot be listened at: {error.strerror or error}."
            raise DurableQError(f"{text} Choose another address or port.") from error
        self._server.set_app(_application(collector))

    @property
    def url(self) -> str:
        """The URL of the metrics."""
        host, port = self._server.server_address[:2]
        return f"http://{f'[{host}]' if ':' in str(host) else host}:{port}/metrics"

    def serve(self) -> None:
        """Answer requests until the process ends."""
        self._server.serve_forever()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Answer requests in a thread during the block."""
        answer = self._server.serve_forever
        thread = threading.Thread(target=answer, name="metrics", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._server.shutdown()
            thread.join()
            self.close()

    def close(self) -> None:
        """Close the socket."""
        self._server.server_close()


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True
    allow_reuse_address = True

    def server_bind(self) -> None:
        """Bind without the reverse look-up of the host name, which may take seconds."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()

    def handle_error(self, request: object, client_address: object) -> None:
        """Say in one line that a client has gone, or was too slow."""
        log.debug("a client of the metrics went away: %s", client_address)


class _Handler(WSGIRequestHandler):
    timeout = CLIENT_SECONDS

    def log_message(self, format: str, *args: object) -> None:
        """Log no request: each scrape would be a line."""


def _application(collector: Collector) -> _Application:
    failing: set[str] = set()

    def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        body, kind, status = b"", "text/plain; charset=utf-8", "200 OK"
        if environ["REQUEST_METHOD"] not in {"GET", "HEAD"}:
            status, body = "405 Method Not Allowed", b"GET /metrics\n"
        elif environ["PATH_INFO"] not in {"/", "/metrics"}:
            status, body = "404 Not Found", b"The metrics are at /metrics.\n"
        else:
            encode, kind = choose_encoder(environ.get("HTTP_ACCEPT", ""))
            try:
                body = encode(collector)
                failing.clear()
            except DurableQError as error:
                why = describe(error)  # Prometheus asks again by itself
                status, body, kind = "503 Service Unavailable", f"{why}\n".encode(), "text/plain"
                if why not in failing:
                    failing.add(why)
                    log.warning("the metrics cannot be read: %s", why)
        start(status, [("Content-Type", kind), ("Content-Length", str(len(body)))])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    return answer
