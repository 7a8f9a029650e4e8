"""The downstream of the spike: an HTTP server that bears so many calls a second, and counts them.

`python -m durableq.demo.spike.downstream FILE CAPACITY MESSAGES SECONDS` serves on a free port of
localhost, and writes the port to FILE. After calls for so many messages it is down for a time.

    POST /calls/ID         200, or 503 above the capacity and while it is down
    GET /figures/PERIOD    the counts from this period on, as JSON
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from http import HTTPStatus
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

#: The length of the periods whose calls are counted.
PERIOD_NS: Final = 100_000_000
SECOND_NS: Final = 1_000_000_000
#: The duration of an answer, refusals included.
ANSWER_SECONDS: Final = 0.005
#: The `Retry-After` of a refusal, in seconds.
RETRY_AFTER_SECONDS: Final = 1
#: The longest wait for an answer.
TIMEOUT_SECONDS: Final = 30.0


@dataclass(slots=True)
class Calls:
    """The calls of a period by their answers."""

    answered: int = 0
    #: Refused because the last second had as many answers as the downstream bears.
    refused: int = 0
    #: Refused because it was down.
    down: int = 0
    #: Calls, answered or not, for a message that was called before.
    repeated: int = 0

    @property
    def all(self) -> int:
        """The number of calls."""
        return self.answered + self.refused + self.down

    def __add__(self, other: Calls) -> Calls:
        """Return the sums of both."""
        return Calls(
            self.answered + other.answered,
            self.refused + other.refused,
            self.down + other.down,
            self.repeated + other.repeated,
        )


@dataclass(slots=True)
class Figures:
    """The counts of a downstream."""

    #: The calls of each period, by the number of the period since the start of the clock.
    periods: dict[int, Calls] = field(default_factory=dict)
    #: The most calls in any second; a second may begin at any call.
    most_in_a_second: int = 0
    #: The beginning and the end of the outage, in nanoseconds of the monotonic clock.
    outage: tuple[int, int] | None = None

    def update(self, later: Figures) -> None:
        """Take over later figures, which may lack the older periods."""
        self.periods.update(later.periods)
        self.most_in_a_second = later.most_in_a_second
        self.outage = later.outage

    def to_json(self, first: int) -> str:
        """Return the figures from period `first` on as JSON."""
        periods = {at: asdict(calls) for at, calls in self.periods.items() if at >= first}
        return json.dumps(
            {
                "periods": periods,
                "most_in_a_second": self.most_in_a_second,
                "outage": self.outage,
            }
        )

    @classmethod
    def from_json(cls, text: bytes) -> Figures:
        """Read figures back."""
        value = json.loads(text)
        return cls(
            {int(at): Calls(**calls) for at, calls in value["periods"].items()},
            value["most_in_a_second"],
            value["outage"] and (value["outage"][0], value["outage"][1]),
        )


class Downstream:
    """Decides about calls and counts them. It reads no clock: times are arguments, ascending.

    Args:
        capacity: the most calls that it answers in a second; it refuses those above.
        outage_after: the number of messages after whose calls it goes down, with the next one's.
        outage_seconds: the time for which it then refuses every call.
    """

    def __init__(self, capacity: int, outage_after: int, outage_seconds: float) -> None:
        self.figures = Figures()
        self._capacity = capacity
        self._outage_after = outage_after
        self._outage_ns = round(outage_seconds * SECOND_NS)
        #: The times of the calls of the last second, and of those that were answered.
        self._called: deque[int] = deque()
        self._answered: deque[int] = deque()
        self._messages: set[str] = set()

    def call(self, message_id: str, now_ns: int) -> bool:
        """Count a call; return whether it is answered."""
        for times in (self._called, self._answered):
            while times and times[0] <= now_ns - SECOND_NS:
                times.popleft()
        self._called.append(now_ns)
        figures = self.figures
        figures.most_in_a_second = max(figures.most_in_a_second, len(self._called))
        calls = figures.periods.setdefault(now_ns // PERIOD_NS, Calls())
        calls.repeated += message_id in self._messages
        self._messages.add(message_id)
        if figures.outage is None and len(self._messages) > self._outage_after:
            figures.outage = (now_ns, now_ns + self._outage_ns)
        if figures.outage is not None and now_ns < figures.outage[1]:
            calls.down += 1
            return False
        if len(self._answered) >= self._capacity:
            calls.refused += 1
            return False
        self._answered.append(now_ns)
        calls.answered += 1
        return True


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, downstream: Downstream) -> None:
        super().__init__(("127.0.0.1", 0), _Exchange)
        self.downstream = downstream
        self.lock = threading.Lock()


class _Exchange(BaseHTTPRequestHandler):
    """A connection, whose requests are answered in order."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_POST(self) -> None:
        _, _, message_id = self.path.split("/")
        with self.server.lock:
            is_answered = self.server.downstream.call(message_id, time.monotonic_ns())
        time.sleep(ANSWER_SECONDS)
        self._answer(HTTPStatus.OK if is_answered else HTTPStatus.SERVICE_UNAVAILABLE)

    def do_GET(self) -> None:
        _, _, first = self.path.split("/")
        with self.server.lock:
            text = self.server.downstream.figures.to_json(int(first))
        self._answer(HTTPStatus.OK, text.encode())

    def _answer(self, status: HTTPStatus, body: bytes = b"") -> None:
        self.send_response(status)
        if status is HTTPStatus.SERVICE_UNAVAILABLE:
            self.send_header("Retry-After", str(RETRY_AFTER_SECONDS))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing: it counts instead."""


class Client:
    """A connection to the downstream, for one thread.

    Args:
        file: the file with its port.
    """

    def __init__(self, file: str | os.PathLike[str]) -> None:
        port = int(Path(file).read_text())
        self._http = HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)

    def call(self, message_id: str) -> float | None:
        """Call it for a message.

        Returns:
            None if the call was answered; otherwise the seconds after which to call again.
        """
        status, retry_after, _ = self._request("POST", f"/calls/{message_id}")
        return None if status == HTTPStatus.OK else float(retry_after)

    def figures(self, first: int = 0) -> Figures:
        """Return its counts from a period on."""
        return Figures.from_json(self._request("GET", f"/figures/{first}")[2])

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def _request(self, method: str, path: str) -> tuple[int, str, bytes]:
        self._http.request(method, path)
        answer = self._http.getresponse()
        return answer.status, answer.getheader("Retry-After", "0"), answer.read()


def main(file: str, capacity: str, outage_after: str, outage_seconds: str) -> None:
    """Serve until a signal ends the process."""
    downstream = Downstream(int(capacity), int(outage_after), float(outage_seconds))
    with _Server(downstream) as server:
        new = Path(f"{file}.new")
        new.write_text(str(server.server_port))
        new.rename(file)  # with its content, or not there
        with suppress(KeyboardInterrupt):
            server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
