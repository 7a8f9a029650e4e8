"""`durableq dashboard`: pages in a browser."""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path

from durableq.cli import output
from durableq.cli.help import option
from durableq.cli.options import Session, check_there
from durableq.client.app import DurableQ


def dashboard(
    session: Session,
    host: str = option("--host ADDRESS", "Address to listen at.", "127.0.0.1"),
    port: int = option("--port N", "Port; 0 is any free one.", 8080, min=0, max=65_535),
    token_file: Path | None = option(
        "--token-file FILE", "Let in who has a token of this file: TOKEN or NAME TOKEN lines.", None
    ),
    trust_header: str | None = option(
        "--trust-header NAME", "Header in which a proxy names the person who is logged in.", None
    ),
    allow_host: list[str] | None = option(
        "--allow-host NAME", "Host name to be served under; may be repeated.", None
    ),
    read_only: bool = option("--read-only", "Serve no actions.", False),
) -> None:
    """Serve pages that show and change queues, for a browser.

    It runs until SIGTERM or Ctrl-C. Other machines reach it only with --host, which needs
    --token-file or --trust-header. It needs the extra: pip install 'durableq[dashboard]'.

    Example: durableq dashboard --db shop.db
    """
    if token_file is not None and trust_header is not None:
        raise output.Misuse("--token-file and --trust-header both say who is let in: give one.")
    if not (_is_loopback(host) or token_file or trust_header):
        raise output.Misuse(
            f"At {host} other machines reach the dashboard, and could purge queues. Give "
            "--token-file FILE or --trust-header NAME, or leave --host out."
        )
    from durableq.dashboard import Access, server
    from durableq.dashboard import dashboard as made
    from durableq.dashboard.access import read_tokens

    tokens = {} if token_file is None else read_tokens(token_file)
    names = {host, socket.gethostname(), *(allow_host or ())}
    access = Access(names, tokens, trust_header)
    with DurableQ(session.url) as app:
        check_there(app.url)
        _ = app.store  # refused here, not in the browser
        with server.listen(host, port) as listening:
            url = server.url_of(listening)
            session.show({"url": url, "database": session.address}, url)
            output.say(f"The dashboard of {session.address}. Ctrl-C ends it.")
            server.serve(made(app, access=access, read_only=read_only), listening)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
