"""Declaration of options and arguments, and their help pages: plain text of 80 columns."""

from __future__ import annotations

import inspect
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import partial
from typing import Any, Final, NamedTuple, get_args, get_type_hints

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup

from durableq.cli.output import Misuse
from durableq.cli.screen import BOLD, has_colour
from durableq.cli.tables import painted
from durableq.model.arguments import listed
from durableq.model.text import shown

DOCUMENTATION: Final = "Documentation: README.md and docs/ of the source distribution."
EXAMPLE: Final = "Example: "
#: Columns of a line of help; less on a narrow terminal.
MAX_COLUMNS: Final = 80
MIN_COLUMNS: Final = 40
#: Columns of the option names; a longer name has its description on the next line.
NAME_COLUMNS: Final = 32
#: Section of the options that a command inherits from its group.
GENERAL: Final = "General options"

Row = tuple[str, str]
_PLAIN_NUMBER: Final = {
    int: re.compile("[0-9]{1,15}").fullmatch,
    float: re.compile("[0-9]{1,15}([.][0-9]{1,15})?").fullmatch,
}


def option(
    shown: str, text: str, default: Any = ..., section: str | None = None, **more: Any
) -> Any:
    """Declare an option as the help shows it.

    Args:
        shown: `--rate N` or `-y, --yes`; `N` alone, with the name of the parameter.
        text: its description.
        default: its value if it is not given; left out in an Annotated type.
        section: heading in the help.
        more: arguments of typer.Option; a text as `show_default` describes the default.
    """
    words = shown.replace(",", "").split()
    names = [word for word in words if word.startswith("-")]
    more["metavar"] = None if words[-1] in names else words[-1]
    return typer.Option(default, *names, rich_help_panel=section, help=text, **more)


def argument(placeholder: str, text: str, default: Any = ..., **more: Any) -> Any:
    """Declare a positional argument."""
    return typer.Argument(default, metavar=placeholder, help=text, **more)


