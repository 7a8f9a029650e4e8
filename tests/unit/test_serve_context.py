"""The end of a server, and the waits that it ends."""

import asyncio

import pytest

from durableq.serve.context import Stopping

BOUND_SECONDS = 60.0


def test_a_wait_ends_with_the_server() -> None:
    cancelled = []

    async def forever() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise
        return "never"

    async def run() -> tuple[str | None, str | None]:
        stopping = Stopping()
        asyncio.get_running_loop().call_soon(stopping.set)
        first = await stopping.unless_set(forever())
        return first, await stopping.unless_set(forever())

    assert asyncio.run(asyncio.wait_for(run(), BOUND_SECONDS)) == (None, None)
    assert cancelled == [True, True]


def test_a_wait_gives_its_result_and_its_error() -> None:
    async def answers() -> str:
        return "messages"

    async def fails() -> str:
        raise ValueError("broken")

    async def run() -> None:
        stopping = Stopping()
        assert await stopping.unless_set(answers()) == "messages"
        with pytest.raises(ValueError, match="broken"):
            await stopping.unless_set(fails())
        assert not stopping.is_set

    asyncio.run(asyncio.wait_for(run(), BOUND_SECONDS))


def test_the_cancellation_of_the_caller_is_no_end_of_the_server() -> None:
    async def run() -> None:
        task = asyncio.ensure_future(Stopping().unless_set(asyncio.Event().wait()))
        asyncio.get_running_loop().call_soon(task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(asyncio.wait_for(run(), BOUND_SECONDS))
