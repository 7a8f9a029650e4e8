"""The options that commands share, the database and the application that they name."""

from __future__ import annotations

import getpass
import logging
import os
import threading
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

from durableq.cli import output
from durableq.cli.help import GENERAL, argument, option
from durableq.model.errors import AppError, NotFound, UnknownQueue, Unsupported
from durableq.model.text import address, visible
from durableq.runtime.logs import LogFormat, LogLevel

if TYPE_CHECKING:
    from durableq.cli.screen import Line
    from durableq.client.app import DurableQ
    from durableq.store.core import Store

T = TypeVar("T")
log = logging.getLogger("durableq.cli")
DEMO_APP: Final = "durableq.demo.app:dq"
#: Shared by `produce` and `demo`: a second run sends the same orders, all of them duplicates.
DEMO_SEED: Final = 1
#: An import that takes longer is logged.
SLOW_SECONDS: Final = 5.0
APP_VARIABLE: Final = "DURABLEQ_APP"
PROJECT_FILE: Final = "pyproject.toml"
DATABASE: Final = "Database: a path, an sqlite:/// URL or a postgresql:// URL."
#: A benchmark compares files.
DATABASE_FILE: Final = "Database: a path or an sqlite:/// URL."

Db = Annotated[
    str | None,
    option(
        "--db DATABASE",
        DATABASE,
        section=GENERAL,
        show_default="the application's, $DURABLEQ_DB, or durableq.db",
    ),
]
OwnDb = Annotated[
    str | None,
    option("--db FILE", DATABASE_FILE, section=GENERAL, show_default="a temporary file"),
]
NewDb = Annotated[
    str | None, option("--db DATABASE", DATABASE, section=GENERAL, show_default="a temporary file")
]
# Eager: the callback of --version looks at it.
Json = Annotated[bool, option("--json", "Print JSON.", section=GENERAL, is_eager=True)]
App = Annotated[
    str | None,
    option(
        "--app MODULE:ATTRIBUTE",
        "Application: its database, queues, handlers and policies.",
        section=GENERAL,
        show_default="$DURABLEQ_APP, or tool.durableq.app in pyproject.toml",
    ),
]
Queue = Annotated[
    str | None, option("--queue QUEUE", "Name of the queue.", show_default="the only queue")
]
#: Of a command that takes the queue as an argument or as an option.
QueueArgument = Annotated[
    str | None, argument("QUEUE", "Name of the queue, as with --queue.", show_default=False)
]
Queues = Annotated[
    list[str] | None,
    option(
        "--queue QUEUE",
        "Only this queue; may be repeated.",
        show_default="every queue of the application",
    ),
]
Procs = Annotated[int, option("--procs N", "Number of worker processes.", min=1, max=256)]
Logs = Annotated[LogFormat, option("--log-format FORMAT", "Format of log lines: text or json.")]
Level = Annotated[
    LogLevel, option("--log-level LEVEL", "Least level of log lines: debug, info, warning, error.")
]
Limit = Annotated[int, option("--limit N", "Maximum number of rows.", min=1, max=10_000)]
After = Annotated[str | None, option("--after ID", "Start after this message, for the next page.")]
Yes = Annotated[bool, option("-y, --yes", "Do not ask for confirmation.")]
MessageId = Annotated[str, argument("ID", "Id of the message.")]


