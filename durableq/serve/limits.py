"""The bounds of a server: a client cannot hold others, or fill the memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB


@dataclass(frozen=True)
class Limits:
    """The bounds of a server.

    Args:
        header_bytes: of the first line and the headers of a request.
        body_bytes: of its body. A message of 1 MiB has up to six times as much in JSON.
        dropped_bytes: of a larger body that are read before the refusal, so that a client that
            sends first and reads then gets it.
        all_bodies_bytes: of the bodies of all open requests.
        connections: that are open; further ones are refused.
        polls: receives that are open; further ones are refused.
        idle_seconds: a connection without a request is closed.
        head_seconds: the time to send the first line and the headers.
        body_seconds: the time to send a body.
        write_seconds: the time to read an answer.
        end_seconds: the time for open requests when the server stops.
    """

    header_bytes: int = 64 * KIB
    body_bytes: int = 8 * MIB
    dropped_bytes: int = 64 * MIB
    all_bodies_bytes: int = 256 * MIB
    connections: int = 4096
    polls: int = 2048
    idle_seconds: float = 120
    head_seconds: float = 30
    body_seconds: float = 60
    write_seconds: float = 60
    end_seconds: int = 20
