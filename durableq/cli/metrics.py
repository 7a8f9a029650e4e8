"""`durableq metrics`: counters and gauges of the database for Prometheus."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from durableq.cli import output
from durableq.cli.help import option
from durableq.cli.options import Session
from durableq.model.errors import DurableQError
from durableq.runtime.logs import LogFormat, configure

if TYPE_CHECKING:
    from durableq.metrics.database import DatabaseMetrics


def metrics(
    session: Session,
    textfile: Path | None = option(
        "--textfile FILE",
        "Write them to FILE at once, for the textfile collector of node_exporter.",
        None,
        show_default="stdout",
    ),
    listen: str | None = option(
        "--listen HOST:PORT", "Serve them over HTTP until stopped.", None, show_default="print once"
    ),
) -> None:
    """Print counters and gauges of the database for Prometheus.

    They are the numbers of `durableq status`, in the text format of Prometheus: the same from any
    process, also after a restart. How long handlers run and messages wait is known to workers
    only: `durableq work --metrics HOST:PORT` serves that. Needs the extra durableq[metrics].

    Example: durableq metrics --textfile /var/lib/node_exporter/durableq.prom
    """
    from durableq.metrics import library

    if textfile is not None and listen is not None:
        raise output.Misuse("--textfile writes once, --listen serves: choose one.")
    if textfile is not None and textfile.suffix != ".prom":
        raise output.Misuse(f"node_exporter reads files that end in .prom, got {textfile}.")
    client = library()
    from durableq.metrics.database import DatabaseMetrics

    with session.opened(is_named=False) as store:
        collector = DatabaseMetrics(store)
        if listen is not None:
            _serve(session, collector, listen)
        elif textfile is not None:
            try:
                client.write_to_textfile(str(textfile), collector)
            except OSError as error:
                text = f"{textfile} cannot be written: {error.strerror}. Check the path."
                raise DurableQError(text) from error
            session.show({"database": session.address, "textfile": str(textfile)})
        elif session.as_json:
            document = [*map(_document, collector.collect())]
            output.document({"database": session.address, "metrics": document})
        else:
            output.verbatim(client.generate_latest(collector).decode())


def _serve(session: Session, collector: DatabaseMetrics, listen: str) -> None:
    from durableq.metrics.serving import MetricsServer, parse_address

    configure(LogFormat.TEXT, "metrics", sys.stderr)
    server = MetricsServer(collector, *parse_address(listen, "--listen"))
    with closing(server):
        if session.as_json:
            output.json_line({"database": session.address, "url": server.url})
        else:
            output.say(f"Metrics of {session.address} are at {server.url}, until Ctrl-C.")
        server.serve()


def _document(family: Any) -> dict[str, Any]:
    samples = [
        {"name": each.name, "labels": each.labels, "value": each.value} for each in family.samples
    ]
    known = {"name": family.name, "type": family.type, "help": family.documentation}
    return known | {"samples": samples}