@dataclass(frozen=True)
class Session:
    """One run of a command: the database that it names, and the form of its result."""

    db: Db = None
    app: App = None
    as_json: Json = False

    @property
    def url(self) -> str:
        """URL of the database: the one given, or that of the application that is named.

        Raises:
            AppError: the application cannot be imported, or pyproject.toml cannot be read.
            Unsupported: it names a database in memory, which ends with this process.
        """
        from durableq.client.app import DurableQ

        if self.app is None and self.db is not None:
            url = DurableQ(self.db).url
            check_lasting(url)
            return url
        try:
            named = self.application()[1] if self.names_application else DurableQ()
        except AppError as error:
            if self.app is None:
                error.add_note("Or name the database with --db: this command needs nothing else.")
            raise
        check_lasting(named.url)
        return named.url

    @property
    def names_application(self) -> bool:
        """Whether an application is named, by the option, the environment or the project."""
        return _named(self.app) is not None

    def application(self) -> tuple[str, DurableQ]:
        """Return the application, by default the demo's, on the database to use, and its name.

        Raises:
            AppError: it cannot be imported, or pyproject.toml cannot be read.
            Unsupported: its database is in memory.
        """
        spec = _named(self.app) or DEMO_APP
        loaded = _loaded(spec)
        if self.db is not None:
            loaded.use(self.db)
        check_lasting(loaded.url)
        return spec, loaded

    @property
    def address(self) -> str:
        """The URL without its passwords, to be shown."""
        return address(self.url)

    @contextmanager
    def opened(self, *, create: bool = False, is_named: bool = True) -> Iterator[Store]:
        """Open the database, and close it at the end.

        Args:
            create: create it if it is missing.
            is_named: name it before the text output; if false, the command names it itself.

        Raises:
            NotFound: there is none, and `create` is false.
            Unsupported: it is a database in memory.
        """
        from durableq.client.app import DurableQ
        from durableq.store.core import Capability

        with DurableQ(self.url) as app:
            if not create:
                check_there(app.url)
            if is_named:
                self.announce(app.url)
            store = app.store
            try:
                yield store
            except UnknownQueue as error:
                names = ", ".join(info.name for info in store.require(Capability.INSPECT).queues())
                error.add_note(f"There are: {names}." if names else "There is none yet.")
                raise

    def announce(self, url: str) -> None:
        """Name the database before the text output; JSON has no commentary."""
        if not self.as_json:
            output.announce(f"Database: {address(url)}")

    def name(self, url: str) -> None:
        """Name the database now; JSON has no commentary."""
        self.announce(url)
        output.say_announced()

    def show(self, document: Any, *lines: str | Line) -> None:
        """Print a result: the document with --json, otherwise the lines."""
        if self.as_json:
            output.document(document)
        else:
            output.lines(lines)

    def table(
        self,
        rows: Iterable[T],
        document: Callable[[T], Any],
        columns: Mapping[str, Callable[[T], Any]],
        colours: Mapping[str, Callable[[T], str]] | None = None,
    ) -> list[Any]:
        """Print rows: with --json a line of JSON for each, otherwise a table.

        Args:
            rows: values of any type, used up one at a time.
            document: a row as JSON.
            columns: by heading, a row's cell.
            colours: by heading, the colour of a row's cell on a terminal, or an empty text.

        Returns:
            The cells of the first column; none with --json.
        """
        if self.as_json:
            output.json_lines(map(document, rows))
            return []
        return output.rows(rows, columns, colours)


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
        NotFound: there is no such file, or no table of ours.
    """
    from durableq.client.app import exists

    if not exists(url):
        raise NotFound(
            f"There is no database at {visible(address(url), 200)}. Create it with `durableq "
            "init`, or name another with --db."
        )


def person() -> str:
    """Return the actor for the history: the user who runs the command."""
    try:
        return f"person ({getpass.getuser()})"
    except (KeyError, OSError):  # no such user in this container
        return f"person (uid {os.getuid()})"


def source_queues(store: Store) -> list[str]:
    """Return the names of the queues that are no dead-letter queues."""
    from durableq.store.core import Capability

    found = store.require(Capability.INSPECT).queues()
    return [info.name for info in found if info.dead_letter_queue is not None]


def named_once(as_argument: str | None, as_option: str | None) -> str | None:
    """Return the name of a queue that is an argument or an option; None: neither is given.

    Raises:
        Misuse: both are.
    """
    if as_argument is not None and as_option is not None:
        raise output.Misuse("Name the queue once: as QUEUE, or with --queue.")
    return as_option if as_argument is None else as_argument


def chosen_queue(store: Store, name: str | None) -> str:
    """Return the name of the queue to use: the given one, or the only one.

    Raises:
        UnknownQueue: there is no queue of that name.
        Misuse: no name is given, and the database has no queue or several.
    """
    from durableq.store.core import Capability

    if name is not None:
        return store.require(Capability.INSPECT).queue(name).name
    names = source_queues(store)
    if len(names) != 1:
        there = ", ".join(names) or "none yet"
        raise output.Misuse(f"Name the queue with --queue; there are: {there}.")
    return names[0]


def _loaded(spec: str) -> DurableQ:
    """Import an application, once in a process; say so if that takes long."""
    from durableq.client.app import DurableQ
    from durableq.client.handlers import load

    text = "%s is still being imported after %g s"  # an import may never end
    timer = threading.Timer(SLOW_SECONDS, log.warning, (text, spec, SLOW_SECONDS))
    timer.daemon = True
    timer.start()
    try:
        return load(spec, DurableQ)
    finally:
        timer.cancel()


def demo_hint(session: Session) -> str | None:
    """Return a hint if no application is named and the demo's is used; None otherwise."""
    if session.names_application:
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
