"""Answers, and errors, as bytes in the protocol of their request."""

from __future__ import annotations

import json
import zlib
from typing import Any, Final, NamedTuple

from durableq.serve.errors import NOT_FOUND, ServiceError
from durableq.serve.wire import json_codec, query_codec, query_json
from durableq.serve.wire.actions import ACTIONS
from durableq.serve.wire.requests import Protocol, Service

JSON_TYPE: Final = "application/x-amz-json-1.0"
PLAIN_JSON_TYPE: Final = "application/json"
XML_TYPE: Final = "text/xml"
STS_NAMESPACE: Final = "https://sts.amazonaws.com/doc/2011-06-15/"

#: Headers as ASGI takes them.
Headers = list[tuple[bytes, bytes]]


class Answer(NamedTuple):
    """An HTTP answer."""

    status: int
    headers: Headers
    body: bytes


def answer(
    protocol: Protocol, service: Service, action: str, found: dict[str, Any], request_id: str
) -> Answer:
    """Return the answer of an action.

    Args:
        protocol: of the request.
        service: of the action.
        action: its name.
        found: the answer, in the shape of the JSON protocol.
        request_id: of the request.
    """
    if protocol is Protocol.JSON:
        return _json(200, service, json_codec.dump(found), request_id)
    if service is Service.STS:
        return _xml(200, _sts(action, found, request_id), request_id)
    output = ACTIONS[action].output
    if protocol is Protocol.QUERY_JSON:
        body = query_json.result(action, output, found, request_id)
        return Answer(200, _headers(PLAIN_JSON_TYPE, body, request_id), body)
    return _xml(200, query_codec.result(action, output, found, request_id), request_id)


def error(protocol: Protocol, service: Service, raised: ServiceError, request_id: str) -> Answer:
    """Return the answer for an error.

    Args:
        protocol: of the request.
        service: that it was for.
        raised: the error.
        request_id: of the request.
    """
    kind = raised.kind
    if protocol is Protocol.QUERY or (protocol is Protocol.QUERY_JSON and kind is NOT_FOUND):
        return _xml(kind.status, _xml_error(raised, request_id), request_id)
    if protocol is Protocol.QUERY_JSON:
        body = query_json.error(raised, request_id)
        return Answer(kind.status, _headers(PLAIN_JSON_TYPE, body, request_id), body)
    document = {"__type": kind.json_type, "message": raised.message, **raised.details}
    made = _json(kind.status, service, json_codec.dump(document), request_id)
    if service is Service.SQS:
        code = f"{kind.code};{kind.fault}".encode("ascii")
        made.headers.append((b"x-amzn-query-error", code))
    return made


def _json(status: int, service: Service, body: bytes, request_id: str) -> Answer:
    headers = _headers(JSON_TYPE, body, request_id)
    if service is Service.DYNAMODB:
        headers.append((b"x-amz-crc32", b"%d" % zlib.crc32(body)))
    return Answer(status, headers, body)


def _xml(status: int, body: bytes, request_id: str) -> Answer:
    return Answer(status, _headers(XML_TYPE, body, request_id), body)


def _headers(kind: str, body: bytes, request_id: str) -> Headers:
    return [
        (b"content-type", kind.encode("ascii")),
        (b"content-length", b"%d" % len(body)),
        (b"x-amzn-requestid", request_id.encode("ascii")),
    ]


def _xml_error(raised: ServiceError, request_id: str) -> bytes:
    if raised.kind is NOT_FOUND:
        return b"<UnknownOperationException/>"
    kind, escape = raised.kind, query_codec.escape
    return (
        f'<?xml version="1.0"?><ErrorResponse xmlns="{query_codec.NAMESPACE}">'
        f"<Error><Type>{kind.fault}</Type><Code>{escape(kind.code)}</Code>"
        f"<Message>{escape(raised.query_message)}</Message><Detail/></Error>"
        f"<RequestId>{escape(request_id)}</RequestId></ErrorResponse>"
    ).encode()


def _sts(action: str, found: dict[str, Any], request_id: str) -> bytes:
    escape = query_codec.escape
    members = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in found.items())
    return (
        f'<?xml version="1.0"?><{action}Response xmlns="{STS_NAMESPACE}">'
        f"<{action}Result>{members}</{action}Result><ResponseMetadata>"
        f"<RequestId>{escape(request_id)}</RequestId></ResponseMetadata></{action}Response>"
    ).encode()


def document(status: int, found: dict[str, Any], request_id: str) -> Answer:
    """Return a document of our own as JSON."""
    body = json.dumps(found, default=str).encode("ascii")
    return Answer(status, _headers(PLAIN_JSON_TYPE, body, request_id), body)