def flattened(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command that takes the fields of its dataclass parameters as options."""
    parameters: list[inspect.Parameter] = []
    groups: dict[str, Any] = {}
    for name, hint in _hints(command).items():
        if not is_dataclass(hint):
            default = inspect.signature(command).parameters[name].default
            parameters.append(_parameter(name, hint, default))
            continue
        groups[name] = hint
        kinds = _hints(hint)
        parameters += [
            _parameter(each.name, kinds[each.name], each.default) for each in fields(hint)
        ]

    def run(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(*(values.pop(field.name) for field in fields(group)))
        command(**values)

    flat: Any = run
    flat.__name__, flat.__doc__ = command.__name__.strip("_"), command.__doc__
    flat.__signature__ = inspect.Signature(parameters)
    flat.__annotations__ = {each.name: each.annotation for each in parameters}
    return run


def _hints(thing: Any) -> dict[str, Any]:
    hints = get_type_hints(thing, include_extras=True)
    hints.pop("return", None)
    return hints


def _parameter(name: str, kind: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=kind, default=default)


def _format_help(command: Any, ctx: Any, formatter: Any) -> None:
    formatter.write("\n".join(_page(command, ctx)))


def _without_pydantic(param: Any) -> Any:
    """Let a parameter take a plain value without typer.

    typer checks each value, even of an option that is not given, with pydantic, whose import takes
    half as long as a whole command. A value that is not plainly valid goes there, for its sentence.
    """
    if "process_value" not in vars(param):
        param.process_value = partial(_process_value, param, param.process_value)
    return param


def _process_value(param: Any, process: Callable[[Any, Any], Any], ctx: Any, value: Any) -> Any:
    is_plain, converted = _converted(param, value)
    if not is_plain:
        _check_choice(param, value)
        return process(ctx, value)
    return converted if param.callback is None else param.callback(ctx, param, converted)


def _check_choice(param: Any, value: Any) -> None:
    """Refuse a text that is none of the values of an enumeration; typer's sentence names pydantic.

    Raises:
        Misuse: it is none of them.
    """
    kind = param.type_descriptor.annotation
    if isinstance(value, str) and isinstance(kind, type) and issubclass(kind, Enum):
        named = param.metavar if isinstance(param, TyperArgument) else param.opts[-1]
        names = listed([one.value for one in kind])
        raise Misuse(f"{named} is one of {names}, got {shown(value)}.")


def _converted(param: Any, value: Any) -> tuple[bool, Any]:
    """Return whether a value is plain, and what the command gets for it."""
    kind = param.type_descriptor.annotation
    several = param.multiple or param.nargs == -1
    if value is None or value == ():
        return not param.required, () if several else None
    if several:
        is_plain = get_args(kind) == (str,) and all(type(one) is str for one in value)
        return is_plain, [*value]
    if not isinstance(kind, type) or param.type_descriptor.is_path:
        return False, None
    if isinstance(value, kind) and (kind in {bool, str} or isinstance(value, Enum)):
        return True, value
    if issubclass(kind, Enum):
        found = next((one for one in kind if one.value == value), None)
        return found is not None, found
    return _number(param.type_descriptor.parameter_info, kind, value)


def _number(bounds: Any, kind: type, value: Any) -> tuple[bool, Any]:
    if kind not in {int, float} or not _PLAIN_NUMBER[kind](str(value)):
        return False, None
    number = kind(value)
    is_low = bounds.min is not None and number < bounds.min
    is_high = bounds.max is not None and number > bounds.max
    return not (is_low or is_high), number


class Command(TyperCommand):
    """A command whose help is plain text."""

    format_help = _format_help

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, and --help."""
        return [_without_pydantic(param) for param in super().get_params(ctx)]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse, refuse empty values, and inherit the general options."""
        rest = super().parse_args(ctx, args)
        _finish_options(self, ctx)
        return rest


class Listed(NamedTuple):
    """A command in the help of its group."""

    name: str
    rich_help_panel: str | None
    summary: str


class Group(TyperGroup):
    """A group of commands whose help is plain text."""

    format_help = _format_help

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, and --help."""
        return [_without_pydantic(param) for param in super().get_params(ctx)]

    def listed(self, ctx: Any) -> list[Listed]:
        """Return the commands that the help lists."""
        found = [self.commands[name] for name in self.list_commands(ctx)]
        return [
            Listed(str(each.name), getattr(each, "rich_help_panel", None), summary(each))
            for each in found
            if not each.hidden
        ]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Show the help of a group that needs a command and has none: a usage error."""
        if not args and not self.invoke_without_command and not ctx.resilient_parsing:
            typer.echo(ctx.get_help())
            raise typer.Exit(2)
        rest = super().parse_args(ctx, args)
        _finish_options(self, ctx)
        return rest


def _finish_options(command: Any, ctx: Any) -> None:
    """Refuse an empty text, as an unset shell variable gives; take over options of the group."""
    for param in command.params:
        value = ctx.params.get(param.name)
        if value == "" and param.opts[0].startswith("-") and param.metavar != "COMMAND":
            raise typer.BadParameter("it is empty", ctx=ctx, param=param)
        if not value and getattr(param, "rich_help_panel", None) == GENERAL and ctx.parent:
            ctx.params[param.name] = ctx.parent.params.get(param.name)


class Page(NamedTuple):
    """The parts of a command's help."""

    usage: str
    #: Its paragraphs.
    description: list[str]
    #: Headings, with names and their descriptions.
    sections: list[tuple[str, list[Row]]]
    #: The lines of its example.
    example: list[str]


def page_of(command: Any, ctx: Any) -> Page:
    """Return the help of a command or group; the general options are its last section."""
    description, example = _parts(command.help or "")
    shown = [param for param in command.get_params(ctx) if not getattr(param, "hidden", False)]
    arguments = [param for param in shown if isinstance(param, TyperArgument)]
    options = [param for param in shown if not isinstance(param, TyperArgument)]
    pieces = [*map(_argument_name, arguments)]
    sections: list[tuple[str, list[Row]]] = []
    if isinstance(command, Group):
        pieces.append("[COMMAND]" if command.invoke_without_command else "COMMAND ...")
        for heading, listed in _sections(command.listed(ctx)):
            sections.append((heading or "Commands", [(one.name, one.summary) for one in listed]))
    if arguments:
        rows = [(_argument_name(one), _described(one, ctx)) for one in arguments]
        sections.append(("Arguments", rows))
    for heading, grouped in _sections(options):
        sections.append((heading or "Options", [_option_row(one, ctx) for one in grouped]))
    usage = " ".join([ctx.command_path, "[OPTIONS]", *pieces])
    return Page(usage, description, sections, example)


def _page(command: Any, ctx: Any) -> Iterator[str]:
    page = page_of(command, ctx)
    yield from _wrapped(f"Usage: {page.usage}", hang="  ")
    for paragraph in page.description:
        yield ""
        yield from _wrapped(paragraph)
    for heading, rows in page.sections:
        yield from _list(heading, rows)
    if page.example:
        yield from ("", _heading("Example"), *(f"  {line}" for line in page.example))
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
    return painted(f"{text}:", BOLD if has_colour(sys.stdout) else "")


def _columns() -> int:
    return max(MIN_COLUMNS, min(shutil.get_terminal_size().columns, MAX_COLUMNS))


def _wrapped(text: str, hang: str = "") -> list[str]:
    return textwrap.wrap(
        text, _columns(), subsequent_indent=hang, break_on_hyphens=False, break_long_words=False
    )
