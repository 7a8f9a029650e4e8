"""The names in the JSON of commands, from what they print about the example database."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from durableq import DurableQ
from durableq.cli import commands
from durableq.store.core import Capability
from scripts.example_shop import fill

#: Names, and those inside them; a name that ends with [] has a list.
Tree = dict[str, "Tree"]
#: Commands by the heading of their documents, in the order in which they run.
COMMANDS: Final = {
    "status": "status",
    "queue list, create, set, pause": "queue list",
    "queue purge": "queue purge webhooks --yes",
    "peek": "peek --queue payments",
    "show": "show {dead}",
    "explain": "explain {dead}",
    "events": "events",
    "message cancel": "message cancel {ready} --yes",
    "dlq list": "dlq list",
    "dlq show": "dlq show {dead}",
    "dlq groups": "dlq groups",
    "dlq redrive": "dlq redrive {dead}",
    "dlq redrives": "dlq redrives",
    "dlq discard": "dlq discard {other} --yes",
    "breaker show": "breaker show",
    "idempotency list": "idempotency list --queue emails",
    "once list": "once list",
    "doctor, audit": "doctor",
    "prune": "prune",
    "backup": "backup copy.db",
    "init, migrate": "init",
}
#: Names whose value is the user's own JSON.
_OPEN: Final = {"body", "result", "attributes", "value"}


def names() -> Iterator[tuple[str, Tree]]:
    """Yield the names in the documents of each command.

    Raises:
        RuntimeError: a command ended with an error.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / "durableq.db"
        with DurableQ(path) as dq, redirect_stderr(io.StringIO()):
            fill(dq)
            inspect = dq.store.require(Capability.INSPECT)
            dead = [message.id for message in inspect.peek("payments-dlq", limit=2)]
            (ready,) = [message.id for message in inspect.peek("emails", limit=1)]
        ids = {"dead": dead[0], "other": dead[1], "ready": ready}
        for heading, command in COMMANDS.items():
            words = [str(path.with_name(w)) if w.endswith(".db") else w for w in command.split()]
            printed = _printed(*(word.format(**ids) for word in words), "--db", str(path))
            tree: Tree = {}
            for document in _documents(printed):
                _add(tree, document)
            yield heading, tree


def _printed(*words: str) -> str:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = commands.main([*words, "--json"])
    if code:
        raise RuntimeError(f"durableq {' '.join(words)} ended with {code}: {err.getvalue()}")
    return out.getvalue()


def _documents(text: str) -> Iterator[Any]:
    """Yield one document, or those of JSON Lines."""
    decoder, at = json.JSONDecoder(), 0
    while text[at:].strip():
        at += len(text[at:]) - len(text[at:].lstrip())
        document, at = decoder.raw_decode(text, at)
        yield document


def _add(tree: Tree, value: Any) -> None:
    if isinstance(value, list):
        for each in value:
            _add(tree, each)
    elif isinstance(value, dict):
        for name, inner in value.items():
            below = tree.setdefault(f"{name}[]" if isinstance(inner, list) else name, {})
            if name not in _OPEN:
                _add(below, inner)


def page() -> str:
    """Return a section for each command."""
    lines = []
    for heading, tree in names():
        lines += [f"### {heading}", "", _sentence(tree), ""]
    return "\n".join(lines)


def _sentence(tree: Tree) -> str:
    """Return the names, each with those inside it in brackets."""
    parts = (f"`{name}`{f' ({_sentence(below)})' if below else ''}" for name, below in tree.items())
    return ", ".join(parts)
