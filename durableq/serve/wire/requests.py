"""Requests: their protocol, service, action and parameters."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any, Final
from urllib.parse import unquote

from durableq.serve.errors import MISSING_ACTION, NOT_FOUND, UNKNOWN_OPERATION, ServiceError
from durableq.serve.wire import json_codec, query_codec
from durableq.serve.wire.actions import ACTIONS, NOT_OF_A_QUEUE

#: The services, by the first part of the header X-Amz-Target.
SQS_TARGET: Final = "AmazonSQS"
DYNAMODB_TARGET: Final = "DynamoDB_20120810"
STS_TARGET: Final = "AWSSecurityTokenServiceV20110615"
GET_CALLER_IDENTITY: Final = "GetCallerIdentity"

_JSON: Final = "application/json"
_FORM: Final = "application/x-www-form-urlencoded"
#: The path of a queue, in the three forms of AWS and its emulators.
_QUEUE_PATH: Final = re.compile(
    r"/(?:queue/(?P<region>[a-z0-9-]{1,40})/)?(?P<account>[0-9]{12})/(?P<name>[^/]{1,100})/?"
)


class Protocol(Enum):
    """The form of a request, and of its answer."""

    JSON = "json"
    QUERY = "query"
    #: The Query protocol with answers in JSON.
    QUERY_JSON = "query-json"


class Service(Enum):
    """The service that a request is for."""

    SQS = "sqs"
    DYNAMODB = "dynamodb"
    STS = "sts"


@dataclass(eq=False)
class Request:
    """An HTTP request.

    Args:
        method: as POST.
        path: as it was sent, still encoded.
        query: the query string as it was sent.
        headers: by name in lower case.
        body: all of it; empty until it was read.
    """

    method: str
    path: str
    query: bytes
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def target(self) -> str:
        """The header X-Amz-Target; empty in the Query protocol."""
        return self.headers.get("x-amz-target", "")

    @property
    def protocol(self) -> Protocol:
        """The protocol, which its answer has too. Paths say nothing about it."""
        if "x-amz-target" in self.headers:
            return Protocol.JSON
        accepts_json = _JSON in self.headers.get("accept", "").lower()
        return Protocol.QUERY_JSON if accepts_json else Protocol.QUERY

    @cached_property
    def fields(self) -> dict[str, str]:
        """The fields of the query string, and those of the form before them.

        Raises:
            ServiceError: they cannot be read.
        """
        found = query_codec.parse(self.query)
        kind = self.headers.get("content-type", _FORM).partition(";")[0].strip().lower()
        if self.body and kind in {_FORM, ""}:
            found = {**found, **query_codec.parse(self.body)}
        return found

    @cached_property
    def queue_path(self) -> re.Match[str] | None:
        """The region, account and name of the queue that the path names; None if it names none."""
        return _QUEUE_PATH.fullmatch(unquote(self.path))


@dataclass(frozen=True)
class Call:
    """An action and its parameters, in the shape of the JSON protocol, binary values as bytes."""

    service: Service
    action: str
    parameters: dict[str, Any]


def service_of(request: Request) -> Service:
    """Return the service that a request is for, also of one that no service can read."""
    if request.target.startswith(DYNAMODB_TARGET):
        return Service.DYNAMODB
    return Service.STS if request.target.startswith(STS_TARGET) else Service.SQS


def decode(request: Request) -> Call:
    """Return the action of a request with its parameters.

    Raises:
        ServiceError: there is no such action, or its parameters cannot be read.
    """
    if request.protocol is Protocol.JSON:
        return _decode_json(request)
    return _decode_query(request)


def _decode_json(request: Request) -> Call:
    target, _, name = request.target.partition(".")
    if target == DYNAMODB_TARGET and name:
        return Call(Service.DYNAMODB, name, json_codec.parse(request.body))
    if target == STS_TARGET and name == GET_CALLER_IDENTITY:
        return Call(Service.STS, name, {})
    action = ACTIONS.get(name) if target == SQS_TARGET else None
    if action is None:
        raise ServiceError(UNKNOWN_OPERATION, f"There is no action {shown(request.target)} here.")
    found = json_codec.parameters(action.input, json_codec.parse(request.body))
    _fill(request, found)
    json_codec.require(action.input, found)
    return Call(Service.SQS, name, found)


def _decode_query(request: Request) -> Call:
    fields = request.fields
    name = fields.get("Action", "")
    if not name:
        if request.method in {"GET", "HEAD"} or request.queue_path is not None:
            raise ServiceError(NOT_FOUND, "The request names no action.")
        raise ServiceError(
            MISSING_ACTION,
            "The request must contain the parameter Action, or the header X-Amz-Target.",
        )
    if name == GET_CALLER_IDENTITY:
        return Call(Service.STS, name, {})
    action = ACTIONS.get(name)
    if action is None or (name in NOT_OF_A_QUEUE and request.queue_path is not None):
        raise ServiceError(
            UNKNOWN_OPERATION, f"The action {shown(name)} is not valid for this endpoint."
        )
    found = query_codec.parameters(action.input, fields)
    _fill(request, found)
    if "Entries" in action.input.by_name:
        found.setdefault("Entries", [])  # an empty list leaves no field behind
    json_codec.require(action.input, found)
    return Call(Service.SQS, name, found)


def _fill(request: Request, found: dict[str, Any]) -> None:
    """Let the path name the queue, where the parameters do not."""
    if not found.get("QueueUrl") and request.queue_path is not None:
        found["QueueUrl"] = unquote(request.path)


def shown(text: str) -> str:
    """Return a name of a client's to be repeated in a sentence."""
    return "".join(one if one.isprintable() else "?" for one in text[:80])
