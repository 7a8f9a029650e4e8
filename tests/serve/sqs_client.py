"""A client of the actions of SQS without HTTP, on a store of its own."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest

from durableq import DurableQ
from durableq.runtime.clock import Clock
from durableq.serve.context import Context
from durableq.serve.errors import ServiceError
from durableq.serve.sqs import OPERATIONS
from durableq.serve.sqs.polling import polls_of

T = TypeVar("T")
#: The mark of tests that run on PostgreSQL, too.
ON_BOTH = pytest.mark.parametrize("sqs", ["sqlite", "postgres"], indirect=True)
#: Longest time of an action in a test.
BOUND_SECONDS = 120.0


class Sqs:
    """Calls actions, one after another, or several at once in `run`."""

    def __init__(self, app: DurableQ, runner: asyncio.Runner, context: Context) -> None:
        self.app = app
        self.context = context
        self._runner = runner

    def run(self, action: Callable[[], Awaitable[T]]) -> T:
        """Run a coroutine in the event loop of the client."""

        async def bounded() -> T:
            async with asyncio.timeout(BOUND_SECONDS):
                return await action()

        return self._runner.run(bounded())

    async def ask(self, action: str, url: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Call an action, of a queue or of none."""
        named = {} if url is None else {"QueueUrl": url}
        return await OPERATIONS[action](self.context, named | parameters)

    def __call__(self, action: str, url: str | None = None, **parameters: Any) -> dict[str, Any]:
        return self.run(lambda: self.ask(action, url, **parameters))

    def refusal(self, action: str, url: str | None = None, **parameters: Any) -> str:
        """Return the code and the sentence of the error of an action."""
        with pytest.raises(ServiceError) as raised:
            self(action, url, **parameters)
        return str(raised.value)

    def queue(self, name: str = "q", **attributes: str) -> str:
        """Create a queue, and return its URL."""
        if name.endswith(".fifo"):
            attributes = {"FifoQueue": "true", **attributes}
        url: str = self("CreateQueue", QueueName=name, Attributes=attributes)["QueueUrl"]
        return url

    def send(self, url: str, body: str = "hello", **parameters: Any) -> dict[str, Any]:
        """Send a message."""
        return self("SendMessage", url, MessageBody=body, **parameters)

    def receive(self, url: str, limit: int = 1, **parameters: Any) -> list[dict[str, Any]]:
        """Receive messages."""
        answered = self("ReceiveMessage", url, MaxNumberOfMessages=limit, **parameters)
        assert answered.get("Messages") != [], "An answer without messages leaves them out."
        messages: list[dict[str, Any]] = answered.get("Messages", [])
        return messages

    def bodies(self, url: str, limit: int = 10, **parameters: Any) -> list[str]:
        """Receive messages, and return their bodies."""
        return [message["Body"] for message in self.receive(url, limit, **parameters)]

    def delete(self, url: str, message: dict[str, Any]) -> None:
        """Delete a received message."""
        answered = self("DeleteMessage", url, ReceiptHandle=message["ReceiptHandle"])
        assert answered == {}

    def attributes(self, url: str, *names: str) -> dict[str, str]:
        """Return attributes of a queue, by default all."""
        asked = list(names) or ["All"]
        found: dict[str, str] = self("GetQueueAttributes", url, AttributeNames=asked)["Attributes"]
        return found

    def counts(self, url: str) -> tuple[int, int, int]:
        """Return the visible, the invisible and the delayed messages of a queue."""
        found = self.attributes(url)
        prefix = "ApproximateNumberOfMessages"
        names = (prefix, f"{prefix}NotVisible", f"{prefix}Delayed")
        visible, invisible, delayed = (int(found[name]) for name in names)
        return visible, invisible, delayed


@contextmanager
def client_of(url: str, clock: Clock | None = None, **circumstances: Any) -> Iterator[Sqs]:
    """Open a store for a client, and close it at the end.

    Args:
        url: of the store.
        clock: the time; None: the system's.
        circumstances: members of the context.
    """
    app = DurableQ(url, clock=clock)
    _ = app.store
    with asyncio.Runner() as runner:
        try:
            yield Sqs(app, runner, Context(app, **circumstances))
        finally:
            runner.run(_close(app))


async def _close(app: DurableQ) -> None:
    await polls_of(app.store).close()
    await app.aclose()
