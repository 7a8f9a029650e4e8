"""The circumstances of a request, for the action that answers it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from durableq.client.app import DurableQ
from durableq.store.core import Store

T = TypeVar("T")

DEFAULT_ACCOUNT: Final = "000000000000"
DEFAULT_REGION: Final = "us-east-1"
_REGION: Final = re.compile("[a-z]{2,5}(-[a-z]+){1,3}-[0-9]{1,2}", re.ASCII)


def region_of_host(host: str) -> str | None:
    """Return the region in the name of a host, as in sqs.eu-west-1.example.org; None: it has none.

    Only names like those of AWS's regions are: a host of Kubernetes is sqs.NAMESPACE.svc.
    """
    match host.split("."):
        case ["sqs", region, *_] | [region, "queue", *_]:
            return region if _REGION.fullmatch(region) else None
    return None


class Stopping:
    """The end of the server: whether it has begun, and waits that it ends. Of one event loop."""

    def __init__(self) -> None:
        self._is_set = False
        self._waits: set[asyncio.Timeout] = set()

    @property
    def is_set(self) -> bool:
        """Whether the server is stopping: a wait for messages is answered at once."""
        return self._is_set

    def set(self) -> None:
        """End all waits."""
        self._is_set = True
        for wait in self._waits:
            wait.reschedule(asyncio.get_running_loop().time())

    async def unless_set(
        self, waiting: Coroutine[Any, Any, T], seconds: float | None = None
    ) -> T | None:
        """Return the result of a coroutine that waits; None if the server stops before its end.

        It runs in the task of its caller, and is cancelled there: calls of
        `durableq.client.coroutines` release the messages that they have leased.

        Args:
            waiting: such as a receive with a time to wait. It raises no TimeoutError.
            seconds: the longest wait; None: no limit.

        Raises:
            TimeoutError: it took longer.
        """
        try:
            async with asyncio.timeout(0 if self._is_set else seconds) as wait:
                self._waits.add(wait)
                try:
                    return await waiting
                finally:
                    self._waits.discard(wait)
        except TimeoutError:
            if self._is_set:
                return None
            raise


@dataclass(frozen=True, slots=True)
class Context:
    """The circumstances of a request.

    The coroutine of an action is cancelled when its client hangs up. Messages that it has leased
    are released then, which the calls of `durableq.client.coroutines` do by themselves.

    Args:
        app: the open application.
        account: the 12 digits of the account: of the path, the access key, or the default one.
        region: of the signature, or the default one.
        base_url: the server as its client calls it, such as http://localhost:4566, without a slash
            at the end.
        request_id: of this request.
        is_strict: whether the rules of 60 seconds hold, after a purge and the deletion of a queue.
        stopping: set when the server stops.
        names_regions: whether a queue URL names its region, if that is not the default one.
        trace_header: of the trace that the request is part of; empty without one.
        undo: calls that take back the effect of the action; the action adds them, and they are
            made if its answer is not sent, because the client is gone or the action fails after
            all. A receive adds the release of its messages.
    """

    app: DurableQ
    account: str = DEFAULT_ACCOUNT
    region: str = DEFAULT_REGION
    base_url: str = "http://localhost:4566"
    request_id: str = ""
    is_strict: bool = False
    stopping: Stopping = field(default_factory=Stopping)
    names_regions: bool = False
    trace_header: str = ""
    undo: list[Callable[[], Awaitable[object]]] = field(default_factory=list)

    @property
    def store(self) -> Store:
        """The engine, which is open."""
        return self.app.opened or self.app.store


#: An action: it takes and returns a dictionary in the shape of the JSON protocol, binary values as
#: bytes, and raises ServiceError.
Action = Callable[[Context, dict[str, Any]], Awaitable[dict[str, Any]]]
Operations = Mapping[str, Action]
