"""The command line: parse the arguments, open the database, make one call, print the result.

stdout is data, stderr is commentary. A command imports its libraries when it runs, so that
`durableq --help` starts fast.
"""

from __future__ import annotations

import functools
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, Final

import typer

from durableq.cli import (
    bench,
    database,
    demo,
    dlq,
    help,
    idempotency,
    inspect,
    output,
    produce,
    queue,
    recover,
    work,
)
from durableq.cli.options import Db, Json
from durableq.model.errors import DurableQError
from durableq.runtime import startup

NAME: Final = "durableq"
DEBUG_VARIABLE: Final = "DURABLEQ_DEBUG"
#: Characters of a refused argument that its error repeats.
_SHOWN: Final = 80


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib import metadata  # 80 ms, which no other command should pay

        try:
            version = metadata.version(NAME)
        except metadata.PackageNotFoundError:
            version = "(not installed: run from its source)"
        typer.echo(f"{NAME} {version}")
        raise typer.Exit


def _root(
    context: typer.Context,
    db: Db = None,
    as_json: Json = False,
    version: bool = help.option(
        "--version",
        "Print the version and exit.",
        False,
        help.GENERAL,
        callback=_print_version,
        is_eager=True,
    ),
) -> None:
    """Message queue, dead-letter queue and idempotency store in one SQLite file.

    Producers, workers and recovery are separate processes that share the file. `durableq COMMAND
    --help` describes a command and its options.

    Example: durableq produce             # send the demo's orders
        durableq work --procs 4      # handle them, in a second terminal
        durableq recover             # decide about dead letters, in a third
        durableq status --watch
    """
    startup.release(context.invoked_subcommand)


def _group(db: Db = None, as_json: Json = False) -> None:
    """Options of a group apply to its commands."""


_Commands = tuple[Callable[..., None], ...]
_COMMANDS: Final[dict[str, _Commands]] = {
    "Run": (*produce.COMMANDS, *work.COMMANDS, *recover.COMMANDS),
    "Inspect": inspect.COMMANDS,
    "Set up": database.SETUP_COMMANDS,
    "Maintain": database.COMMANDS,
    "Try out": demo.COMMANDS,
}
_GROUPS: Final[dict[str, tuple[str, str, _Commands]]] = {
    "queue": ("Manage", "Create, change, pause, purge and delete queues.", queue.COMMANDS),
    "dlq": ("Manage", "List, redrive and discard dead letters.", dlq.COMMANDS),
    "idempotency": ("Manage", "Look up and forget idempotency keys.", idempotency.COMMANDS),
}

#: Groups that do something without a command, too.
_RUNNABLE: Final[dict[str, tuple[str, Callable[..., None], _Commands]]] = {
    "bench": ("Try out", bench.bench, bench.COMMANDS),
}


def _assemble() -> typer.Typer:
    root = typer.Typer(
        name=NAME,
        cls=help.Group,
        callback=_root,
        add_completion=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for heading, commands in _COMMANDS.items():
        for command in commands:
            root.command(cls=help.Command, rich_help_panel=heading)(help.flattened(command))
    for noun, (heading, title, commands) in _GROUPS.items():
        group = typer.Typer(cls=help.Group, help=title, callback=_group)
        _add_group(root, noun, heading, group, commands)
    for noun, (heading, run, commands) in _RUNNABLE.items():
        group = typer.Typer(
            cls=help.Group, callback=help.flattened(run), invoke_without_command=True
        )
        _add_group(root, noun, heading, group, commands)
    return root


def _add_group(
    root: typer.Typer, noun: str, heading: str, group: typer.Typer, commands: _Commands
) -> None:
    for command in commands:
        hidden = command in dlq.HIDDEN_ALIASES
        group.command(cls=help.Command, hidden=hidden)(help.flattened(command))
    root.add_typer(group, name=noun, rich_help_panel=heading)


app: Final = _assemble()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; print every error as one sentence."""
    output.prepare()
    try:
        return _run(sys.argv[1:] if arguments is None else list(arguments))
    except BrokenPipeError:
        output.give_up(sys.stdout)
        output.give_up(sys.stderr)
        return output.BROKEN_PIPE
    except KeyboardInterrupt:
        return output.INTERRUPTED
    finally:
        startup.release(None)


@functools.cache
def _command() -> Any:
    """Return the tree of commands; building it takes longer than most commands run."""
    return typer.main.get_command(app)


def _run(arguments: list[str]) -> int:
    command = _command()
    try:
        with command.make_context(NAME, arguments) as context:
            command.invoke(context)
    except typer.Exit as done:
        return done.exit_code
    except typer.Abort:
        output.error("Nothing was changed.")
        return output.FAILED
    except typer.TyperException as error:
        sentence = error.format_message().rstrip(".")
        end = "" if sentence.endswith("?") else "."
        output.error(f"{sentence}{end} See `{_path(error)} --help`.")
        return error.exit_code
    except DurableQError as error:
        _show_traceback()
        output.error(" ".join([str(error), *getattr(error, "__notes__", [])]))
        return output.exit_code(error)
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001 - the last line of defence prints, not raises
        undecoded = next(filter(_is_undecoded, arguments), None)
        if isinstance(error, UnicodeEncodeError) and undecoded is not None:
            _show_traceback()
            output.error(f"The argument {undecoded[:_SHOWN]} is not UTF-8. Use a UTF-8 name.")
            return output.USAGE
        if isinstance(error, OSError) and error.strerror is not None:
            _show_traceback()
            output.error(_refused(error))
        elif not _show_traceback():
            hint = f"This is a defect; {DEBUG_VARIABLE}=1 shows the traceback."
            output.error(f"{type(error).__name__}: {error}. {hint}")
        return output.FAILED
    return output.OK


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
