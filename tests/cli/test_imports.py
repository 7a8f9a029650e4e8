"""A command imports what it needs: the libraries that cost more than the command stay out."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import durableq.testing
from tests.cli.console import environment
from tests.support import scaled

PRINTING = "import sys; from durableq.cli import main; main(sys.argv[1:]); sys.stdout.flush(); "
MODULES = "print(*sorted(sys.modules), file=sys.stderr)"
SHOP = """
import sys
from durableq import DurableQ

dq = DurableQ("durableq.db")


@dq.handler("orders")
def handle(message):
    with open("modules", "w") as file:
        print(*sys.modules, file=file)
"""
#: Libraries that no command needs without more arguments.
HEAVY = {"sqlalchemy", "alembic", "pydantic", "rich", "importlib.metadata", "zipfile"}
#: For each command the further modules that stay out.
WITHOUT = {
    "--version": {"typer", "inspect", "logging", "durableq.cli.output", "durableq.store"},
    "--help": {"durableq.client", "durableq.store", "durableq.engines", "psutil", "pysqlite3"},
    "status": {"psutil", "regex", "asyncio", "durableq.demo", "durableq.worker"},
    "queue list": {"psutil", "regex", "asyncio", "durableq.demo", "durableq.worker"},
    "produce --count 2": {"psutil", "regex", "asyncio", "durableq.worker"},
}


def imported(program: str, *arguments: str, cwd: Path) -> set[str]:
    """Return the modules of a new process at its end."""
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
        timeout=scaled(60),
    )
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize("line", WITHOUT)
def test_a_command_does_not_import(line: str, tmp_path: Path) -> None:
    with durableq.DurableQ(tmp_path / "durableq.db") as dq:
        dq.init()
    found = imported(PRINTING + MODULES, *line.split(), cwd=tmp_path)
    assert "durableq.cli" in found
    assert not (HEAVY | WITHOUT[line]) & found


def test_a_new_file_imports_no_library_of_statements(tmp_path: Path) -> None:
    found = imported(PRINTING + MODULES, "init", cwd=tmp_path)
    assert "durableq.engines.sqlite.schema" in found
    assert not HEAVY & found


def test_the_package_alone_imports_little(tmp_path: Path) -> None:
    found = imported("import sys, durableq; " + MODULES, cwd=tmp_path)
    assert {name for name in found if name.startswith("durableq.")} == {
        "durableq.runtime",
        "durableq.runtime.signals",
        "durableq.runtime.startup",
    }


def test_an_application_that_runs_imports_no_sqlalchemy(tmp_path: Path) -> None:
    program = (
        "import sys; from durableq import DurableQ; dq = DurableQ('queue.db')\n"
        "orders = dq.queue('orders'); orders.send(1); (message,) = orders.receive()\n"
        "message.complete(); dq.close(); "
    )
    assert not HEAVY & imported(program + MODULES, cwd=tmp_path)


def test_chaos_does_not_need_pytest(tmp_path: Path) -> None:
    """An installation has none; and each process of a run would import the contract."""
    found = imported("import sys, durableq.testing.chaos.run; " + MODULES, cwd=tmp_path)
    assert not {"pytest", "durableq.testing.contract"} & found


def test_a_worker_does_not_import(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    with durableq.DurableQ(tmp_path / "durableq.db") as dq:
        dq.queue("orders").send(1)
    imported(PRINTING + MODULES, *["work", "--app", "shop:dq", "--drain"], cwd=tmp_path)
    found = set((tmp_path / "modules").read_text().split())
    assert "durableq.worker.worker" in found
    assert not (HEAVY | {"typer", "psutil", "regex", "durableq.cli"}) & found


@pytest.mark.parametrize("package", [durableq, durableq.testing], ids=lambda one: one.__name__)
def test_the_package_names_the_module_of_each_public_name(package: ModuleType) -> None:
    """Type checkers read the imports, the interpreter the mapping."""
    (block,) = (
        node for node in ast.parse(inspect.getsource(package)).body if isinstance(node, ast.If)
    )
    homes = {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert homes == package._HOMES
    assert sorted(homes) == sorted(package.__all__)
    for name in package.__all__:
        assert getattr(package, name) is not None
