"""Fixtures that start processes run once: pytest-xdist gives their tests to one worker."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.house.tree import Function, modules

#: Functions that start processes.
STARTS_PROCESSES = {
    *("subprocess.Popen", "subprocess.run", "show.run", "postgres.Server"),
    *("Child", "Nursery", "Shell", "WarmProcess"),
}


def fixtures_that_start_processes_have_a_group(root: Path) -> Iterator[str]:
    """Find tests that use a module's fixture for processes without `xdist_group`.

    The fixture would run in each worker of pytest-xdist that gets one of these tests.
    """
    for module in modules(root, "tests"):
        functions = [node for node, _ in module.definitions() if isinstance(node, Function)]
        fixtures = {node.name for node in functions if is_module_fixture(node)}
        starting = {
            node.name
            for node in functions
            if node.name in fixtures and calls(node) & STARTS_PROCESSES
        }
        grouped = {
            ast.unparse(statement.targets[0])
            for statement in module.tree.body
            if isinstance(statement, ast.Assign) and "xdist_group" in ast.unparse(statement.value)
        }
        users = transitive_users(starting, functions)
        for node in functions:
            marks = {ast.unparse(mark) for mark in node.decorator_list} | {"pytestmark"}
            is_grouped = marks & grouped or any("xdist_group" in mark for mark in marks)
            if node.name in users and node.name.startswith("test_") and not is_grouped:
                yield module.at(node, f"{node.name} uses a fixture of processes without a group")


def is_module_fixture(function: Function) -> bool:
    marks = [ast.unparse(mark) for mark in function.decorator_list]
    return any("fixture" in mark and "scope='module'" in mark for mark in marks)


def calls(function: Function) -> set[str]:
    """Return the dotted names of the functions that a function calls."""
    return {ast.unparse(node.func) for node in ast.walk(function) if isinstance(node, ast.Call)}


def transitive_users(names: set[str], functions: list[Function]) -> set[str]:
    """Return the functions with a parameter of these names, or of such a function's name."""
    while True:
        users = names | {
            function.name
            for function in functions
            if names & {argument.arg for argument in function.args.args}
        }
        if users == names:
            return users
        names = users
