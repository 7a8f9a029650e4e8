"""Answers of the Query protocol in JSON, for clients that ask for it: `Accept: application/json`.

It is an old form, which API Gateway's integration with SQS shows too: an answer is wrapped as its
XML is, members that are not there are null, and maps are lists of names and values.
"""

from __future__ import annotations

from typing import Any, Final

from durableq.serve.errors import ServiceError
from durableq.serve.wire.actions import VALUE
from durableq.serve.wire.json_codec import dump
from durableq.serve.wire.shapes import List, Map, Structure

#: Members whose names begin with a small letter here.
_SMALL: Final = {"Messages": "messages", "QueueUrls": "queueUrls"}


def result(action: str, structure: Structure, answer: dict[str, Any], request_id: str) -> bytes:
    """Return an answer."""
    content: dict[str, Any] = {}
    if structure.members:
        content[f"{action}Result"] = _shown(structure, answer)
    content["ResponseMetadata"] = {"RequestId": request_id}
    return dump({f"{action}Response": content})


def error(raised: ServiceError, request_id: str) -> bytes:
    """Return an error."""
    kind = raised.kind
    told = {"Code": kind.code, "Message": raised.query_message, "Type": kind.fault}
    return dump({"Error": told, "RequestId": request_id})


def _shown(shape: Any, value: Any) -> Any:
    if value is None:
        return None
    if isinstance(shape, Structure):
        return {
            _SMALL.get(member.name, member.name): _shown(member.shape, value.get(member.name))
            for member in shape.members
        }
    if isinstance(shape, List):
        return [_shown(shape.of, each) for each in value]
    if isinstance(shape, Map):
        return [{shape.key: key, VALUE: _shown(shape.of, each)} for key, each in value.items()]
    return value
