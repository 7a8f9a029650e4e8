"""`durableq serve`: the queues for clients of SQS, and items for clients of DynamoDB."""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from durableq.cli import output
from durableq.cli.help import option
from durableq.cli.options import Session
from durableq.cli.reach import check_reach
from durableq.client.app import DurableQ
from durableq.runtime.logs import LogFormat, configure
from durableq.runtime.systemd import Systemd
from durableq.runtime.tokens import read_tokens

if TYPE_CHECKING:
    from durableq.serve.access import Access


@dataclass(frozen=True)
class Endpoint:
    """Options that say where it listens, and who is let in."""

    host: str = option("--host ADDRESS", "Address to listen at.", "127.0.0.1")
    port: int = option("--port N", "Port; 0 is any free one.", 4566, min=0, max=65_535)
    token_file: Path | None = option(
        "--token-file FILE", "Let in who has a token of this file: TOKEN or NAME TOKEN lines.", None
    )
    trust_header: str | None = option(
        "--trust-header NAME", "Header in which a proxy names the client that it let in.", None
    )
    keys_file: Path | None = option(
        "--keys-file FILE", "Check signatures with the keys of this file: KEY SECRET lines.", None
    )

    def access(self) -> Access:
        """Return the rules of access.

        Raises:
            Misuse: two options exclude each other, or other machines would be let in.
            InvalidInput: a file cannot be read, or a name is none.
        """
        reached = "the queues, and could read and purge them"
        check_reach(self.host, self.token_file, self.trust_header, reached, self.keys_file)
        from durableq.serve.access import UNNAMED, Access, read_keys

        tokens = {} if self.token_file is None else read_tokens(self.token_file, UNNAMED)
        keys = {} if self.keys_file is None else read_keys(self.keys_file)
        return Access(tokens, self.trust_header, keys)


def serve(
    session: Session,
    endpoint: Endpoint,
    strict: bool = option(
        "--strict", "Refuse, as AWS, what comes within 60 s of a purge or a deletion.", False
    ),
    region_urls: bool = option(
        "--region-urls", "Name regions in queue URLs: /queue/REGION/ACCOUNT/NAME.", False
    ),
) -> None:
    """Serve the queues to clients of Amazon SQS, over HTTP.

    An answer 200 means that the message is on the disk. The database is created if it is missing.
    It runs until SIGTERM or Ctrl-C: receives that wait are answered then, and open requests are
    committed. Other machines reach it only with --host, which needs --token-file, --trust-header or
    --keys-file. Clients send a token as AWS_SESSION_TOKEN. It needs the extra: pip install
    'durableq[serve]'.

    Example: durableq serve --db shop.db
    """
    access, systemd = endpoint.access(), Systemd()
    from durableq.serve import server

    configure(LogFormat.TEXT, "serve", sys.stderr)
    from durableq.runtime.http_server import listen, url_of  # it is there: the server uses it

    with DurableQ(session.url) as app:
        _ = app.store  # refused here, not at the first request
        listening = listen(endpoint.host, endpoint.port, "The endpoint", server.BACKLOG)
        with closing(systemd), listening:
            url = url_of(listening).rstrip("/")
            session.show({"url": url, "database": session.address}, url)
            output.say(f"The SQS endpoint of {session.address}. Ctrl-C ends it.")
            for variable in server.VARIABLES:
                output.say(f"export {variable}={url}")
            server.serve(
                app,
                listening,
                access=access,
                is_strict=strict,
                names_regions=region_urls,
                systemd=systemd,
            )
