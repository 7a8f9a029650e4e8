"""Actions for tests of HTTP: each answers with the least that its answer must have."""

import asyncio
from typing import Any

from durableq.serve.context import Action, Context
from durableq.serve.wire.actions import ACTIONS
from durableq.serve.wire.shapes import List, Map, Scalar, Structure

_SCALARS: dict[Scalar, Any] = {
    Scalar.STRING: "text",
    Scalar.INTEGER: 7,
    Scalar.LONG: 7,
    Scalar.BOOLEAN: True,
    Scalar.BLOB: b"\0",
}


def least(shape: Any) -> Any:
    """Return a value of a shape: required members only."""
    if isinstance(shape, Structure):
        return {member.name: least(member.shape) for member in shape.required}
    if isinstance(shape, List):
        return []
    return {} if isinstance(shape, Map) else _SCALARS[shape]


class Recorder:
    """Actions that note their calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Context, dict[str, Any]]] = []
        self.operations: dict[str, Action] = {name: self._action(name) for name in ACTIONS}

    def _action(self, name: str) -> Action:
        async def act(context: Context, parameters: dict[str, Any]) -> dict[str, Any]:
            self.calls.append((name, context, parameters))
            found: dict[str, Any] = least(ACTIONS[name].output)
            return found

        return act

    @property
    def last(self) -> tuple[str, Context, dict[str, Any]]:
        return self.calls[-1]


class Poll:
    """A receive that waits until the server stops, and notes its end."""

    def __init__(self) -> None:
        self.started = self.ended = self.cancelled = 0

    async def __call__(self, context: Context, parameters: dict[str, Any]) -> dict[str, Any]:
        self.started += 1
        try:
            await context.stopping.unless_set(asyncio.Event().wait())
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        self.ended += 1
        return {}


async def send(context: Context, parameters: dict[str, Any]) -> dict[str, Any]:
    """Send a message to the queue `orders`, as a coroutine of a Python sender."""
    return {"MessageId": await context.app.queue("orders").asend(parameters["MessageBody"])}


async def receive(context: Context, parameters: dict[str, Any]) -> dict[str, Any]:
    """Receive from the queue `orders`, and wait for messages."""
    orders = context.app.queue("orders")
    seconds = parameters.get("WaitTimeSeconds", 0)
    found = await context.stopping.unless_set(orders.areceive(10, wait=seconds))
    for each in found or ():
        context.undo.append(each.arelease)
    return {"Messages": [{"MessageId": each.id, "Body": str(each.body)} for each in found or ()]}


#: Actions on a real store.
STORING: dict[str, Action] = {"SendMessage": send, "ReceiveMessage": receive}
