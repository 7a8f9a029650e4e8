"""The command line: parse, open, one call, print.

stdout is data, stderr is commentary. What a command needs beyond parsing it imports when it runs,
so that `durableq --help` is quick.
"""

from __future__ import annotations

import functools
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import metadata
from typing import Annotated, Any, Final

import typer

from durableq.cli import (
    backup,
    bench,
    chaos,
    database,
    dlq,
    doctor,
    fleet,
    idempotency,
    inspect,
    maintenance,
    output,
    produce,
    queue,
    recover,
    status,
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
        try:
            version = metadata.version(NAME)
        except metadata.PackageNotFoundError:
            version = "(not installed: run from its source)"
        typer.echo(f"{NAME} {version}")
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option("--version", callback=_print_version, is_eager=True, help="Print it and exit."),
]


def _root(
    context: typer.Context, db: Db = None, as_json: Json = False, version: Version = False
) -> None:
    """Message queue, dead-letter queue and idempotency store in one SQLite file.

    Example, in three terminals: durableq produce; durableq work --procs 4; durableq recover
    """
    startup.release(context.invoked_subcommand)


def _group(db: Db = None, as_json: Json = False) -> None:
    """Options of a group hold for its commands."""


def _assemble() -> typer.Typer:
    root = typer.Typer(
        name=NAME,
        callback=_root,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode="markdown",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for module, panel in (
        (produce, "Run"),
        (work, "Run"),
        (recover, "Run"),
        (fleet, "Run"),
        (chaos, "Run"),
        (status, "Look"),
        (inspect, "Look"),
        (database, "Set up"),
        (doctor, "Look after"),
        (backup, "Look after"),
        (maintenance, "Look after"),
    ):
        for command in module.COMMANDS:
            root.command(rich_help_panel=panel)(command)
    for noun, module, title in (
        ("queue", queue, "Create, change, empty and delete queues."),
        ("dlq", dlq, "Look into dead-letter queues, and decide by hand."),
        ("bench", bench, "Measure this machine."),
        ("idempotency", idempotency, "See and drop what is remembered of idempotency keys."),
    ):
        group = typer.Typer(help=title, callback=_group, no_args_is_help=True)
        for command in module.COMMANDS:
            group.command(name=command.__name__.strip("_"))(command)
        root.add_typer(group, name=noun, rich_help_panel="Nouns")
    return root


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
    except SystemExit as end:  # rich answers a closed pipe this way, when help is shown
        if not isinstance(end.__context__, BrokenPipeError):
            raise
        return output.BROKEN_PIPE
    except KeyboardInterrupt:
        return output.INTERRUPTED
    finally:
        startup.release(None)


@functools.cache
def _command() -> Any:
    """Return the tree of commands, which takes longer to build than most commands take to run."""
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
        if sentence:  # a command without arguments has shown its help, and has nothing to say
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
    """Return in a sentence that the system refused a file, or the output of help or version."""
    if error.filename is not None:
        return f"{error.filename} cannot be used: {error.strerror}. Check the path."
    output.give_up(sys.stdout)  # else it would be tried again at the interpreter's exit
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
