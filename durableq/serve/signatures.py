"""AWS Signature Version 4, of headers and of presigned addresses: parsed, and checked."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, quote

from durableq.serve.errors import (
    INCOMPLETE_SIGNATURE,
    SIGNATURE_DOES_NOT_MATCH,
    UNRECOGNIZED_CLIENT,
    ServiceError,
)
from durableq.serve.wire.requests import Request, shown

ALGORITHM: Final = "AWS4-HMAC-SHA256"
#: The difference between the clocks of client and server that AWS accepts.
MAX_SKEW_SECONDS: Final = 15 * 60
MAX_EXPIRES_SECONDS: Final = 7 * 24 * 3600
_EMPTY: Final = hashlib.sha256(b"").hexdigest()
_FIELD: Final = re.compile(r"(\w+)=([^,]*)")
_TIME: Final = "%Y%m%dT%H%M%SZ"


class Signature(NamedTuple):
    """The signature of a request."""

    #: The access key.
    key: str
    #: Date, region, service and terminator of the credential.
    scope: tuple[str, ...]
    #: Names of the signed headers.
    headers: tuple[str, ...]
    #: The signature in hexadecimal digits.
    value: str
    #: The time of the request, as it was sent.
    at: str
    #: The life of a presigned address; None for a signature in headers.
    expires_seconds: int | None = None

    @property
    def region(self) -> str:
        """The region of the scope; empty if it has none."""
        return self.scope[1] if len(self.scope) > 1 else ""


def parse(request: Request) -> Signature | None:
    """Return the signature of a request; None if it has none.

    Raises:
        ServiceError: there is one that lacks a part.
    """
    header = request.headers.get("authorization", "")
    if header.startswith(ALGORITHM):
        found = _FIELD.findall(header, len(ALGORITHM))
        parts = {name: value.rstrip() for name, value in found}
        at = request.headers.get("x-amz-date", "")
        return _made(
            parts.get("Credential"), parts.get("SignedHeaders"), parts.get("Signature"), at
        )
    if b"X-Amz-Signature=" in request.query:
        fields = dict(parse_qsl(request.query.decode("latin-1"), keep_blank_values=True))
        expires = fields.get("X-Amz-Expires", "")
        is_number = expires.isascii() and expires.isdecimal() and len(expires) < 9
        return _made(
            fields.get("X-Amz-Credential"),
            fields.get("X-Amz-SignedHeaders"),
            fields.get("X-Amz-Signature"),
            fields.get("X-Amz-Date", ""),
            int(expires) if is_number else 0,
        )
    return None


def _made(
    credential: str | None,
    headers: str | None,
    value: str | None,
    at: str,
    expires: int | None = None,
) -> Signature:
    if not (credential and headers and value):
        given = {"Credential": credential, "SignedHeaders": headers, "Signature": value}
        missing = next(name for name, text in given.items() if not text)
        raise ServiceError(
            INCOMPLETE_SIGNATURE, f"Authorization header requires '{missing}' parameter."
        )
    key, *scope = credential.split("/")
    return Signature(key, tuple(scope), tuple(headers.lower().split(";")), value, at, expires)


def check(request: Request, signature: Signature, keys: Mapping[str, str], now: datetime) -> None:
    """Refuse a request whose signature is not that of a known key, or not of this time.

    Args:
        request: the request.
        signature: of it.
        keys: secrets by access keys.
        now: the time, with a zone.

    Raises:
        ServiceError: it is refused.
    """
    secret = keys.get(signature.key)
    if secret is None:
        raise ServiceError(UNRECOGNIZED_CLIENT)
    if len(signature.scope) != 4 or "host" not in signature.headers:
        raise ServiceError(
            INCOMPLETE_SIGNATURE,
            "The credential must have the form KEY/DATE/REGION/SERVICE/aws4_request, and the "
            "signed headers the host.",
        )
    _check_time(signature, now)
    if not hmac.compare_digest(_expected(request, signature, secret), signature.value.encode()):
        raise ServiceError(SIGNATURE_DOES_NOT_MATCH)


def _check_time(signature: Signature, now: datetime) -> None:
    try:
        at = datetime.strptime(signature.at, _TIME).replace(tzinfo=UTC)
    except ValueError:
        raise ServiceError(
            INCOMPLETE_SIGNATURE,
            f"Date must be in ISO-8601 'basic format'. Got {shown(signature.at)!r}.",
        ) from None
    if signature.scope[0] != signature.at[:8]:
        raise ServiceError(
            SIGNATURE_DOES_NOT_MATCH,
            "Date in Credential scope does not match the date of the request.",
        )
    age_seconds = (now - at).total_seconds()
    lasts_seconds = MAX_SKEW_SECONDS
    if signature.expires_seconds is not None:
        lasts_seconds = min(signature.expires_seconds, MAX_EXPIRES_SECONDS)
    if not -MAX_SKEW_SECONDS <= age_seconds <= lasts_seconds:
        raise ServiceError(
            SIGNATURE_DOES_NOT_MATCH,
            f"Signature expired: {signature.at} is not a time of the last {lasts_seconds} seconds.",
        )


def _expected(request: Request, signature: Signature, secret: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in signature.scope:
        key = hmac.digest(key, part.encode("utf-8", "replace"), "sha256")
    canonical = hashlib.sha256(_canonical(request, signature)).hexdigest()
    text = "\n".join([ALGORITHM, signature.at, "/".join(signature.scope), canonical])
    return hmac.digest(key, text.encode("utf-8", "replace"), "sha256").hex().encode()


def _canonical(request: Request, signature: Signature) -> bytes:
    headers = [
        f"{name}:{' '.join(request.headers.get(name, '').split())}" for name in signature.headers
    ]
    lines = [
        request.method,
        quote(_normal(request.path), safe="/~"),
        _canonical_query(request.query),
        *headers,
        "",
        ";".join(signature.headers),
        # A digest that the client states would have to be compared with the body's anyway.
        hashlib.sha256(request.body).hexdigest() if request.body else _EMPTY,
    ]
    return "\n".join(lines).encode("utf-8", "replace")


def _normal(path: str) -> str:
    """Return a path without `.`, `..` and empty parts, as clients sign it."""
    kept: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del kept[-1:]
        elif part not in {"", "."}:
            kept.append(part)
    end = "/" if kept and path.endswith("/") else ""
    return "/" + "/".join(kept) + end


def _canonical_query(query: bytes) -> str:
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, encoding="latin-1")
    encoded = [
        (
            quote(name, safe="-_.~", encoding="latin-1"),
            quote(value, safe="-_.~", encoding="latin-1"),
        )
        for name, value in pairs
        if name != "X-Amz-Signature"
    ]
    return "&".join(f"{name}={value}" for name, value in sorted(encoded))
