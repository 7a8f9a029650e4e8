"""Build the documentation as a site, strictly: a warning, a broken link or anchor ends the build.

python -m scripts.build_docs          write build/docs/site

The pages of docs/ stay where they are, and link to each other as files. A copy of them is built, in
which links to files outside docs/ lead to copies of these files, and the parts that the code knows
(commands, settings, events) are filled in. A page that NAVIGATION does not name is a how-to guide.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from scripts import reference, site_links

ROOT: Final = Path(__file__).resolve().parents[1]
DOCS: Final = ROOT / "docs"
BUILD: Final = ROOT / "build" / "docs"
ICON: Final = ROOT / "durableq" / "dashboard" / "static" / "icon.svg"
#: Pages that stand beside docs/.
BESIDE: Final = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
#: Folder of the site for copies of files that are not in docs/.
FILES: Final = "files"
GUIDES: Final = "How-to guides"
DECISIONS: Final = "decisions/index.md"  # is made: a list of them
#: The sections of the site, with their pages in order; one that does not exist is left out.
NAVIGATION: Final = {
    "Start": ("index.md",),
    "Tutorial": ("TUTORIAL.md",),
    GUIDES: (
        "WEB_FRAMEWORKS.md",
        "ASYNCIO.md",
        "TESTING.md",
        "SCHEDULES.md",
        "COMING_FROM_CELERY.md",
        "FLOW_CONTROL.md",
        "RECOVERY.md",
        "OPERATIONS.md",
        "DEPLOYMENT.md",
        "DASHBOARD.md",
        "METRICS.md",
        "TRACING.md",
        "POSTGRESQL.md",
        "MOVING.md",
        "SQS.md",
        "AWS_LAMBDA.md",
        "DYNAMODB.md",
    ),
    "Reference": (
        "reference/API.md",
        "reference/ERRORS.md",
        "reference/CONTRIB.md",
        "reference/COMMANDS.md",
        "reference/SETTINGS.md",
        "reference/EVENTS.md",
        "reference/JSON.md",
        "GLOSSARY.md",
    ),
    "Explanation": ("GUARANTEES.md", "DESIGN.md", "PERFORMANCE.md", DECISIONS),
    "Project": BESIDE,
}
_LINK: Final = re.compile(r"(\]\()([^)\s#]+)(#[^)\s]*)?(\))")
_MERMAID: Final = re.compile(r"```mermaid\nstateDiagram-v2\n(.*?)```", re.DOTALL)
_EDGE: Final = re.compile(r"^ *(\S+) --> (\S+): (.*)$", re.MULTILINE)


def main() -> int:
    """Build the site; return the exit code."""
    shutil.rmtree(BUILD, ignore_errors=True)
    config = Staging(BUILD).write()
    program = Path(sys.executable).with_name("zensical")
    command = [str(program), "build", "--strict", "--config-file", str(config)]
    if code := subprocess.run(command, cwd=BUILD, check=False).returncode:
        return code
    site = BUILD / "site"
    found = [*site_links.problems(site)]
    for problem in found:
        print(problem, file=sys.stderr)
    print(f"{site.relative_to(ROOT)}/index.html: {len(found)} broken links")
    return 1 if found else 0


class Staging:
    """The pages that are built, and the configuration of the builder, in a folder."""

    def __init__(self, build: Path) -> None:
        self._build = build
        self._pages = build / "pages"

    def write(self) -> Path:
        """Write everything into the folder, and return the file of the configuration."""
        shutil.copytree(DOCS, self._pages)
        for name in BESIDE:
            if (ROOT / name).exists():
                shutil.copy2(ROOT / name, self._pages / name)
        shutil.copy2(ICON, self._pages / "site" / ICON.name)
        (self._pages / "decisions" / "index.md").write_text(_list_of_decisions())
        for page in sorted(self._pages.rglob("*.md")):
            page.write_text(self._finished(page))
        settings = self._pages / "site" / "zensical.toml"
        config = self._build / settings.name
        head = f"[project]\n{self._navigation()}"
        config.write_text(settings.read_text().replace("[project]\n", head, 1))
        settings.unlink()
        return config

    def _finished(self, page: Path) -> str:
        """Return the text of a page with its generated parts, and with links that the site has."""
        name = page.relative_to(self._pages)
        source = ROOT / name if str(name) in BESIDE else DOCS / name
        text = _MERMAID.sub(_edges, reference.filled(page.read_text()))
        return _LINK.sub(lambda link: self._lead(link, page, source), text)

    def _lead(self, link: re.Match[str], page: Path, source: Path) -> str:
        """Return a link to a file of the repository as one to its place in the site."""
        before, target, anchor, after = link.groups(default="")
        file = (source.parent / target).resolve()
        if not file.exists():
            return link[0]  # a URL, or broken, which the builder says
        place = self._place(file)
        return f"{before}{os.path.relpath(place, page.parent)}{anchor}{after}"

    def _place(self, file: Path) -> Path:
        """Return where a file of the repository stands among the pages; copy it if it does not."""
        if file == DOCS / "decisions":
            return self._pages / "decisions" / "index.md"
        if file == ROOT / "README.md":
            return self._pages / "index.md"
        if file.is_relative_to(DOCS):
            return self._pages / file.relative_to(DOCS)
        name = os.path.relpath(file, ROOT)
        if name in BESIDE:
            return self._pages / name
        copy = self._pages / FILES / name
        if name.startswith(".."):
            return copy  # is not there, which the check of links says
        copy.parent.mkdir(parents=True, exist_ok=True)
        if file.is_file():
            shutil.copy2(file, copy)
            return copy
        shutil.copytree(file, copy, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.md"))
        listed = sorted(str(each.relative_to(copy)) for each in copy.rglob("*") if each.is_file())
        lines = [f"# {name}", "", *(f"* [{each}]({each})" for each in listed)]
        (copy / "index.md").write_text("\n".join([*lines, ""]))
        return copy / "index.md"

    def _navigation(self) -> str:
        """Return the navigation as the configuration writes it."""
        found = {str(page.relative_to(self._pages)) for page in self._pages.rglob("*.md")}
        found = {page for page in found if not page.startswith(f"{FILES}/")}
        decisions = sorted(page for page in found if page.startswith("decisions/0"))
        others = sorted(found - {*decisions, *itertools.chain(*NAVIGATION.values())})
        lines = ["nav = ["]
        for heading, pages in NAVIGATION.items():
            named = (*pages, *others) if heading == GUIDES else pages
            entries = [json.dumps(page) for page in named if page in found]
            if not entries:
                continue
            if DECISIONS in named:
                inner = ", ".join(json.dumps(page) for page in (DECISIONS, *decisions))
                entries[-1] = f"{{ Decisions = [{inner}] }}"
            listed = f"[{', '.join(entries)}]" if len(named) > 1 else entries[0]
            lines.append(f"  {{ {json.dumps(heading)} = {listed} }},")
        return "\n".join([*lines, "]", ""])


def _edges(diagram: re.Match[str]) -> str:
    """Return a diagram of states as a table: drawing it in a browser would take a library."""
    rows = ["| from | to | by |", "|---|---|---|"]
    for begin, end, by in _EDGE.findall(diagram[1]):
        rows.append(f"| {begin.strip('[]*')} | {end.strip('[]*')} | {by} |")
    return "\n".join(rows)


def _list_of_decisions() -> str:
    lines = ["# Decisions", "", "Each says what was decided, why, and what was left aside.", ""]
    for page in sorted((DOCS / "decisions").glob("0*.md")):
        title = page.read_text().partition("\n")[0].removeprefix("# ")
        lines.append(f"* [{title}]({page.name})")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.exit(main())
