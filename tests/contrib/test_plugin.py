"""The plugin in a user's own pytest: it is found, isolates tests, and costs nothing when unused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.contrib.running import run_pytest

SHOP = """
from durableq import DurableQ

dq = DurableQ("shop.db")
orders = dq.queue("orders")
handled = []

@dq.handler("orders")
def handle(message):
    if message.body == "bad":
        raise ValueError("a bad order")
    handled.append(message.body)
"""

TESTS = """
import pytest
from durableq.contrib.pytest import Ran, assert_sent, crash_at, run_pending, sent
from shop import dq, handled, orders

@pytest.fixture(autouse=True)
def fresh_shop(durableq_app):
    durableq_app(dq)
    handled.clear()

@pytest.mark.parametrize("number", range(6))
def test_a_store_is_fresh(number):
    assert sent(orders) == []
    orders.send(number, key="the same")
    assert run_pending(dq) == Ran(completed=1)
    assert handled == [number]

def test_the_clock_is_the_one_of_the_store(durableq_clock):
    orders.send(1, delay=3600)
    assert run_pending(dq) == Ran()
    durableq_clock.advance(hours=1)
    assert run_pending(dq) == Ran(completed=1)

@pytest.mark.durableq(store="file")
def test_a_file_on_demand():
    assert dq.url.startswith("sqlite:///")
    orders.send(1)
    with crash_at("before handler", reclaim=True):
        run_pending(dq)
    assert run_pending(dq) == Ran(completed=1)
"""

FAILING = """
import pytest
from durableq.contrib.pytest import assert_sent, crash_at, run_pending
from shop import dq, orders

@pytest.fixture(autouse=True)
def fresh_shop(durableq_app):
    durableq_app(dq)

def test_sent():
    orders.send({"order": 7})
    assert_sent(orders, {"order": 8})

def test_raised():
    orders.send("bad")
    run_pending(dq, raises=True)

@pytest.mark.durableq(store="disk")
def test_marked():
    orders.send(1)
"""

#: Prints the modules that a run has loaded.
LISTING = """
import json, sys

def pytest_unconfigure():
    print("MODULES", json.dumps(sorted(sys.modules)))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "test_shop.py").write_text(TESTS)
    return tmp_path


@pytest.mark.parametrize("options", [[], ["-n", "2"], ["--strict-markers", "-p", "no:xdist"]])
def test_a_users_tests_pass_with_the_plugin_alone(folder: Path, options: list[str]) -> None:
    ran = run_pytest(folder, *options)
    assert "8 passed" in ran.stdout, ran.stdout + ran.stderr
    assert not (folder / "shop.db").exists()


def test_the_plugin_may_be_named_too(folder: Path) -> None:
    (folder / "conftest.py").write_text('pytest_plugins = ["durableq.contrib.pytest"]\n')
    ran = run_pytest(folder, "-p", "durableq.contrib.pytest", "-k", "file")
    assert "1 passed" in ran.stdout, ran.stdout + ran.stderr


def test_failures_are_shown_where_the_user_looks(folder: Path) -> None:
    (folder / "test_failing.py").write_text(FAILING)
    ran = run_pytest(folder, "test_failing.py", "--tb=short")
    assert "2 failed, 1 error" in ran.stdout, ran.stdout + ran.stderr
    assert re.search(r"test_failing\.py:\d+: in test_sent\n", ran.stdout)
    assert '-   "order": 8' in ran.stdout
    assert "sends.py" not in ran.stdout, "the traceback ends in the test"
    assert re.search(r"shop\.py:\d+: in handle\n", ran.stdout)
    assert 'A fresh store is "memory" or "file", got' in ran.stdout


def test_an_application_that_was_opened_by_an_import_is_named(folder: Path) -> None:
    with (folder / "shop.py").open("a") as file:
        file.write("\norders.send('at import')\ndq.close\n")
    ran = run_pytest(folder, "-k", "file")
    assert "shop.db is open already in this process" in ran.stdout
    assert 'do that under `if __name__ == "__main__":`' in ran.stdout


def modules(folder: Path, *options: str) -> set[str]:
    ran = run_pytest(folder, *options, "test_nothing.py")
    assert "1 passed" in ran.stdout, ran.stdout + ran.stderr
    listed = re.search(r"MODULES (.*)", ran.stdout)
    assert listed is not None
    return set(json.loads(listed[1]))


def test_the_plugin_loads_nothing_until_it_is_used(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(LISTING)
    (tmp_path / "test_nothing.py").write_text("def test_nothing(): pass\n")
    without = modules(tmp_path, "-p", "no:durableq.contrib.pytest")
    loaded = modules(tmp_path) - without
    assert {name for name in loaded if name.startswith("durableq")} == {
        *("durableq", "durableq.contrib", "durableq.contrib.pytest"),
        *("durableq.runtime", "durableq.runtime.signals", "durableq.runtime.startup"),
    }
    assert {name.partition(".")[0] for name in loaded} <= {"durableq", "signal"}
    assert not {name for name in without if name.startswith("durableq")}


def test_the_fixtures_and_the_marker_are_listed(tmp_path: Path) -> None:
    ran = run_pytest(tmp_path, "--fixtures")
    assert "durableq_app" in ran.stdout
    assert "Give an application a fresh store for this test" in ran.stdout
    assert "durableq_clock" in ran.stdout
    assert "@pytest.mark.durableq(store=" in run_pytest(tmp_path, "--markers").stdout
