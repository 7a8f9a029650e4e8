"""The tree of commands, each imported when it runs or shows its help.

The root's help imports no command: the summaries stand here, and a test compares them with the
commands' own.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
import traceback
from collections.abc import Iterator, MutableMapping, Sequence
from typing import Any, Final, NamedTuple

import typer

from durableq import __version__
from durableq.cli import help, output
from durableq.cli.options import App, Db, Json
from durableq.model.errors import DurableQError
from durableq.runtime import startup

NAME: Final = "durableq"
DEBUG_VARIABLE: Final = "DURABLEQ_DEBUG"
#: Characters of a refused argument that its error repeats.
_SHOWN: Final = 80


class Entry(NamedTuple):
    """A command of the root, as its help lists it.

    Args:
        heading: its section in the help.
        module: the module below durableq.cli that defines it.
        summary: the first paragraph of its help.
        group: the name of the module's commands, if it is a group.
        runs: the function of the module that the group runs when no command is named.
    """

    heading: str
    module: str
    summary: str
    group: str = ""
    runs: str = ""


ENTRIES: Final = {
    "produce": Entry("Run", "produce", "Send each line of a file as a message."),
    "work": Entry("Run", "work", "Run worker processes that receive messages and call handlers."),
    "recover": Entry(
        "Run", "recover", "Decide about dead letters by policies or rules, until stopped."
    ),
    "serve": Entry("Run", "serve", "Serve the queues to clients of Amazon SQS, over HTTP."),
    "status": Entry("Inspect", "status", "Show queues, rates, workers, recovery and storage."),
    "peek": Entry("Inspect", "inspect", "List messages of a queue without receiving them."),
    "show": Entry("Inspect", "inspect", "Show a message: body, state and history."),
    "explain": Entry("Inspect", "inspect", "Explain why a message is not delivered right now."),
    "events": Entry("Inspect", "events", "List the events of all messages, newest last."),
    "metrics": Entry(
        "Inspect", "metrics", "Print counters and gauges of the database for Prometheus."
    ),
    "dashboard": Entry(
        "Inspect", "dashboard", "Serve pages that show and change queues, for a browser."
    ),
    "init": Entry("Set up", "database", "Create the database, or upgrade an older one."),
    "migrate": Entry("Set up", "database", "Upgrade a database that an older durableq made."),
    "completion": Entry("Set up", "completion", "Print the completion script of a shell."),
    "doctor": Entry(
        "Maintain", "database", "Check the database, what it stands on, and what uses it."
    ),
    "audit": Entry(
        "Maintain", "database", "Compare every queue's counters with its messages; find orphans."
    ),
    "backup": Entry(
        "Maintain", "database", "Make a consistent copy of the database while everything runs."
    ),
    "restore": Entry("Maintain", "database", "Restore a database from a backup."),
    "transfer": Entry(
        "Maintain", "transfer", "Move everything to another file or PostgreSQL schema, and back."
    ),
    "lint": Entry("Maintain", "lint", "Say what of an application another store does not take."),
    "prune": Entry(
        "Maintain", "database", "Remove expired messages, keys and values, and old history."
    ),
    "demo": Entry(
        "Try out", "demo", "Run producer, fleet and recovery on one database, and check the sums."
    ),
    "chaos": Entry("Try out", "demo", "Kill and stop workers at random, and check every promise."),
    "message": Entry("Manage", "message", "Cancel or reschedule single messages.", "COMMANDS"),
    "worker": Entry("Manage", "worker", "Let one worker finish and end.", "COMMANDS"),
    "breaker": Entry(
        "Manage", "breaker", "Show, open and close the circuit breakers of queues.", "COMMANDS"
    ),
    "queue": Entry(
        "Manage", "queue", "Create, change, pause, purge and delete queues.", "COMMANDS"
    ),
    "dlq": Entry("Manage", "dlq", "List, redrive and discard dead letters.", "COMMANDS"),
    "idempotency": Entry(
        "Manage", "idempotency", "Look up and forget idempotency keys.", "COMMANDS"
    ),
    "once": Entry(
        "Manage", "once", "Look up and forget values that one process computes.", "COMMANDS"
    ),
    "schedule": Entry("Manage", "schedule", "List, pause, run and remove schedules.", "COMMANDS"),
    "bench": Entry(
        "Try out",
        "bench",
        "Measure this machine, beside the same statements written by hand.",
        "COMMANDS",
        runs="bench",
    ),
}


class Commands(MutableMapping[str, Any]):
    """The commands of the root by name, each made when it is asked for."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = _make(name, ENTRIES[name])
        return self._made[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._made[name] = command

    def __delitem__(self, name: str) -> None:
        del self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(ENTRIES)

    def __len__(self) -> int:
        return len(ENTRIES)


class Root(help.Group):
    """The root of the commands."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands = Commands()

    def listed(self, ctx: Any) -> list[help.Listed]:
        """Return the commands as the help lists them, without importing them."""
        return [help.Listed(name, each.heading, each.summary) for name, each in ENTRIES.items()]


def _print_version(context: typer.Context, wanted: bool) -> None:
    if not wanted:
        return
    if not context.params["as_json"]:
        typer.echo(f"{NAME} {__version__}")
        raise typer.Exit
    from durableq.cli import version

    output.document(version.facts())
    raise typer.Exit


def _root(
    context: typer.Context,
    db: Db = None,
    app: App = None,
    as_json: Json = False,
    version: bool = help.option(
        "--version",
        "Print the version and exit; with --json also those of Python and the libraries.",
        False,
        help.GENERAL,
        callback=_print_version,
    ),
) -> None:
    """Message queue, dead-letter queue and idempotency store in one SQLite file, or in PostgreSQL.

    Producers, workers and recovery are separate processes that share the database. `durableq
    COMMAND --help` describes a command and its options.

    Example: durableq produce             # send the demo's orders
        durableq work --procs 4      # handle them, in a second terminal
        durableq recover             # decide about dead letters, in a third
        durableq status --watch
    """
    startup.release(context.invoked_subcommand)


def _group(db: Db = None, app: App = None, as_json: Json = False) -> None:
    """Options of a group apply to its commands."""


def _make(name: str, entry: Entry) -> Any:
    """Make a command or a group of its functions."""
    module = importlib.import_module(f"durableq.cli.{entry.module}")
    if not entry.group:
        single = _typer()
        command = help.flattened(getattr(module, name))
        single.command(cls=help.Command, rich_help_panel=entry.heading)(command)
        return typer.main.get_command(single)
    if entry.runs:
        run = help.flattened(getattr(module, entry.runs))
        group = _typer(cls=help.Group, callback=run, invoke_without_command=True)
    else:
        group = _typer(cls=help.Group, help=entry.summary, callback=_group)
    hidden = getattr(module, "HIDDEN_ALIASES", ())
    for function in getattr(module, entry.group):
        add = group.command(cls=help.Command, hidden=function in hidden)
        add(help.flattened(function))
    made = typer.main.get_command(group)
    made.name = name
    return made


def _typer(**options: Any) -> typer.Typer:
    return typer.Typer(add_completion=False, rich_markup_mode=None, **options)


@functools.cache
def tree() -> Any:
    """Return the root of the commands."""
    root = _typer(
        name=NAME,
        cls=Root,
        callback=_root,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    return typer.main.get_command(root)


def main(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; print every error as one sentence."""
    try:
        output.prepare()
        return _run(list(arguments))
    except BrokenPipeError:
        output.give_up(sys.stdout)
        output.give_up(sys.stderr)
        return output.BROKEN_PIPE
    except KeyboardInterrupt:
        return output.INTERRUPTED


def _run(arguments: list[str]) -> int:
    command = tree()
    try:
        with command.make_context(NAME, arguments) as context:
            command.invoke(context)
    except typer.Exit as done:
        return done.exit_code
    except typer.Abort:
        return _failed(arguments, "Abort", output.FAILED, "Nothing was changed.")
    except typer.TyperException as error:
        sentence = error.format_message().rstrip(".")
        end = "" if sentence.endswith("?") else "."
        sentence = f"{sentence}{end} See `{_path(error)} --help`."
        return _failed(arguments, "UsageError", error.exit_code, sentence)
    except DurableQError as error:
        _show_traceback()
        sentence = " ".join([str(error), *getattr(error, "__notes__", [])])
        return _failed(arguments, type(error).__name__, output.exit_code(error), sentence)
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001 - the last line of defence prints, not raises
        return _failed(arguments, type(error).__name__, *_unexpected(error, arguments))
    return output.OK


def _failed(arguments: list[str], kind: str, exit_code: int, sentence: str) -> int:
    """Print an error in the form that the arguments ask for; return the exit code."""
    if "--json" in arguments:
        output.error_document(kind, exit_code, sentence)
    else:
        output.error(sentence)
    return exit_code


def _unexpected(error: Exception, arguments: list[str]) -> tuple[int, str]:
    """Return the exit code and the sentence of an error that no command expects."""
    shown = _show_traceback()
    undecoded = next(filter(_is_undecoded, arguments), None)
    if isinstance(error, UnicodeEncodeError) and undecoded is not None:
        return output.USAGE, f"The argument {undecoded[:_SHOWN]} is not UTF-8. Use a UTF-8 name."
    if isinstance(error, OSError) and error.strerror is not None:
        return output.FAILED, _refused(error)
    hint = "" if shown else f" This is a defect; {DEBUG_VARIABLE}=1 shows the traceback."
    return output.FAILED, f"{type(error).__name__}: {error}.{hint}"


def _is_undecoded(argument: str) -> bool:
    """Tell whether an argument has bytes that are not UTF-8; Python keeps them as surrogates."""
    return any("\ud800" <= character <= "\udfff" for character in argument)


def _refused(error: OSError) -> str:
    """Return an OSError of a file, or of the output of help or version, as a sentence."""
    if error.filename is not None:
        return f"{error.filename} cannot be used: {error.strerror}. Check the path."
    output.give_up(sys.stdout)  # or the interpreter's exit would try again
    return (
        f"The system refused: {error.strerror}. Check the output's disk, and this process's limits."
    )


def _path(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    return NAME if context is None else str(context.command_path)


def _show_traceback() -> bool:
    wanted = bool(os.environ.get(DEBUG_VARIABLE))
    if wanted:
        traceback.print_exc()
    return wanted
