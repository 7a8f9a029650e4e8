"""Access to the endpoint: tokens, the header of a proxy, and keys whose signatures are checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from durableq.model.errors import InvalidInput
from durableq.runtime.tokens import check_header, check_tokens, lines_of, name_of
from durableq.serve import signatures
from durableq.serve.context import DEFAULT_ACCOUNT, DEFAULT_REGION, region_of_host
from durableq.serve.errors import ACCESS_DENIED, MISSING_AUTHENTICATION_TOKEN, ServiceError
from durableq.serve.signatures import Signature
from durableq.serve.wire.requests import Request

#: The name of who has a token without a name.
UNNAMED: Final = "serve"
_ACCOUNT_DIGITS: Final = 12
_MAX_REGION_CHARS: Final = 40


@dataclass(frozen=True)
class Access:
    """The rules of access. All that are given must be met.

    Args:
        tokens: names by tokens. A client sends one as the session token of its credentials
            (AWS_SESSION_TOKEN), or as `Authorization: Bearer TOKEN`.
        header: the header in which a proxy names who is logged in; requests without it are refused.
            Then X-Forwarded-Proto is believed too.
        keys: secrets by access keys; with one, the signature of each request is checked.

    Raises:
        InvalidInput: a token is too short, or the name of the header is none.
    """

    tokens: Mapping[str, str] = field(default_factory=dict)
    header: str | None = None
    keys: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_tokens(self.tokens)
        if self.header is not None:
            check_header(self.header)

    def check(self, request: Request, signature: Signature | None) -> None:
        """Refuse a request that is not let in.

        Raises:
            ServiceError: it is not.
        """
        refuse_pages(request)
        if signature is None and not (self.header or self.tokens or self.keys):
            refuse_foreign_hosts(request)
        if self.header is not None and not request.headers.get(self.header.lower(), "").strip():
            raise ServiceError(
                ACCESS_DENIED,
                f"The header {self.header}, which names the client, is missing. Reach this server "
                "through the proxy that sets it.",
            )
        if self.tokens:
            self._check_token(request)
        if self.keys:
            if signature is None:
                raise ServiceError(
                    MISSING_AUTHENTICATION_TOKEN, "Request is missing Authentication Token"
                )
            signatures.check(request, signature, self.keys, datetime.now(UTC))

    def _check_token(self, request: Request) -> None:
        given = _token_of(request)
        if not given:
            raise ServiceError(
                MISSING_AUTHENTICATION_TOKEN,
                "This server needs a token: set AWS_SESSION_TOKEN, or send Authorization: Bearer "
                "TOKEN.",
            )
        if name_of(self.tokens, given) is None:
            raise ServiceError(ACCESS_DENIED, "There is no such token.")

    def scheme_of(self, request: Request, scheme: str) -> str:
        """Return http or https, as the client calls this server."""
        said = request.headers.get("x-forwarded-proto", "").partition(",")[0].strip().lower()
        return said if self.header is not None and said in {"http", "https"} else scheme


def refuse_pages(request: Request) -> None:
    """Refuse a request that a page in a browser makes, of any site: it needs no key to send one.

    Raises:
        ServiceError: it is one.
    """
    if "origin" in request.headers or request.headers.get("sec-fetch-site", "none") != "none":
        raise ServiceError(ACCESS_DENIED, "Pages in a browser may not use this server.")


def refuse_foreign_hosts(request: Request) -> None:
    """Refuse a GET without a signature that names this server by a name of the public Internet.

    A page may have given this machine's address to such a name; a browser then tells of no origin.

    Raises:
        ServiceError: it is one.
    """
    name = request.headers.get("host", "").rpartition(":")[0] or request.headers.get("host", "")
    is_public = (
        "." in name.strip("[]") and not name.endswith(".localhost") and not _is_address(name)
    )
    if request.method == "GET" and is_public:
        raise ServiceError(
            ACCESS_DENIED,
            f"A GET without a signature does not reach this server as {name}. Sign the request, or "
            "use localhost or an address.",
        )


def _is_address(name: str) -> bool:
    try:
        ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _token_of(request: Request) -> str:
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return token.strip()
    said = request.headers.get("x-amz-security-token")
    if said is None and b"X-Amz-Security-Token=" in request.query:
        said = request.fields.get("X-Amz-Security-Token")
    return said or ""


def read_keys(path: Path) -> dict[str, str]:
    """Read a file of keys: in each line an access key and its secret.

    Returns:
        Secrets by access keys.

    Raises:
        InvalidInput: it cannot be read, a line has another form, or there is none.
    """
    found = {}
    for number, line in enumerate(lines_of(path, "keys"), 1):
        words = line.split()
        if len(words) != 2:
            raise InvalidInput(
                f"Key {number} of the keys file {path} is not two words: write the access key and "
                "its secret in a line."
            )
        found[words[0]] = words[1]
    if not found:
        raise InvalidInput(
            f"The keys file {path} has no key: write an access key and its secret in a line."
        )
    return found


def account_of(signature: Signature | None) -> str:
    """Return the account of a request: an access key of 12 digits, or the default."""
    key = "" if signature is None else signature.key
    is_account = len(key) == _ACCOUNT_DIGITS and key.isascii() and key.isdecimal()
    return key if is_account else DEFAULT_ACCOUNT


def region_of(request: Request, signature: Signature | None) -> str:
    """Return the region of a request: of its path, its host, its signature, or the default."""
    path, host = request.queue_path, request.headers.get("host", "")
    if path is not None and path["region"]:
        return path["region"]
    said = "" if signature is None else signature.region
    return _checked(region_of_host(host.partition(":")[0]) or said)


def _checked(region: str) -> str:
    is_name = region.isascii() and region.replace("-", "").isalnum()
    return region if is_name and len(region) <= _MAX_REGION_CHARS else DEFAULT_REGION
