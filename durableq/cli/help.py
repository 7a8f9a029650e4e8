"""Help texts: plain, 80 columns, one placeholder for each value, options in named sections."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any, Final

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup

DOCUMENTATION: Final = "Documentation: README.md and docs/ of the source distribution."
EXAMPLE: Final = "Example: "
#: Columns of a line of help; less on a narrow terminal.
MAX_COLUMNS: Final = 80
MIN_COLUMNS: Final = 40
#: Columns of the option names; a longer name has its description on the next line.
NAME_COLUMNS: Final = 32
GENERAL: Final = "General options"

Row = tuple[str, str]


class Command(TyperCommand):
    """A command whose help is plain text."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the whole page."""
        formatter.write("\n".join(_page(self, ctx)))


class Group(TyperGroup):
    """A group of commands whose help is plain text."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the whole page."""
        formatter.write("\n".join(_page(self, ctx)))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Show the help of a group that is given no command, and end with a usage error."""
        if not args and not ctx.resilient_parsing:
            typer.echo(ctx.get_help())
            raise typer.Exit(2)
        return super().parse_args(ctx, args)


def option(
    *names: str, placeholder: str | None = None, section: str | None = None, **more: Any
) -> Any:
    """Return an option; `placeholder` names its value, `section` is its heading in the help."""
    return typer.Option(*names, metavar=placeholder, rich_help_panel=section, **more)


def _page(command: Any, ctx: Any) -> Iterator[str]:
    description, example = _parts(command.help or "")
    shown = [param for param in command.get_params(ctx) if not getattr(param, "hidden", False)]
    arguments = [param for param in shown if isinstance(param, TyperArgument)]
    options = [param for param in shown if not isinstance(param, TyperArgument)]
    pieces = [*map(_argument_name, arguments)]
    if isinstance(command, TyperGroup):
        pieces.append("COMMAND ...")
    yield from _wrapped(f"Usage: {' '.join([ctx.command_path, '[OPTIONS]', *pieces])}", hang="  ")
    for paragraph in description:
        yield ""
        yield from _wrapped(paragraph)
    if isinstance(command, TyperGroup):
        for heading, commands in _sections(
            found
            for name in command.list_commands(ctx)
            if (found := command.get_command(ctx, name)) is not None and not found.hidden
        ):
            yield from _list(heading or "Commands", [(c.name, summary(c)) for c in commands])
    yield from _list(
        "Arguments", [(_argument_name(one), _described(one, ctx)) for one in arguments]
    )
    for heading, grouped in _sections(options):
        yield from _list(heading or "Options", [_option_row(one, ctx) for one in grouped])
    if example:
        yield from ("", _heading("Example"), *(f"  {line}" for line in example))
    yield from ("", *_wrapped(DOCUMENTATION))


def summary(command: Any) -> str:
    """Return the first paragraph of a command's help."""
    (first, *_), _ = _parts(command.help or "")
    return first


def _parts(text: str) -> tuple[list[str], list[str]]:
    """Return the paragraphs of a docstring, each on one line, and the lines of its example."""
    paragraphs = [" ".join(part.split()) for part in text.split("\n\n") if part.strip()]
    examples = [part for part in text.split("\n\n") if part.strip().startswith(EXAMPLE)]
    described = [part for part in paragraphs if not part.startswith(EXAMPLE)]
    lines = examples[0].strip().removeprefix(EXAMPLE).splitlines() if examples else []
    return described or [""], [line.strip() for line in lines]


def _sections(found: Iterable[Any]) -> list[tuple[str | None, list[Any]]]:
    """Group by heading, in order of first use; general options come last."""
    sections: dict[str | None, list[Any]] = {}
    for one in found:
        heading = getattr(one, "rich_help_panel", None)
        if getattr(one, "name", None) == "help":
            heading = GENERAL
        sections.setdefault(heading, []).append(one)
    last = sections.pop(GENERAL, None)
    return [*sections.items(), *([(GENERAL, last)] if last else [])]


def _list(heading: str, rows: list[Row]) -> Iterator[str]:
    """Yield a heading and its rows: names on the left, descriptions on the right."""
    if not rows:
        return
    yield ""
    yield _heading(heading)
    column = min(max(len(name) for name, _ in rows), NAME_COLUMNS) + 2
    for name, text in rows:
        lines = textwrap.wrap(text, _columns() - column - 2, break_on_hyphens=False) or [""]
        if len(name) > column - 2:
            yield f"  {name}"
        else:
            yield f"  {name:<{column}}{lines.pop(0)}".rstrip()
        for line in lines:
            yield f"{'':<{column + 2}}{line}"


def _option_row(param: Any, ctx: Any) -> Row:
    short = [name for name in param.opts if not name.startswith("--")]
    long = [name for name in param.opts if name.startswith("--")]
    names = ", ".join(short + long)
    if not param.is_flag:
        names += f" {param.metavar or param.name.upper()}"
    return (names if short else f"    {names}"), _described(param, ctx)


def _described(param: Any, ctx: Any) -> str:
    """Return the description of a parameter, with its default."""
    default = param.show_default if isinstance(param.show_default, str) else param.get_default(ctx)
    text = param.help or ""
    if default is None or default is False or param.name in {"help", "version"}:
        return text
    return f"{text} [default: {getattr(default, 'value', default)}]"


def _argument_name(param: Any) -> str:
    name = str(param.metavar or param.name.upper())
    if not param.required:
        name = f"[{name}]"
    return f"{name}..." if param.nargs == -1 else name


def _heading(text: str) -> str:
    return typer.style(f"{text}:", bold=True)  # echo drops the style where there is no terminal


def _columns() -> int:
    return max(MIN_COLUMNS, min(shutil.get_terminal_size().columns, MAX_COLUMNS))


def _wrapped(text: str, hang: str = "") -> list[str]:
    return textwrap.wrap(
        text, _columns(), subsequent_indent=hang, break_on_hyphens=False, break_long_words=False
    )
