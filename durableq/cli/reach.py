"""Options of servers: which address may be listened at."""

from __future__ import annotations

from pathlib import Path

from durableq.cli import output
from durableq.runtime.tokens import is_loopback


def check_reach(
    host: str,
    token_file: Path | None,
    trust_header: str | None,
    reached: str,
    *others: Path | None,
) -> None:
    """Refuse to listen where other machines are let in without being asked who they are.

    Args:
        host: the address.
        token_file: of who is let in.
        trust_header: in which a proxy says who is let in.
        reached: what they reach, and could do.
        others: further options that say who is let in.

    Raises:
        Misuse: two options exclude each other, or other machines would be let in.
    """
    if token_file is not None and trust_header is not None:
        raise output.Misuse("--token-file and --trust-header both say who is let in: give one.")
    if not (is_loopback(host) or token_file or trust_header or any(others)):
        raise output.Misuse(
            f"At {host} other machines reach {reached}. Give --token-file FILE or --trust-header "
            "NAME, or leave --host out."
        )
