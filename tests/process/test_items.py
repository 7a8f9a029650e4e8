"""Processes that write the same items of one database, one of which is killed."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import pytest

from durableq import DurableQ
from tests.process.item_racers import TABLE
from tests.serve.items import Items, s
from tests.support import new_file, scaled

NUMBER = 60
PROCESSES = 4

pytestmark = pytest.mark.xdist_group("items")


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield str(new_file(tmp_path / "q.db"))
    else:
        yield request.getfixturevalue("postgres_tables_url")


def started(stack: ExitStack, url: str, name: str) -> "subprocess.Popen[str]":
    """Start a racer, and wait until it is ready."""
    command = [sys.executable, "-m", "tests.process.item_racers", url, "0", str(NUMBER), name]
    pipe = subprocess.PIPE
    made = stack.enter_context(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True))
    stack.callback(made.kill)
    assert stream(made.stdout).readline() == "ready\n"
    return made


def stream(given: IO[str] | None) -> IO[str]:
    """Return a pipe that is there."""
    assert given is not None
    return given


def test_of_racing_processes_one_puts_each_item_though_one_is_killed(url: str) -> None:
    with DurableQ(url) as dq, ExitStack() as stack:
        items = Items(dq, TABLE)
        items.create(TABLE)
        racers = {str(n): started(stack, url, str(n)) for n in range(PROCESSES)}
        for one in racers.values():
            stream(one.stdin).write("go\n")
            stream(one.stdin).flush()
        said = {name: [stream(racers[name].stdout).readline()] for name in ("0",)}
        for _ in range(NUMBER // 2):
            said["0"].append(stream(racers["0"].stdout).readline())
        racers["0"].kill()
        for name, one in racers.items():
            said.setdefault(name, []).extend(stream(one.stdout).read().splitlines())
            one.wait(scaled(60))
        told = won(said)
        for number in range(NUMBER):
            item = items.get(id=s(str(number)))
            assert item is not None
            winners = [name for name, numbers in told.items() if number in numbers]
            if winners:
                assert winners == [item["by"]["S"]], "exactly one has put it, and its item is there"
            else:
                assert item["by"]["S"] == "0", "only the killed process did not hear of its success"
        added = sum(line.strip() == "added" for lines in said.values() for line in lines)
        counted = int(items.get(id=s("counter"))["n"]["N"])
        assert added <= counted <= added + 1, "no count is lost, but for the killed process's"


def won(said: dict[str, list[str]]) -> dict[str, set[int]]:
    """Return the numbers that each process has put, as it said."""
    found: dict[str, set[int]] = {}
    for name, lines in said.items():
        words: list[Any] = [line.split() for line in lines]
        found[name] = {int(one[1]) for one in words if len(one) == 3 and one[2] == "True"}
    return found
