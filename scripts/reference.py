"""The parts of the reference that the code knows: commands, settings, events, public names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import durableq
from durableq.cli import commands, help
from durableq.model.limits import DAY_MS, SECOND_MS
from durableq.model.settings import MANY, OPTIONS, SETTINGS, Kind, QueueSettings, Setting
from durableq.model.states import Event, Reason
from scripts import json_names

PAGES: Final = Path(__file__).resolve().parents[1] / "docs" / "reference"
_MARK: Final = re.compile(r"^<!-- generated: (.*) -->$", re.MULTILINE)
_OBJECT: Final = re.compile(r"^::: durableq\.(\w+)$", re.MULTILINE)


def filled(text: str) -> str:
    """Return a page with its generated parts in place of their marks.

    Raises:
        KeyError: a mark names no part.
    """
    return _MARK.sub(lambda mark: PARTS[mark[1]](), text)


def command_pages() -> Iterator[tuple[str, help.Page]]:
    """Yield each command and group by its words, with its help, in the order of the help."""
    root: Any = commands.tree()
    yield from _pages(root, root.make_context(commands.NAME, [], resilient_parsing=True))


def _pages(command: Any, context: Any) -> Iterator[tuple[str, help.Page]]:
    yield context.command_path, help.page_of(command, context)
    if not isinstance(command, help.Group):
        return
    for listed in command.listed(context):
        inner: Any = command.get_command(context, listed.name)
        made = inner.make_context(listed.name, [], parent=context, resilient_parsing=True)
        yield from _pages(inner, made)


def _commands() -> str:
    """Return a section for each command; options that all have stand in that of the root."""
    pages = [*command_pages()]
    common = {
        row for heading, rows in pages[0][1].sections if heading == help.GENERAL for row in rows
    }
    lines = [*_command(*pages[0], common=set())]
    for path, page in pages[1:]:
        lines += _command(path, page, common=common)
    return "\n".join(lines)


def _command(path: str, page: help.Page, *, common: set[help.Row]) -> Iterator[str]:
    level = "##" if path.count(" ") <= 1 else "###"
    yield from (f"{level} {path}", "", "```text", page.usage, "```", "")
    for paragraph in page.description:
        yield from (_plain(paragraph), "")
    if page.example:
        yield from ("```sh", *page.example, "```", "")
    for heading, rows in page.sections:
        if its_own := [row for row in rows if row not in common]:
            yield from (f"**{heading}**", "", "| name | meaning |", "|---|---|")
            yield from (f"| `{name.strip()}` | {_plain(text)} |" for name, text in its_own)
            yield ""


def _plain(text: str) -> str:
    """Return a text that Markdown shows as it stands."""
    return re.sub(r"([<>*_\[\]#|])", r"\\\1", text)


def _settings() -> str:
    """Return a table of the settings of a queue, with their defaults and bounds."""
    texts = _texts_of_settings()
    rows = ["| setting | default | bounds | meaning |", "|---|---|---|---|"]
    for name, field in zip(OPTIONS, SETTINGS, strict=True):
        setting = SETTINGS[field]
        default = _value(setting, getattr(QueueSettings(), field))
        text = _plain(texts.get(name, "Whether nothing is received."))
        rows.append(f"| `{name}` | {default} | {_bounds(setting)} | {text} |")
    return "\n".join(rows)


def _texts_of_settings() -> dict[str, str]:
    """Return the descriptions of the settings, which are options of `queue create`."""
    pages = dict(command_pages())
    rows = [row for _, rows in pages["durableq queue create"].sections for row in rows]
    found = {}
    for names, text in rows:
        if option := re.search(r"--([\w-]+)", names):
            found[option[1].replace("-", "_")] = text.partition(" [default:")[0]
    return found


def _value(setting: Setting, value: float) -> str:
    if setting.can_be_off and value == 0:
        return "off"
    if setting.kind is Kind.SWITCH:
        return "on" if value else "off"
    if setting.kind is Kind.CHOICE:
        return f"`{setting.names[int(value)]}`"
    if setting.kind is Kind.TIME:
        return f"{value / DAY_MS:,.15g} d" if value >= DAY_MS else f"{value / SECOND_MS:,.15g} s"
    return f"{value:,.0f}" if value >= 1 or not value else f"{value:.6f}".rstrip("0").rstrip(".")


def _bounds(setting: Setting) -> str:
    if setting.kind is Kind.SWITCH:
        return "on, off"
    if setting.kind is Kind.CHOICE:
        return ", ".join(f"`{name}`" for name in setting.names)
    bounds = f"{_value(setting, setting.least)} to {_value(setting, setting.most)}"
    if setting.most == MANY:
        bounds = f"at least {_value(setting, setting.least)}"
    return f"{bounds}, or off" if setting.can_be_off else bounds


def _sentences(kind: type[Event] | type[Reason]) -> str:
    rows = ["| value | meaning |", "|---|---|"]
    return "\n".join([*rows, *(f"| `{each.value}` | {each.sentence} |" for each in kind)])


def _other_names() -> str:
    """Return directives for the public names that no page of the reference has."""
    named = {name for page in PAGES.glob("*.md") for name in _OBJECT.findall(page.read_text())}
    return "\n\n".join(f"::: durableq.{name}" for name in durableq.__all__ if name not in named)


PARTS: Final[dict[str, Callable[[], str]]] = {
    "commands": _commands,
    "settings": _settings,
    "events": lambda: _sentences(Event),
    "reasons": lambda: _sentences(Reason),
    "other names": _other_names,
    "json": json_names.page,
}
