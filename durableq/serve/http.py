"""The ASGI application: requests to actions, and their answers and errors back."""

from __future__ import annotations

import asyncio
import logging
import random
import re
import uuid
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final

from durableq.client.app import DurableQ
from durableq.model.errors import PASSING, DurableQError
from durableq.runtime.outage import Outage, logged
from durableq.serve import own, signatures
from durableq.serve.access import Access, account_of, region_of
from durableq.serve.bodies import DISCONNECT, Bodies, Body, Gone, Receive
from durableq.serve.context import Action, Context, Operations, Stopping
from durableq.serve.errors import (
    INTERNAL_FAILURE,
    REQUEST_TIMEOUT,
    REQUEST_TOO_LARGE,
    SERVICE_UNAVAILABLE,
    UNKNOWN_OPERATION,
    ServiceError,
)
from durableq.serve.failures import is_expected, service_error
from durableq.serve.limits import Limits
from durableq.serve.wire import answers
from durableq.serve.wire.answers import Answer
from durableq.serve.wire.requests import Call, Request, Service, decode, service_of, shown

log = logging.getLogger("durableq.serve")

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

#: The action that waits, and whose effect is undone when its client is gone.
RECEIVE: Final = "ReceiveMessage"
_READING: Final = frozenset({"GET", "HEAD"})
#: Draws the ids of requests, which are distinct, and no secrets: random bytes of the system would
#: be a system call for each request, in which the event loop gives way to the thread that commits.
_random: Final = random.Random()
_HOST: Final = re.compile(r"[A-Za-z0-9_.:\[\]-]{1,255}")
_TRACE: Final = re.compile(r"[\x20-\x7e]{1,500}")
#: Errors after which the rest of a body is not read.
_CLOSING: Final = frozenset({REQUEST_TOO_LARGE, REQUEST_TIMEOUT, SERVICE_UNAVAILABLE})


