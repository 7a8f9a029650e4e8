"""`durableq completion`: scripts for shells, and the completions that these ask for.

A script calls `durableq` with the words of the line, the last one unfinished, and ASKED in the
environment. The answer is a line for each value. It changes nothing, imports no application, and
says nothing about errors: the shell has the line of a person on its screen.
"""

from __future__ import annotations

import os
import shlex
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from enum import Enum, StrEnum
from typing import Annotated, Any, Final, NamedTuple

from durableq.cli import output
from durableq.cli.help import Group, argument
from durableq.cli.options import Json, Session
from durableq.model.message import Event, State
from durableq.model.text import visible

#: The variable of the environment with the name of the shell that asks.
ASKED: Final = "_DURABLEQ_COMPLETE"
#: A database that answers later is left out.
LONGEST_SECONDS: Final = 1.0
#: A value, and its meaning.
Offer = tuple[str, str]

_BASH: Final = """\
_durableq_completion() {
    local IFS=$'\\n'
    COMPREPLY=($(_DURABLEQ_COMPLETE=bash "$1" "${COMP_LINE:0:COMP_POINT}" 2>/dev/null))
}
complete -o bashdefault -o default -F _durableq_completion durableq
"""
_ZSH: Final = """\
#compdef durableq
_durableq() {
    local -a found
    found=("${(@f)$(_DURABLEQ_COMPLETE=zsh "${words[1]}" "${(@Q)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ -n "$found" ]]; then
        _describe 'values' found
    else
        _files
    fi
}
if [[ "$funcstack[1]" == _durableq ]]; then
    _durableq "$@"
else
    compdef _durableq durableq
fi
"""
_FISH: Final = """\
function __durableq_complete
    set -lx _DURABLEQ_COMPLETE fish
    set -l words (commandline -opc)
    set -l last (commandline -ct)
    set -l found (command $words "$last" 2>/dev/null)
    if test -n "$found"
        printf '%s\\n' $found
    else
        __fish_complete_path "$last"
    end
end
complete -c durableq -f -a '(__durableq_complete)'
"""


class Shell(StrEnum):
    """A shell that a script is for."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


SCRIPTS: Final = {Shell.BASH: _BASH, Shell.ZSH: _ZSH, Shell.FISH: _FISH}
ShellName = Annotated[Shell, argument("SHELL", "bash, zsh or fish.")]


def completion(shell: ShellName, as_json: Json = False) -> None:
    """Print the completion script of a shell.

    With it the shell completes commands, options, their values, and names of queues in the database
    that the line or DURABLEQ_DB names. Nothing is installed: write the script where the shell looks
    for it. For bash that is ~/.local/share/bash-completion/completions/durableq, for zsh a file
    _durableq in a folder of $fpath, for fish ~/.config/fish/completions/durableq.fish.

    Example: durableq completion bash > ~/.local/share/bash-completion/completions/durableq
    """
    script = SCRIPTS[shell]
    if as_json:
        output.document({"shell": shell.value, "script": script})
    else:
        output.raw(script.encode())


def answer(shell: str, words: Sequence[str]) -> int:
    """Print the completions of a line for a shell; return the exit code.

    Args:
        shell: its name.
        words: those behind the command's name; of bash the whole line as one.
    """
    found: list[str] = []

    def look() -> None:
        with suppress(BaseException):  # a completion has no error, whatever the line is
            is_bash = shell == Shell.BASH
            line = _split(words[0])[1:] if is_bash else [*words]
            found.extend(_form(shell, *offer) for offer in offers(line, splits=is_bash))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(LONGEST_SECONDS)
    with suppress(OSError):
        sys.stdout.write("".join(f"{line}\n" for line in tuple(found)))
        sys.stdout.flush()
    if thread.is_alive():
        os._exit(output.OK)
    return output.OK


def _split(line: str) -> list[str]:
    """Return the words of a line, the last one unfinished or empty."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=False)
    lexer.whitespace_split, lexer.commenters = True, ""
    words: list[str] = []
    try:
        words.extend(lexer)
    except ValueError:  # an open quote: the lexer has its word
        return [*words, lexer.token]
    return [*words, ""] if line.endswith((" ", "\t")) else words


