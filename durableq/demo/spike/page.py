"""The page about one or two runs: their plots and figures in one HTML file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Final

from durableq import __version__
from durableq.demo.spike.drawing import WIDTH, drawing
from durableq.demo.spike.figures import figures
from durableq.demo.spike.recording import Recording

FILE: Final = "durableq-spike.html"
_STYLE: Final = f"""
:root {{ color-scheme: light dark; --paper: #ffffff; --text: #1f2328; --line: #d0d7de }}
@media (prefers-color-scheme: dark) {{
  :root {{ --paper: #0d1117; --text: #e6edf3; --line: #30363d }}
}}
body {{ margin: 0 auto; padding: 1rem; max-width: {WIDTH}px;
  font: 15px/1.5 sans-serif; background: var(--paper); color: var(--text) }}
h1 {{ font-size: 1.4rem; margin: 1rem 16px }}
p, table {{ margin: 1rem 16px }}
svg {{ max-width: 100%; height: auto }}
table {{ border-collapse: collapse }}
th, td {{ padding: .2rem .8rem; border-bottom: 1px solid var(--line); text-align: right;
  font-variant-numeric: tabular-nums }}
th:first-child, td:first-child {{ padding-left: 0; text-align: left; white-space: pre }}
"""


def page(recordings: Sequence[Recording]) -> str:
    """Return the page as text. It loads nothing from elsewhere."""
    return "\n".join(_lines(recordings))


def _lines(recordings: Sequence[Recording]) -> Iterator[str]:
    yield '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>durableq demo --spike</title>\n<style>{_STYLE}</style>\n</head>\n<body>"
    yield "<h1>durableq demo --spike</h1>"
    for paragraph in _paragraphs(recordings[0]):
        yield f"<p>{escape(paragraph)}</p>"
    yield drawing(recordings)
    yield from _table(recordings)
    yield f"<p>durableq {__version__}. The figures of calls are the downstream's own.</p>"
    yield "</body>\n</html>\n"


def _paragraphs(recording: Recording) -> Iterator[str]:
    load = recording.load
    yield (
        f"A producer sends {load.messages:,} messages at once to a queue in {load.place}. "
        f"{load.procs} worker processes receive them; their handler calls a downstream, a process "
        f"of its own that answers {load.capacity} calls in any second and refuses those above. "
        f"After calls for half of the messages it refuses everything for "
        f"{load.outage_seconds:g} s. All runs have the same handler and the same processes; "
        "the settings of the queue are the difference."
    )


def _table(recordings: Sequence[Recording]) -> Iterator[str]:
    names = "".join(f"<th>{escape(one.load.name)}</th>" for one in recordings)
    yield f"<table>\n<tr><th></th>{names}</tr>"
    for row in zip(*map(figures, recordings), strict=True):
        values = "".join(f"<td>{figure.value:,}</td>" for figure in row)
        yield f"<tr><td>{escape(row[0].name)}</td>{values}</tr>"
    yield "</table>"
