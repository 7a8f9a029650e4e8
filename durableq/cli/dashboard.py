"""`durableq dashboard`: pages in a browser."""

from __future__ import annotations

import socket
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from durableq.cli import output
from durableq.cli.help import option
from durableq.cli.options import Session, check_there
from durableq.cli.reach import check_reach
from durableq.client.app import DurableQ
from durableq.client.reader import Reader
from durableq.runtime.logs import LogFormat, configure
from durableq.runtime.systemd import Systemd
from durableq.runtime.tokens import read_tokens

if TYPE_CHECKING:
    from durableq.dashboard import Access


@dataclass(frozen=True)
class Reach:
    """Options that say where it listens, and who is let in."""

    host: str = option("--host ADDRESS", "Address to listen at.", "127.0.0.1")
    port: int = option("--port N", "Port; 0 is any free one.", 8080, min=0, max=65_535)
    token_file: Path | None = option(
        "--token-file FILE", "Let in who has a token of this file: TOKEN or NAME TOKEN lines.", None
    )
    trust_header: str | None = option(
        "--trust-header NAME", "Header in which a proxy names the person who is logged in.", None
    )
    allow_host: list[str] | None = option(
        "--allow-host NAME", "Host name to be served under; may be repeated.", None
    )

    def access(self) -> Access:
        """Return the rules of access.

        Raises:
            Misuse: two options exclude each other, or other machines would be let in.
            InvalidInput: the tokens cannot be read, or a name is none.
        """
        reached = "the dashboard, and could purge queues"
        check_reach(self.host, self.token_file, self.trust_header, reached)
        from durableq.dashboard import Access
        from durableq.dashboard.access import UNNAMED

        tokens = {} if self.token_file is None else read_tokens(self.token_file, UNNAMED)
        names = {self.host, socket.gethostname(), *(self.allow_host or ())}
        return Access(names, tokens, self.trust_header)


def dashboard(
    session: Session,
    reach: Reach,
    read_only: bool = option(
        "--read-only", "Serve no actions, and let the database refuse every write.", False
    ),
    redact: list[str] | None = option(
        "--redact FIELD", "Hide a field of bodies, attributes and results; may be repeated.", None
    ),
    rules: str | None = option(
        "--rules FILE",
        "TOML file of recovery rules, for dry runs.",
        None,
        show_default="the policies of --app",
    ),
    backup_dir: Path | None = option(
        "--backup-dir DIR", "Folder for backups of a file.", None, show_default="the database's"
    ),
) -> None:
    """Serve pages that show and change queues, for a browser.

    It runs until SIGTERM or Ctrl-C. Other machines reach it only with --host, which needs
    --token-file or --trust-header. stderr has a line for each action: when, who, which. It needs
    the extra: pip install 'durableq[dashboard]'.

    Example: durableq dashboard --db shop.db
    """
    access, systemd = reach.access(), Systemd()
    if read_only and backup_dir is not None:
        raise output.Misuse("--read-only makes no backups: drop it, or --backup-dir.")
    from durableq.dashboard import dashboard as made
    from durableq.dashboard import server
    from durableq.runtime.http_server import listen, url_of

    configure(LogFormat.TEXT, "dashboard", sys.stderr)
    policies = session.application()[1].policies if session.app is not None else {}
    given: dict[str, Any] = {"redact": redact or (), "rules": rules or policies}
    given["backup_dir"] = backup_dir
    with DurableQ(session.url) as named, Reader(named) if read_only else named as app:
        check_there(app.url)
        site = made(app, access=access, read_only=read_only, **given)
        _ = app.store  # refused here, not in the browser
        with closing(systemd), listen(reach.host, reach.port, "The dashboard") as listening:
            url = url_of(listening)
            session.show({"url": url, "database": session.address}, url)
            output.say(f"The dashboard of {session.address}. Ctrl-C ends it.")
            server.serve(site, listening, systemd)