def _form(shell: str, value: str, text: str) -> str:
    """Return an offer as the script of a shell reads it."""
    if not text or shell == Shell.BASH:
        return value
    value = value.replace(":", "\\:") if shell == Shell.ZSH else value
    return f"{value}{':' if shell == Shell.ZSH else chr(9)}{visible(text)}"


class _Line(NamedTuple):
    """The finished words of a line."""

    #: The last command or group that it names.
    command: Any
    #: The option whose value comes next.
    option: Any
    #: The number of arguments behind the command.
    arguments: int
    #: Values of options, by the name of the parameter.
    given: dict[str, str]
    #: Whether options may follow.
    takes_options: bool


def offers(words: Sequence[str], *, splits: bool = False) -> list[Offer]:
    """Return the values that may stand in place of the last word.

    Args:
        words: behind the command's name, the last one unfinished.
        splits: whether the shell takes the text behind `=` as a word of its own.
    """
    *before, last = words or [""]
    line = _read(before)
    is_option = last.startswith("-") and line.takes_options and line.option is None
    start, option = "", line.option
    if is_option and "=" in last:
        name, _, last = last.partition("=")
        start, option = ("" if splits else f"{name}="), _option(line.command, name)
        found = _values(option, line.given)
    elif is_option:
        found = _options(line)
    elif option is None and isinstance(line.command, Group) and not line.arguments:
        found = [(one.name, one.summary) for one in line.command.listed(None)]
    else:
        found = _values(option or _argument(line), line.given)
    return [(f"{start}{value}", text) for value, text in found if value.startswith(last)]


def _read(words: Sequence[str]) -> _Line:
    """Return the finished words of a line as the command line would read them."""
    from durableq.cli.commands import tree

    line = _Line(tree(), None, 0, {}, takes_options=True)
    for word in words:
        if line.option is not None:
            line.given[line.option.name] = word
            line = line._replace(option=None)
        elif word == "--":
            line = line._replace(takes_options=False)
        elif word.startswith("-") and line.takes_options:
            name, separator, value = word.partition("=")
            option = _option(line.command, name)
            if option is not None and separator:
                line.given[option.name] = value
            elif option is not None and not option.is_flag:
                line = line._replace(option=option)
        elif isinstance(line.command, Group) and word in line.command.commands:
            line = line._replace(command=line.command.commands[word], arguments=0)
        else:
            line = line._replace(arguments=line.arguments + 1)
    return line


def _option(command: Any, name: str) -> Any:
    """Return an option of a command by its name, or None."""
    return next((one for one in command.params if name.startswith("-") and name in one.opts), None)


def _options(line: _Line) -> list[Offer]:
    """Return the long names of a command's options that are not given yet."""
    shown = [
        (max(one.opts, key=len), one.help or "")
        for one in line.command.params
        if one.opts[0].startswith("-") and (one.multiple or one.name not in line.given)
    ]
    return [*shown, ("--help", "Show this message and exit.")]


def _argument(line: _Line) -> Any:
    """Return the argument of a command that the next word is, or None."""
    found = [one for one in line.command.params if not one.opts[0].startswith("-")]
    if line.arguments < len(found):
        return found[line.arguments]
    return found[-1] if found and found[-1].nargs == -1 else None


def _values(param: Any, given: dict[str, str]) -> list[Offer]:
    """Return the values that a parameter may have, where they are few and known."""
    if param is None:
        return []
    kind = param.type_descriptor.annotation
    if isinstance(kind, type) and issubclass(kind, Enum):
        return [(str(one.value), getattr(one, "sentence", "")) for one in kind]
    find = _VALUES.get((param.metavar or "").strip("[]"))
    return [] if find is None else [*find(given)]


def _queues(given: dict[str, str]) -> Iterator[Offer]:
    """Yield the queues of the database that a line names; an application is not imported."""
    from durableq.client.app import DEFAULT_URL, URL_VARIABLE, queue_names

    url = given.get("db")
    if url is None and Session(app=given.get("app")).names_application:
        return
    for name in queue_names(url or os.environ.get(URL_VARIABLE) or DEFAULT_URL):
        yield name, ""


#: By the placeholder of a parameter, a function of the values that are given.
_VALUES: Final[dict[str, Callable[[dict[str, str]], Iterator[Offer]]]] = {
    "QUEUE": _queues,
    "STATE": lambda _: ((state.label, "") for state in State),
    "KIND": lambda _: ((event.value, event.sentence) for event in Event),
}
