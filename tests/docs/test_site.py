"""The site has every page, every public name, command and setting; broken links are found."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import durableq
from durableq.model.settings import OPTIONS
from durableq.model.states import Event, Reason
from scripts import build_docs, json_names, reference, site_links
from tests.cli.test_help import COMMANDS, GROUPS

ROOT = Path(__file__).resolve().parents[2]
#: Variables of durableq's own processes, which no user sets.
OWN_VARIABLES = {"_DURABLEQ_COMPLETE", "DURABLEQ_WORKER_URL"}
#: Packages whose variables their processes set for each other.
OWN_PACKAGES = {"bench", "demo", "testing"}
#: Commands that are not listed in their groups: former names.
FORMER = {"dlq moves"}


class Staged:
    """The pages as they are built, and their navigation."""

    def __init__(self, folder: Path) -> None:
        self.config: dict[str, Any] = tomllib.loads(build_docs.Staging(folder).write().read_text())[
            "project"
        ]
        self.pages = folder / "pages"

    def text(self, page: str) -> str:
        return (self.pages / page).read_text()


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Staged:
    return Staged(tmp_path_factory.mktemp("site"))


def pages_in(navigation: Any) -> Iterator[str]:
    if isinstance(navigation, str):
        yield navigation
        return
    for entry in navigation.values() if isinstance(navigation, dict) else navigation:
        yield from pages_in(entry)


def test_the_navigation_has_every_page_once(staged: Staged) -> None:
    every = {str(page.relative_to(staged.pages)) for page in staged.pages.rglob("*.md")}
    pages = sorted(page for page in every if not page.startswith(f"{build_docs.FILES}/"))
    assert sorted(pages_in(staged.config["nav"])) == pages
    assert {f"{page.relative_to(ROOT / 'docs')}" for page in (ROOT / "docs").glob("*.md")} < {
        *pages
    }


def test_a_page_that_the_navigation_does_not_name_is_a_guide(staged: Staged) -> None:
    named = {page for pages in build_docs.NAVIGATION.values() for page in pages}
    (guides,) = [
        entry[build_docs.GUIDES] for entry in staged.config["nav"] if build_docs.GUIDES in entry
    ]
    others = {page for page in pages_in(staged.config["nav"]) if "/" not in page} - named
    assert others <= set(guides)


def test_no_mark_is_left_and_none_is_unknown(staged: Staged) -> None:
    for page in staged.pages.rglob("*.md"):
        assert "\n<!-- generated" not in page.read_text(), page
    with pytest.raises(KeyError):
        reference.filled("<!-- generated: nothing -->")


def test_every_command_has_a_heading_and_its_options(staged: Staged) -> None:
    headings = set(re.findall(r"^###? durableq (.+)$", staged.text("reference/COMMANDS.md"), re.M))
    assert headings == ({*COMMANDS} - FORMER) | {*GROUPS}
    pages = dict(reference.command_pages())
    shown = staged.text("reference/COMMANDS.md")
    for page in pages.values():
        for heading, rows in page.sections:
            for name, _ in rows:
                assert f"| `{name.strip()}` |" in shown, (heading, name)


def test_every_setting_and_event_is_in_its_table(staged: Staged) -> None:
    settings = re.findall(r"^\| `(\w+)` \|", staged.text("reference/SETTINGS.md"), re.M)
    assert [name for name in settings if name.islower()] == [*OPTIONS]
    events = re.findall(r"^\| `(\w+)` \|", staged.text("reference/EVENTS.md"), re.M)
    assert events == [each.value for kind in (Event, Reason) for each in kind]


def test_the_names_in_json_are_those_that_commands_print(staged: Staged) -> None:
    sections = staged.text("reference/JSON.md").split("\n### ")[1:]
    assert [section.partition("\n")[0] for section in sections] == [*json_names.COMMANDS]
    assert all("\n`schema`, " in section for section in sections)
    assert "`queues[]` (`name`, `dead_letter_queue`, `counts` (`ready`, " in sections[0]


def test_every_public_name_is_on_one_page(staged: Staged) -> None:
    found = [
        name
        for page in (staged.pages / "reference").glob("*.md")
        for name in re.findall(r"^::: durableq\.(\w+)$", page.read_text(), re.M)
    ]
    assert sorted(found) == sorted(durableq.__all__)


def test_every_variable_of_the_environment_is_described() -> None:
    pages = "".join(page.read_text() for page in (ROOT / "docs").rglob("*.md"))
    for module in (ROOT / "durableq").rglob("*.py"):
        if module.relative_to(ROOT / "durableq").parts[0] in OWN_PACKAGES:
            continue
        for name in re.findall(r'"(_?DURABLEQ_[A-Z_]+)"', module.read_text()):
            assert name in OWN_VARIABLES or name in pages, f"{module.name}: {name}"


def test_links_out_of_the_docs_lead_to_copies(staged: Staged) -> None:
    assert "](CHANGELOG.md)" in staged.text("OPERATIONS.md")
    for page in staged.pages.rglob("*.md"):
        for target in re.findall(r"\]\(([^)#:\s]+)\)", page.read_text()):
            file = (page.parent / target).resolve()
            assert file.is_relative_to(staged.pages.resolve()), (page, target)
            assert file.is_file(), (page, target)


def test_diagrams_are_tables(staged: Staged) -> None:
    assert "mermaid" not in staged.text("DESIGN.md")
    label = "receive / lease_again (by the receipt of its last receive)"
    assert f"\n| ready | in_flight | {label} |\n" in staged.text("DESIGN.md")


PAGE = """\
<link rel="stylesheet" href="style.css"><h1 id="top">A</h1>
<a href="#top">up</a> <a href="https://example.org/">out</a> <a href="b.html#here">b</a>
"""


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('<a href="c.html">c</a>', "a.html: c.html leads to no file"),
        ('<a href="#down">d</a>', "a.html: #down leads to no place in that page"),
        ('<a href="b.html#there">b</a>', "a.html: b.html#there leads to no place in that page"),
        ('<img src="no.png">', "a.html: no.png leads to no file"),
        (
            '<script src="https://example.org/x.js"></script>',
            "a.html: https://example.org/x.js is loaded from another server",
        ),
        (
            '<link rel="stylesheet" href="//example.org/font.css">',
            "a.html: //example.org/font.css is loaded from another server",
        ),
    ],
)
def test_a_broken_link_and_a_foreign_script_are_found(
    tmp_path: Path, line: str, problem: str
) -> None:
    (tmp_path / "style.css").touch()
    (tmp_path / "b.html").write_text('<p id="here">')
    (tmp_path / "a.html").write_text(PAGE)
    assert [*site_links.problems(tmp_path)] == []
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "b.html").write_text('<p id="here">')
    (tmp_path / "d" / "style.css").touch()
    (tmp_path / "d" / "a.html").write_text(PAGE + line)
    assert [*site_links.problems(tmp_path)] == [f"d/{problem}"]
