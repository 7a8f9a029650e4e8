"""Clients that hang up during a receive: it ends, and its messages are released."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from durableq import DurableQ
from durableq.model.errors import Busy
from durableq.serve.context import Context
from tests.serve.actions import STORING, Poll, receive
from tests.serve.endpoint import Endpoint, endpoint
from tests.serve.test_http import POLL, RECEIVE
from tests.support import wait_for


def hang_up_during(server: Endpoint, has_begun: Callable[[], object]) -> None:
    """Begin a receive, and close the connection when it has begun."""
    head = b"POST / HTTP/1.1\r\nhost: x\r\nx-amz-target: AmazonSQS.ReceiveMessage\r\n"
    with server.connect() as connection:
        connection.sendall(head + b"content-length: %d\r\n\r\n" % len(POLL) + POLL)
        wait_for(has_begun)


def test_a_receive_ends_when_its_client_hangs_up(dq: DurableQ) -> None:
    poll = Poll()
    with endpoint(dq, {"ReceiveMessage": poll}) as server:
        hang_up_during(server, lambda: poll.started)
        wait_for(lambda: poll.cancelled == 1)
        assert server.ask("/health").status == 200


def test_messages_received_for_a_client_that_is_gone_are_released(dq: DurableQ) -> None:
    orders = dq.queue("orders")
    begun = []

    async def receive_too_late(context: Context, parameters: dict[str, Any]) -> dict[str, Any]:
        begun.append(True)
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return await receive(context, {})  # the client is gone by now

    with endpoint(dq, {"ReceiveMessage": receive_too_late}) as server:
        sent = orders.send("hi")
        hang_up_during(server, lambda: begun)
        wait_for(lambda: not server.server.server_state.tasks)
        (again,) = orders.receive()
        assert (again.id, again.receive_count) == (sent, 1)  # an uncounted release


@pytest.mark.parametrize("fails", [False, True], ids=["hung up", "failed"])
def test_messages_of_a_receive_that_ends_without_an_answer_are_released(
    dq: DurableQ, fails: bool
) -> None:
    orders = dq.queue("orders")
    begun = []

    async def receive_and_stop(context: Context, parameters: dict[str, Any]) -> dict[str, Any]:
        found = await receive(context, {})
        begun.append(found["Messages"])
        if fails:
            raise Busy
        await asyncio.Event().wait()
        return found

    with endpoint(dq, {"ReceiveMessage": receive_and_stop}) as server:
        sent = orders.send("hi")
        if fails:
            assert server.ask("/", POLL, RECEIVE).status == 503
        else:
            hang_up_during(server, lambda: begun)
        wait_for(lambda: not server.server.server_state.tasks)
        assert begun[0]
        (again,) = orders.receive()
        assert (again.id, again.receive_count) == (sent, 1)  # an uncounted release


def test_a_client_that_hangs_up_leaves_no_lease(dq: DurableQ) -> None:
    orders = dq.queue("orders")
    with endpoint(dq, STORING) as server:
        for _ in range(3):
            hang_up_during(server, lambda: server.server.server_state.tasks)
            wait_for(lambda: not server.server.server_state.tasks)
        sent = orders.send("hi")
        found = json.loads(server.ask("/", POLL, RECEIVE).body)
        assert [each["MessageId"] for each in found["Messages"]] == [sent]
