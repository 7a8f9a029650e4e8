"""The README works as written: its code runs, its sessions run, its diagram is today's."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from scripts import draw_diagram
from tests.engine import plain
from tests.support import scaled, wait_for

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]

pytestmark = pytest.mark.xdist_group("readme")  # one process runs the sessions, once


def python_blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def sessions() -> list[list[str]]:
    """The commands of every console block, in the order of the page."""
    blocks = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    return [[line[2:] for line in block.splitlines() if line.startswith("$ ")] for block in blocks]


class Shell:
    """One shell in one folder, with its output by command."""

    def __init__(self, folder: Path) -> None:
        environment = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            # Where the tests keep bytecode, or beside the sources, as for every process.
            "PYTHONPYCACHEPREFIX": os.environ.get("PYTHONPYCACHEPREFIX", ""),
        }
        self.folder = folder
        self.said: dict[str, str] = {}
        self.sessions_typed = 0
        self._lasting: list[str] = []
        self._bash = subprocess.Popen(
            ["bash", "--norc"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, command: str) -> str:
        """Run a command that must succeed; return its output."""
        self._type(f"{{ {command}\n}} </dev/null; echo $'\\n'@@ $?\n")
        said = "".join(iter(self._line, "@@ 0\n"))
        self.said[command.partition("  #")[0].strip()] = said
        return said

    def start(self, command: str) -> None:
        """Start a long-running command, as in another terminal."""
        name = f"p{len(self._lasting)}"
        self._type(f"{command.partition('  #')[0]} > {name}.out 2>&1 & {name}=$!\n")
        self._lasting.append(name)

    def stop_all(self) -> None:
        """Stop the long-running commands; each must end with 0."""
        for name in self._lasting:
            self.run(f"kill -TERM ${name}; wait ${name}")
        self._lasting.clear()

    def close(self) -> None:
        self._type("kill $(jobs -p) 2>/dev/null; exit\n")
        self._bash.wait(scaled(20))
        for stream in (self._bash.stdin, self._bash.stdout):
            if stream is not None:
                stream.close()

    def _type(self, text: str) -> None:
        assert self._bash.stdin is not None
        self._bash.stdin.write(text)
        self._bash.stdin.flush()

    def _line(self) -> str:
        assert self._bash.stdout is not None
        line = self._bash.stdout.readline()
        assert line, "the shell ended"
        assert not re.match(r"@@ [1-9]", line), f"failed after {self.said}"
        return line


# Other tests run these: tests/process/test_demo.py, test_spike.py and tests/chaos/test_run.py.
RUN_ELSEWHERE = {"make run", "make chaos", "durableq demo --spike"}
LASTING = (
    "durableq work --procs 4     ",
    "durableq recover            ",
    "durableq work --procs 4 --app shop:dq --timeout",
)


def messages(db: Path) -> list[tuple[int, bool]]:
    """Return the id of each message in a file, and whether it is dead."""
    if not db.exists():
        return []
    sql = "SELECT id, source_queue_id IS NOT NULL FROM durableq_message ORDER BY id"
    return [(number, bool(dead)) for number, dead in plain.rows(db, sql)]


def all_settled(shell: Shell) -> bool:
    return messages(shell.folder / "durableq.db") == [] and (
        messages(shell.folder / "shop.db") in ([], [(2, True)])
    )


@pytest.fixture(scope="module")
def typed() -> Iterator[Shell]:
    """A shell in a folder with the files of the page, in memory where possible."""
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with TemporaryDirectory(dir=memory) as name:
        folder = Path(name)
        for file, block in zip(("places.py", "shop.py"), python_blocks(), strict=True):
            (folder / file).write_text(block)
        (policy,) = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
        (folder / "recovery.toml").write_text(policy)
        shell = Shell(folder)
        try:
            yield shell
        finally:
            shell.close()


def up_to(shell: Shell, command: str) -> Shell:
    """Run the page's sessions up to the one with this command, each once."""
    pages = sessions()
    last = next(number for number, page in enumerate(pages) if any(command in c for c in page))
    while shell.sessions_typed <= last:
        page = pages[shell.sessions_typed]
        shell.sessions_typed += 1
        for line in page:
            if line.startswith(LASTING):
                shell.start(line)
            elif line not in RUN_ELSEWHERE:
                shell.run(line)
        if any(line.startswith(LASTING) for line in page):
            wait_for(lambda: all_settled(shell), seconds=90, what="idle workers")
            db = "shop.db" if (shell.folder / "shop.db").exists() else "durableq.db"
            shell.said[f"status of {db}"] = shell.run(f"durableq status --db {db}")
            shell.stop_all()
    return shell


