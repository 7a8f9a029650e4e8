"""Options that several commands share, and where each finds its database and application."""

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
#: The same for `produce` and `demo`: a second run sends the same orders, all of them duplicates.
DEMO_SEED: Final = 1
#: An import that takes longer is mentioned.
SLOW_SECONDS: Final = 5.0
MAX_PROCS: Final = 256
APP_VARIABLE: Final = "DURABLEQ_APP"
PROJECT_FILE: Final = "pyproject.toml"


def given(value: Any) -> Any:
    """Refuse an empty text, as of an unset shell variable: it is no way to leave an option out."""
    if value == "":
        raise typer.BadParameter("it is empty")
    return value


def _inherited(ctx: typer.Context, param: typer.CallbackParam, value: Any) -> Any:
    """Take an option from before the subcommand, unless it was given after it too."""
    if given(value) or ctx.parent is None or param.name is None:
        return value
    return ctx.parent.params.get(param.name)


Db = Annotated[
    str | None,
    typer.Option(
        "--db",
        metavar="PATH_OR_URL",
        callback=_inherited,
        help="The database; else DURABLEQ_DB, else durableq.db here.",
    ),
]
OwnDb = Annotated[
    str | None,
    typer.Option(
        "--db",
        metavar="PATH_OR_URL",
        callback=_inherited,
        help="The database; else a new one, removed at the end.",
    ),
]
Json = Annotated[bool, typer.Option("--json", callback=_inherited, help="Print JSON.")]
App = Annotated[
    str | None,
    typer.Option(
        metavar="MODULE:ATTRIBUTE",
        callback=given,
        help="The application; else DURABLEQ_APP, else pyproject.toml's tool.durableq.app, "
        "else the demo's.",
    ),
]
Queue = Annotated[
    str | None,
    typer.Option(callback=given, help="Its name; not needed where there is one queue."),
]
Queues = Annotated[
    list[str] | None, typer.Option("--queue", help="Only this queue; may be repeated.")
]
Procs = Annotated[int, typer.Option(min=1, max=MAX_PROCS, help="Worker processes.")]
Logs = Annotated[LogFormat, typer.Option("--log-format", help="How events are written to stderr.")]
Limit = Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@contextmanager
def opened(db: str | None, *, create: bool = False) -> Iterator[Store]:
    """Open the database, and close it at the end.

    Raises:
        NotFound: there is none, and `create` is not given.
        Unsupported: it would vanish with this process.
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
    """Refuse a database that no other process could see.

    Raises:
        Unsupported: it is one process's memory.
    """
    if url.startswith("memory:"):
        raise Unsupported(f"{url} ends with this command, and everything in it: name a file.")


def check_there(url: str) -> None:
    """Refuse a database that is not there, rather than make an empty one.

    Raises:
        InvalidInput: the URL names no store, or not clearly.
        NotFound: there is none.
    """
    path = file_named(url)
    if path is not None and not os.path.exists(path):
        raise NotFound(
            f"There is no database at {visible(url, 200)}. Create it with `durableq init`, or name "
            "another with --db."
        )


def chosen_queue(store: Store, name: str | None) -> str:
    """Return the queue that is meant: the named one, or the only one.

    Raises:
        UnknownQueue: there is none of that name.
        Misuse: none was named, and there is not exactly one.
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
    """Return a queue's name, given its own or its dead-letter queue's."""
    return name.removesuffix(DEAD_LETTER_SUFFIX)


def application(named: str | None, db: str | None) -> tuple[str, DurableQ]:
    """Return the application to run, by its name and loaded, on the database to use.

    Raises:
        AppError: it cannot be imported, or pyproject.toml cannot be read.
    """
    spec = _named(named) or DEMO_APP
    with _told_if_slow(spec):
        app = load(spec, DurableQ)
    if db is not None:
        app.use(db)
    check_lasting(app.url)
    return spec, app


@contextmanager
def _told_if_slow(spec: str) -> Iterator[None]:
    """Log that an application is still being imported after SLOW_SECONDS: it may wait for ever."""
    text = "%s is still being imported after %g s"
    timer = threading.Timer(SLOW_SECONDS, log.warning, (text, spec, SLOW_SECONDS))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def start(call: Callable[[], T], log: logging.Logger) -> T:
    """Return what a call returns that opens the file, waiting while the file is busy or full.

    SIGTERM and SIGINT end the process meanwhile.
    """
    return wait_out(call, log)


def whose(named: str | None) -> str | None:
    """Return what to say to whoever named no application, and is given the demo's."""
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
