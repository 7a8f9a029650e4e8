"""Shared options, and the lookup of the database and the application that they name."""

from __future__ import annotations

import logging
import os
import threading
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import typer

from durableq.cli import output
from durableq.cli.help import GENERAL, option
from durableq.client.app import DurableQ, file_named
from durableq.client.handlers import load
from durableq.model.errors import AppError, NotFound, UnknownQueue, Unsupported
from durableq.model.queues import DEAD_LETTER_SUFFIX
from durableq.model.text import visible
from durableq.runtime.logs import LogFormat
from durableq.runtime.outage import wait_out
from durableq.store.core import Capability, Store

T = TypeVar("T")
log = logging.getLogger("durableq.cli")
DEMO_APP: Final = "durableq.demo.app:dq"
#: Shared by `produce` and `demo`: a second run sends the same orders, all of them duplicates.
DEMO_SEED: Final = 1
#: An import that takes longer is logged.
SLOW_SECONDS: Final = 5.0
MAX_PROCS: Final = 256
APP_VARIABLE: Final = "DURABLEQ_APP"
PROJECT_FILE: Final = "pyproject.toml"


def given(value: Any) -> Any:
    """Refuse an empty text, as an unset shell variable gives: it does not mean "no option"."""
    if value == "":
        raise typer.BadParameter("it is empty")
    return value


def _inherited(ctx: typer.Context, param: typer.CallbackParam, value: Any) -> Any:
    """Take an option given before the subcommand, unless it is given after it too."""
    if given(value) or ctx.parent is None or param.name is None:
        return value
    return ctx.parent.params.get(param.name)


Db = Annotated[
    str | None,
    option(
        "--db",
        placeholder="FILE",
        section=GENERAL,
        callback=_inherited,
        show_default="$DURABLEQ_DB, or durableq.db",
        help="Database: a path or an sqlite:/// URL.",
    ),
]
OwnDb = Annotated[
    str | None,
    option(
        "--db",
        placeholder="FILE",
        section=GENERAL,
        callback=_inherited,
        show_default="a temporary file",
        help="Database: a path or an sqlite:/// URL.",
    ),
]
Json = Annotated[bool, option("--json", section=GENERAL, callback=_inherited, help="Print JSON.")]
App = Annotated[
    str | None,
    option(
        placeholder="MODULE:ATTRIBUTE",
        callback=given,
        show_default="$DURABLEQ_APP, tool.durableq.app in pyproject.toml, or the demo",
        help="Application that defines the handlers and policies.",
    ),
]
Queue = Annotated[
    str | None,
    option(
        placeholder="QUEUE",
        callback=given,
        show_default="the only queue",
        help="Name of the queue.",
    ),
]
Queues = Annotated[
    list[str] | None,
    option(
        "--queue",
        placeholder="QUEUE",
        show_default="every queue of the application",
        help="Only this queue; may be repeated.",
    ),
]
Procs = Annotated[
    int, option(placeholder="N", min=1, max=MAX_PROCS, help="Number of worker processes.")
]
Logs = Annotated[
    LogFormat,
    option("--log-format", placeholder="FORMAT", help="Format of log lines: text or json."),
]
Limit = Annotated[int, option(placeholder="N", min=1, max=10_000, help="Maximum number of rows.")]
Yes = Annotated[bool, option("--yes", "-y", help="Do not ask for confirmation.")]


@contextmanager
def opened(db: str | None, *, create: bool = False) -> Iterator[Store]:
    """Open the database, and close it at the end.

    Raises:
        NotFound: there is none, and `create` is false.
        Unsupported: it is a database in memory, which ends with this process.
    """
    with DurableQ(db) as app:
        check_lasting(app.url)
        if not create:
            check_there(app.url)
        store = app.store
        try:
            yield store
        except UnknownQueue as error:
            names = ", ".join(info.name for info in store.require(Capability.INSPECT).queues())
            error.add_note(f"There are: {names}." if names else "There is none yet.")
            raise


def check_lasting(url: str) -> None:
    """Refuse a database in memory, which no other process can see.

    Raises:
        Unsupported: the URL names one.
    """
    if url.startswith("memory:"):
        raise Unsupported(f"{url} ends with this command, and everything in it: name a file.")


def check_there(url: str) -> None:
    """Refuse a database that does not exist, rather than create an empty one.

    Raises:
        InvalidInput: the URL names no engine.
        NotFound: there is no such file.
    """
    path = file_named(url)
    if path is not None and not os.path.exists(path):
        raise NotFound(
            f"There is no database at {visible(url, 200)}. Create it with `durableq init`, or name "
            "another with --db."
        )


def chosen_queue(store: Store, name: str | None) -> str:
    """Return the name of the queue to use: the given one, or the only one.

    Raises:
        UnknownQueue: there is no queue of that name.
        Misuse: no name is given, and the database has no queue or several.
    """
    if name is not None:
        return store.require(Capability.INSPECT).queue(name).name
    names = [
        info.name
        for info in store.require(Capability.INSPECT).queues()
        if info.dead_letter_queue is not None
    ]
    if len(names) != 1:
        there = ", ".join(names) or "none yet"
        raise output.Misuse(f"Name the queue with --queue; there are: {there}.")
    return names[0]


def source_of(name: str) -> str:
    """Return the name of a source queue, given its name or that of its dead-letter queue."""
    return name.removesuffix(DEAD_LETTER_SUFFIX)


def application(named: str | None, db: str | None) -> tuple[str, DurableQ]:
    """Return the application's name and the loaded application, on the database to use.

    Raises:
        AppError: it cannot be imported, or pyproject.toml cannot be read.
    """
    spec = _named(named) or DEMO_APP
    with _logged_if_slow(spec):
        app = load(spec, DurableQ)
    if db is not None:
        app.use(db)
    check_lasting(app.url)
    return spec, app


@contextmanager
def _logged_if_slow(spec: str) -> Iterator[None]:
    """Log an import that takes longer than SLOW_SECONDS: it may never end."""
    text = "%s is still being imported after %g s"
    timer = threading.Timer(SLOW_SECONDS, log.warning, (text, spec, SLOW_SECONDS))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def start(call: Callable[[], T], log: logging.Logger) -> T:
    """Return the result of a call that opens the file; wait while the file is busy or full.

    SIGTERM and SIGINT end the process during the wait.
    """
    return wait_out(call, log)


def demo_hint(named: str | None) -> str | None:
    """Return a hint if no application is named and the demo's is used; None otherwise."""
    if _named(named) is not None:
        return None
    return "No application is named: this is the demo's. To run your own: --app MODULE:ATTRIBUTE"


def _named(named: str | None) -> str | None:
    return named or os.environ.get(APP_VARIABLE) or _project_app()


def _project_app() -> str | None:
    try:
        project = tomllib.loads(Path(PROJECT_FILE).read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise AppError(f"{PROJECT_FILE} cannot be read ({error}). Name --app.") from error
    named: Any = project
    for name in ("tool", "durableq", "app"):
        named = named.get(name) if isinstance(named, dict) else None
    if named is not None and not isinstance(named, str):
        raise AppError(f"tool.durableq.app in {PROJECT_FILE} is not a string MODULE:ATTRIBUTE.")
    return named