class Application:
    """An ASGI application that answers as SQS, DynamoDB and STS do.

    Args:
        app: the application whose store is served; open.
        operations: the actions of each service, by name.
        access: the rules of access.
        limits: the bounds.
        is_strict: whether the rules of 60 seconds hold.
        names_regions: whether queue URLs name regions that are not the default one.
    """

    def __init__(
        self,
        app: DurableQ,
        operations: Mapping[Service, Operations],
        *,
        access: Access | None = None,
        limits: Limits | None = None,
        is_strict: bool = False,
        names_regions: bool = False,
    ) -> None:
        #: The application whose store is served.
        self.app = app
        self._operations = {**operations, Service.STS: own.STS}
        self._access = access or Access()
        self.limits = limits or Limits()
        self._is_strict = is_strict
        self._names_regions = names_regions
        self._outage = Outage(logged(log))
        self._bodies = Bodies(self.limits)
        self._polls = 0
        self.stopping = Stopping()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return
        request_id = str(uuid.UUID(int=_random.getrandbits(128), version=4))
        request, body = _head(scope), Body(self._bodies)
        try:
            answer = await self._answer(request, body, scope, receive, request_id)
        except Gone:
            return
        except ServiceError as raised:
            answer = answers.error(request.protocol, service_of(request), raised, request_id)
            if raised.kind in _CLOSING:
                answer.headers.append((b"connection", b"close"))
        except Exception:  # no input may end without an answer
            log.exception("A request to %s has failed", shown(request.target or request.path))
            failed = ServiceError(INTERNAL_FAILURE)
            answer = answers.error(request.protocol, service_of(request), failed, request_id)
        finally:
            body.release()
        await _send(send, answer)

    async def _answer(
        self, request: Request, body: Body, scope: Scope, receive: Receive, request_id: str
    ) -> Answer:
        seconds = self.limits.body_seconds
        try:
            content = await self.stopping.unless_set(body.read(receive), seconds)
        except TimeoutError:
            says = f"The body did not come within {seconds:g} seconds."
            raise ServiceError(REQUEST_TIMEOUT, says) from None
        if content is None:
            raise ServiceError(SERVICE_UNAVAILABLE, "The server is stopping.")
        request.body = content
        try:
            return await self._dispatch(request, scope, receive, request_id)
        except DurableQError as error:
            if isinstance(error, PASSING):
                self._outage.report(error)
            elif not is_expected(error):
                log.exception("A request to %s has failed", shown(request.target or request.path))
            raise service_error(error, service_of(request)) from error

    async def _dispatch(
        self, request: Request, scope: Scope, receive: Receive, request_id: str
    ) -> Answer:
        """Return the answer to a request.

        Raises:
            ServiceError: it is refused.
            Gone: the client has hung up.
            DurableQError: of the store.
        """
        is_read = request.method in _READING
        if is_read and request.path == own.HEALTH:  # free, for those that watch processes
            status, found = await own.health(self.app.store)
            return answers.document(status, found, request_id)
        signature = signatures.parse(request)
        self._access.check(request, signature)
        if is_read and request.path == own.PEEK:
            status, found = await own.peek(self.app.store, request)
            return answers.document(status, found, request_id)
        call = decode(request)
        action = self._operations[call.service].get(call.action)
        if action is None:
            raise ServiceError(UNKNOWN_OPERATION, self._unserved(call))
        context = Context(
            self.app,
            account_of(signature),
            region_of(request, signature),
            self._base_url(request, scope),
            request_id,
            self._is_strict,
            self.stopping,
            self._names_regions,
            _trace_of(request),
        )
        if call.service is Service.SQS and call.action == RECEIVE:
            found = await self._polled(action, context, call.parameters, receive)
        else:
            found = await action(context, call.parameters)
        self._outage.end()
        return answers.answer(request.protocol, call.service, call.action, found, request_id)

    def _unserved(self, call: Call) -> str:
        served = ", ".join(sorted(self._operations[call.service]))
        name = {Service.DYNAMODB: "DynamoDB"}.get(call.service, call.service.value.upper())
        says = f"The action {shown(call.action)} is not one of this server's."
        return f"{says} Those of {name} are {served}." if served else says

    def _base_url(self, request: Request, scope: Scope) -> str:
        host = request.headers.get("host", "")
        if not _HOST.fullmatch(host):
            address, port = scope.get("server") or ("localhost", None)
            address = f"[{address}]" if ":" in address else address
            host = address if port is None else f"{address}:{port}"
        return f"{self._access.scheme_of(request, scope.get('scheme', 'http'))}://{host}"

    async def _polled(
        self, action: Action, context: Context, parameters: dict[str, Any], receive: Receive
    ) -> dict[str, Any]:
        """Return the answer of a receive, which is cancelled when its client hangs up.

        Messages that are not answered are released.

        Raises:
            ServiceError: it is refused, or there are too many.
            Gone: the client has hung up.
        """
        if self._polls >= self.limits.polls:
            raise ServiceError(SERVICE_UNAVAILABLE, "There are too many receives that wait.")
        self._polls += 1
        wait = asyncio.timeout(None)
        gone = asyncio.create_task(_hung_up(receive, wait))
        try:
            async with wait:
                found = await action(context, parameters)
            if gone.done():  # too late to be cancelled
                raise Gone
        except BaseException as error:
            for undo in context.undo:
                await undo()
            if isinstance(error, TimeoutError) and gone.done():
                raise Gone from None
            raise
        finally:
            self._polls -= 1
            gone.cancel()
        return found


def _trace_of(request: Request) -> str:
    """Return the header of X-Ray; empty if there is none that can be a text of a message."""
    found = request.headers.get("x-amzn-trace-id", "")
    return found if _TRACE.fullmatch(found) else ""


async def _hung_up(receive: Receive, wait: asyncio.Timeout) -> None:
    """Wait until the client is gone, and end the wait of its request."""
    while (await receive())["type"] != DISCONNECT:
        pass
    wait.reschedule(asyncio.get_running_loop().time())


def _head(scope: Scope) -> Request:
    """Return a request without its body."""
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1").strip()
        headers[key] = f"{headers[key]},{text}" if key in headers else text
    path = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1")
    return Request(scope["method"], path, scope.get("query_string", b""), headers)


async def _send(send: Send, answer: Answer) -> None:
    start = {"type": "http.response.start", "status": answer.status, "headers": answer.headers}
    await send(start)
    await send({"type": "http.response.body", "body": answer.body})
