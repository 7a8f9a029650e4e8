"""Who may use the dashboard: host names, tokens, and the name of the person."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from durableq.model.errors import InvalidInput
from durableq.model.text import visible
from durableq.runtime.tokens import check_header, check_tokens, name_of

#: The actor of an action by a person who is not known by name.
UNNAMED: Final = "dashboard"
#: The longest name of a person in the history.
MAX_ACTOR_CHARS: Final = 80
#: A login lasts so long.
LOGIN_SECONDS: Final = 12 * 3600
_LOCAL: Final = frozenset({"localhost"})
_HOST: Final = re.compile(r"[\w.-]+")


@dataclass(frozen=True)
class Access:
    """The rules of access.

    Args:
        hosts: names in the `Host` header that are served, beside localhost and addresses; None:
            all, for an application that checks them itself.
        tokens: names of persons by their tokens; with one, everybody must log in.
        header: the header in which a proxy names the person; requests without it are refused.

    Raises:
        InvalidInput: a token is too short, or the name of a host or of the header is none.
    """

    hosts: Collection[str] | None = None
    tokens: Mapping[str, str] = field(default_factory=dict)
    header: str | None = None

    def __post_init__(self) -> None:
        check_tokens(self.tokens)
        for host in self.hosts or ():
            if not (_is_address(host) or _HOST.fullmatch(host)):
                raise InvalidInput(f"{visible(host, 60)!r} is no name of a host, without a port.")
        if self.header is not None:
            check_header(self.header)

    def serves(self, host: str) -> bool:
        """Return whether the value of a `Host` header is served.

        A page of another site reaches a server under a name of that site (DNS rebinding). It
        cannot do so under an address, or under localhost.
        """
        if self.hosts is None:
            return True
        name = host_name(host)
        allowed = {each.lower() for each in self.hosts} | _LOCAL
        return name is not None and (name in allowed or _is_address(name))

    def person_of(self, token: str) -> str | None:
        """Return the name of the person with a token; None if there is no such token."""
        return name_of(self.tokens, token)

    def login(self, token: str) -> str:
        """Return the value of the cookie for a person with this token."""
        ends = str(int(time.time()) + LOGIN_SECONDS)
        return f"{ends}.{_signature(token, ends)}"

    def person_logged_in(self, cookie: str) -> str | None:
        """Return the name of the person with this cookie; None if it is not valid now."""
        ends, _, signature = cookie.partition(".")
        if not (ends.isascii() and ends.isdecimal() and len(ends) < 16) or int(ends) < time.time():
            return None
        for token, name in self.tokens.items():
            if hmac.compare_digest(_signature(token, ends).encode(), signature.encode()):
                return name
        return None


def host_name(host: str) -> str | None:
    """Return the name in a `Host` header, without its port, in lower case; None if it has none."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _signature(token: str, ends: str) -> str:
    return hmac.new(token.encode(), f"durableq login {ends}".encode(), hashlib.sha256).hexdigest()
