"""The tutorial works as written, from an empty folder, and prints what it shows."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from durableq.cli import main
from tests.docs.tutorial import Command, File, Start, Step, Stop, Terminal, environment, steps
from tests.postgres import new_schema
from tests.support import wait_for

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "TUTORIAL.md").read_text()
SECTIONS = re.split(r"^(?=## )", PAGE, flags=re.MULTILINE)[1:]
TITLES = [section.partition("\n")[0].removeprefix("## ") for section in SECTIONS]
#: The address in the page; the test has another one.
SERVER = "postgresql://postgres:secret@localhost/postgres"

pytestmark = pytest.mark.xdist_group("tutorial")


class Reader:
    """A newcomer in an empty folder, who follows the page section by section."""

    def __init__(self, folder: Path, server: str) -> None:
        self.folder = folder
        self.server = server
        self.sections_read = 0
        #: All are made now: no test leaves one open that it has made.
        self.terminals = {
            name: Terminal(folder, environment())
            for name in ("", *(step.terminal for step in steps(PAGE) if isinstance(step, Start)))
        }
        self._busy: set[str] = set()

    def read(self, number: int) -> list[tuple[Command, list[str]]]:
        """Follow the page to the end of a section; return its commands, with what they printed."""
        printed = []
        while self.sections_read <= number:
            section = SECTIONS[self.sections_read]
            self.sections_read += 1
            printed = [done for step in steps(section) if (done := self._follow(step))]
        return printed

    def _follow(self, step: Step) -> tuple[Command, list[str]] | None:
        match step:
            case File(name, text):
                (self.folder / name).write_text(text)
            case Start(name, text):
                self.terminals[name].run("export DURABLEQ_DB=shop.db")
                self.terminals[name].start(self._typed(text))
                self._busy.add(name)
            case Stop(name):
                if name == "dashboard":
                    assert "orders" in self._first_page()
                assert self.terminals[name].interrupt() == 0
                self._busy.remove(name)
            case Command(text, _):
                self._wait_before(text)
                code, lines = self.terminals[""].run(self._typed(text))
                assert code == 0, (text, lines)
                return step, lines
        return None

    def _typed(self, command: str) -> str:
        """Return a command with the PID, port and address of this reader."""
        if command.startswith("kill -9 "):
            return f"kill -9 {self._pid_in_a_handler()}"
        if command.startswith("durableq dashboard "):
            return f"{command} --port 0 > dashboard.out"
        return command.replace(SERVER, self.server)

    def _wait_before(self, command: str) -> None:
        """Wait for what the page tells its readers to wait for."""
        if "workers" not in self._busy:
            return
        if command == "durableq status":
            wait_for(self._pid_in_a_handler, seconds=60, what="a worker in a handler")
        elif command == "durableq events":
            wait_for(self._has_an_event, seconds=60, what="the failure of a lost worker")
        elif command == "python ledger.py":
            wait_for(self._is_empty, seconds=90, what="an empty queue")
        elif command == "durableq dlq list":
            wait_for(lambda: self._orders()["dead"]["present"] == 2, seconds=60, what="the dead")

    def _asked(self, command: str) -> str:
        """Run a command that is not on the page here, as it is asked again and again."""
        with redirect_stdout(StringIO()) as said:
            assert main([command, "--db", str(self.folder / "shop.db"), "--json"]) == 0
        return said.getvalue()

    def _pid_in_a_handler(self) -> int | None:
        workers = json.loads(self._asked("status"))["workers"]
        return next((each["pid"] for each in workers if each["holding"]), None)

    def _has_an_event(self) -> bool:
        return "SIGKILL" in self._asked("events")

    def _orders(self) -> Any:
        queues = json.loads(self._asked("status"))["queues"]
        return next(each for each in queues if each["name"] == "orders")

    def _is_empty(self) -> bool:
        return not any(self._orders()["counts"].values())

    def _first_page(self) -> str:
        said = self.folder / "dashboard.out"
        url = wait_for(lambda: said.exists() and said.read_text(), seconds=60, what="its address")
        with urllib.request.urlopen(url.strip(), timeout=60) as answer:
            return str(answer.read(), "utf-8")

    def close(self) -> None:
        """End everything that runs."""
        for terminal in self.terminals.values():
            terminal.close()


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory, postgres_server: str) -> Iterator[Reader]:
    """A reader with an empty folder, and a database of a server."""
    with new_schema(postgres_server) as url:
        made = Reader(tmp_path_factory.mktemp("shop"), url)
        yield made
        made.close()


@pytest.mark.parametrize("title", TITLES)
def test_the_commands_of_a_section_print_the_output_it_shows(title: str, reader: Reader) -> None:
    for command, lines in reader.read(TITLES.index(title)):
        printed = words("\n".join(lines))
        shown = words("\n".join(command.shown))
        assert [word for word in shown if word not in printed] == [], (command.text, lines)


def words(text: str) -> list[str]:
    """Return the words of an output, in which numbers, times, paths and ids are alike.

    The place of a column, and the break of a line, depend on the width of numbers.
    """
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.+]+", "TIME", text)
    text = re.sub(r"\b[0-9a-f]{12,}\b", "ID", text)
    text = re.sub(r'"/[^"]*"', '"PATH"', text)  # a long one is cut anywhere, also in its name
    text = re.sub(r"[\d.,]*\d", "0", text)
    text = re.sub(r"\b0 (ms|s|min|h|d)\b", "0", text)
    return [word for word in text.split() if set(word) - set("^. -0")]


def test_words_are_alike_where_only_numbers_differ() -> None:
    assert words("w-1:81 2 min ago, 3 sent") == words("w-4:9 13 s ago, 120 sent")
    assert words("3 sent") != words("3 lost")


def test_the_extras_of_the_page_exist() -> None:
    extras = (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text()
    for extra in re.findall(r"durableq\[(\w+)\]", PAGE):
        assert f"\n{extra} = [" in extras
