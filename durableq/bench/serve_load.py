"""Many connections to `durableq serve` at once, without the cost of an SDK."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

import psutil

from durableq.bench.serve_process import HOST, SECONDS, Served, request
from durableq.model.errors import DurableQError

_END: Final = b"\r\n\r\n"
#: Until all polls wait.
_SETTLE_SECONDS: Final = 2.0


def requests_per_second(
    url: str, action: str, parameters: dict[str, Any], connections: int, count: int
) -> float:
    """Send the same request over several connections; return how many were answered in a second.

    Args:
        url: of the server.
        action: of SQS.
        parameters: of the action.
        connections: each has one request under way.
        count: requests altogether.

    Raises:
        DurableQError: an answer is an error.
    """
    port = int(url.rpartition(":")[2])
    sent = request(action, parameters)
    return asyncio.run(_requests_per_second(port, sent, connections, count))


async def _requests_per_second(port: int, sent: bytes, connections: int, count: int) -> float:
    streams = [await asyncio.open_connection(HOST, port) for _ in range(connections)]
    left = iter(range(count))

    async def work(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in left:
            writer.write(sent)
            await _answer(reader)

    began = time.perf_counter()
    async with asyncio.timeout(SECONDS + count / 50), asyncio.TaskGroup() as group:
        for reader, writer in streams:
            group.create_task(work(reader, writer))
    seconds = time.perf_counter() - began
    for _, writer in streams:
        writer.close()
    return count / seconds


async def _answer(reader: asyncio.StreamReader) -> bytes:
    head = (await reader.readuntil(_END)).lower()
    length = int(head.partition(b"content-length:")[2].split(b"\r", 1)[0])
    body = await reader.readexactly(length)
    if not head.startswith(b"http/1.1 200"):
        raise DurableQError(f"An answer is {head.decode()}{body.decode()}")
    return body


def cpu_of_polls(served: Served, parameters: dict[str, Any], polls: int, seconds: float) -> float:
    """Return the share of a core that a server uses while receives wait at it.

    Args:
        served: the server.
        parameters: of ReceiveMessage; they wait longer than is measured.
        polls: their number.
        seconds: the time that is measured.
    """
    port = int(served.url.rpartition(":")[2])
    sent = request("ReceiveMessage", parameters)
    return asyncio.run(_cpu_of_polls(psutil.Process(served.pid), port, sent, polls, seconds))


async def _cpu_of_polls(
    process: psutil.Process, port: int, sent: bytes, polls: int, seconds: float
) -> float:
    streams = [await asyncio.open_connection(HOST, port) for _ in range(polls)]
    for _, writer in streams:
        writer.write(sent)
    await asyncio.sleep(_SETTLE_SECONDS)
    before, began = cpu_seconds(process), time.perf_counter()
    await asyncio.sleep(seconds)
    used, ended = cpu_seconds(process) - before, time.perf_counter()
    for _, writer in streams:
        writer.close()
    return used / (ended - began)


def cpu_seconds(process: psutil.Process) -> float:
    """Return the processor time that a process has used, its user's and the system's."""
    times = process.cpu_times()
    return float(times.user + times.system)