def test_the_diagram_is_drawn_from_todays_edges() -> None:
    for page in draw_diagram.PAGES:
        text = page.read_text()
        assert "```mermaid" in text
        assert draw_diagram.drawn(text) == text, "run: python scripts/draw_diagram.py"


def test_the_tour_ends_with_every_order_settled_in_the_default_file(typed: Shell) -> None:
    shell = up_to(typed, "durableq show 8")
    assert messages(shell.folder / "durableq.db") == []
    assert plain.counters(shell.folder / "durableq.db", "orders")["sent"] >= 200
    assert "failed" in shell.said["durableq show 8"]


def places(shell: Shell) -> tuple[int, int, int]:
    """Return the rows and codes in the reader's own table, and the number of duplicates."""
    db = shell.folder / "places.db"
    ((rows, codes),) = plain.rows(db, "SELECT count(*), count(DISTINCT code) FROM place")
    return rows, codes, plain.counters(db, "places")["duplicates"]


def test_the_real_records_are_handled(typed: Shell) -> None:
    shell = up_to(typed, "durableq queue create places")
    records = (shell.folder / "places.jsonl").read_text().count("\n")
    assert records >= 3000
    assert places(shell)[:2] == (records, records)


def test_the_same_records_again_add_nothing(typed: Shell) -> None:
    up_to(typed, "durableq queue create places")
    shell = up_to(typed, "python shop.py")
    records = (shell.folder / "places.jsonl").read_text().count("\n")
    assert places(shell) == (records, records, records)


def test_the_shops_orders_are_charged(typed: Shell) -> None:
    shell = up_to(typed, "durableq work --procs 4 --app shop")
    db = shell.folder / "shop.db"
    assert plain.rows(db, "SELECT count(*), sum(amount) FROM ledger") == [(101, 120 + 100 * 5)]
    counters = plain.counters(db, "receipts")
    assert (counters["sent"], counters["completed"]) == (101, 101)


def test_the_operator_looks_at_the_shop_and_redrives_its_dead_letter(typed: Shell) -> None:
    shell = up_to(typed, "durableq backup copy.db")
    assert "dead" in shell.said["durableq explain 2"]
    assert "KeyError: 'amount'" in shell.said["durableq show 2"]
    (redrive,) = [command for command in shell.said if "dlq redrive" in command]
    assert redrive.rpartition(" ")[2] in shell.said["durableq dlq groups"]
    assert (shell.folder / "copy.db").exists()
    assert not plain.column(
        shell.folder / "durableq.db", "SELECT name FROM durableq_queue WHERE paused = 1"
    )


def test_the_policy_of_the_page_discards_the_order_without_an_amount(typed: Shell) -> None:
    shell = up_to(typed, "recovery.toml --once")
    assert "not an order" in shell.said["durableq dlq explain 2 --policy recovery.toml"]
    db = shell.folder / "shop.db"
    assert messages(db) == []
    assert plain.counters(db, "orders-dlq")["discarded"] == 1


def test_the_table_that_is_shown_has_todays_columns(typed: Shell) -> None:
    shell = up_to(typed, "recovery.toml --once")
    shown = [line.split() for line in README.splitlines() if line.startswith(("QUEUE ", "WORKER "))]
    printed = [line.split() for line in shell.said["status of shop.db"].splitlines()]
    for words in shown:
        assert [word for word in words if word != "OUT"] in printed  # the curve of --watch


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"
